"""The process of one step: `python -m backends.process.step_main STEP`.

It imports what the step needs, which takes seconds for TensorFlow and MLflow, and then reads the step's command from
standard input. If that ends without a command, the step is not needed, and the process ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from digits.settings import Settings

# Imported before the command is known. The other steps need only NumPy.
IMPORTS = {
    "train": ("digits.training.fit", "digits.training.export", "tf2onnx", "onnxruntime"),
    "evaluate": ("digits.evaluation.metrics", "digits.evaluation.report", "onnxruntime", "jinja2"),
    "publish": (
        "digits.release.mlflow_library",
        "digits.release.publish",
        "mlflow.onnx",
        "mlflow.store.model_registry.sqlalchemy_store",  # with the default address, of a database
        "mlflow.store.tracking.sqlalchemy_store",
        "onnx",
        "onnxruntime",
    ),
    "deploy": ("digits.release.deploy", "digits.release.golden"),
}


def main(step: str) -> None:
    """Run the step whose command and additional environment are on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # during an import it ends the process without a traceback
    from kfp.dsl import executor_main

    gc.disable()  # what is imported is no garbage, and looking for garbage in it takes a third of the time
    with contextlib.suppress(Exception):  # the step imports it again, and reports the error
        in_workers = step == "train" and Settings.load(dotenv=None).workers > 1  # they are processes of their own
        for module in ("digits.steps", *IMPORTS.get("" if in_workers else step, ("numpy",))):
            importlib.import_module(module)
    gc.freeze()
    gc.enable()
    request = sys.stdin.buffer.read()
    if not request:
        return
    command, environment = json.loads(request)
    os.environ.update(environment)
    start = command.index("--executor_input")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "ephemeral_component.py")
        program.write_text(command[start - 1])  # the last argument of kfp's shell is the component's source
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv[1:] = ["--component_module_path", str(program), *command[start:]]
        executor_main.executor_main()


if __name__ == "__main__":
    main(sys.argv[1])

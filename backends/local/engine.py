"""The child process that runs kfp.local for one run: `python -m backends.local.engine RUN_FOLDER`.

It is a separate process, because kfp.local keeps its configuration in a singleton, prints to standard output, and can
be stopped only by ending the process. It imports its libraries, which takes half a second, and reads variables of the
environment as one line of JSON from standard input. Then it reads run.json and appends to events.jsonl. When its parent
ends, its standard input closes, and it ends together with everything that it started.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any, cast

from backends import open_backend, runs
from backends.base import CANCELED
from backends.cached import record_mlflow
from backends.local.backend import LocalBackend
from backends.local.kfp_local import check_cache, guard_steps
from backends.local.mlflow_run import MlflowRun
from digits import events
from digits.files import write_json
from digits.release import mlflow_log
from digits.settings import Settings


def main(folder: Path) -> int:
    """Run the pipeline as run.json states. Returns 0; if the run fails, an exception ends the process.

    If the parent ends before it has sent the environment, nothing is run.
    """
    # Looking for garbage in what MLflow and kfp import takes a third of their time; this process makes little of it.
    gc.disable()
    run = runs.Run(folder)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = str(temporary)
    with contextlib.suppress(Exception):  # imported again below, where the error is reported
        _import_libraries()
    environment = sys.stdin.buffer.readline()
    if not environment:
        return 0
    os.environ.update(json.loads(environment))
    record = run.record()
    settings = Settings.load(dotenv=None).with_backend(record["backend"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    mlflow = MlflowRun(settings, run.id, record)
    status = mlflow_log.FAILED
    try:
        outputs, reachable = _run(run, record, settings, mlflow)
        write_json(folder / "result.json", outputs)
        status = mlflow_log.FINISHED
    except SystemExit:
        status = mlflow_log.KILLED
        raise
    except RuntimeError:  # kfp.local's error for a failed step, which has reported its cause
        raise
    except Exception:
        with events.reported(""):
            raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        canceled = run.record()["state"] == CANCELED  # written by the parent
        mlflow.end(mlflow_log.KILLED if canceled else status)
        shutil.rmtree(temporary, ignore_errors=True)
        gc.freeze()  # so that the end of the process does not look for garbage either
    record_mlflow(reachable, outputs["deployed"]["version"], outputs["published"]["version"])
    return 0


def _run(
    run: runs.Run, record: dict[str, Any], settings: Settings, mlflow: MlflowRun
) -> tuple[dict[str, Any], Settings]:
    """Run the pipeline to its end and copy its report.

    Return its outputs, and the settings by which this process reaches the object store.
    """
    _import_libraries()
    from kfp import local

    from pipeline import definition

    backend = cast(LocalBackend, open_backend(settings))
    parts = backend.engine_parts(run)
    root = settings.home / "pipeline"
    root.mkdir(parents=True, exist_ok=True)
    mlflow.folders = backend.step_folders()
    guard_steps(parts.start_step, run, mlflow)
    reachable = backend.host_settings()
    check_cache(reachable)
    local.init(
        runner=parts.runner,
        pipeline_root=str(root),
        workspace_root=str(run.folder / "workspace"),
        enable_caching=True,  # without the shared cache a run keeps its own results, so that it can be resumed
        cache_root=str(settings.home / record["cache_root"]),
    )
    pipeline = definition.build(parts.configure)
    # All parameters are passed, because to kfp.local's cache a default (3.0 when compiled) is not 3.
    defaults = {name: spec.default for name, spec in pipeline.component_spec.inputs.items()}
    outputs = pipeline(**defaults | record["parameters"]).outputs
    if "report" in outputs:
        shutil.copyfile(outputs["report"].path, run.folder / "report.html")
    return {name: value for name, value in outputs.items() if not hasattr(value, "path")}, reachable


def _import_libraries() -> None:
    # kfp imports its client of Kubeflow too, and with it Kubernetes' client. That takes as long as the rest of kfp.
    sys.modules["kfp.client"] = cast(types.ModuleType, types.SimpleNamespace(Client=None))
    importlib.import_module("kfp.local")
    importlib.import_module("pipeline.definition")


def _end_with_parent() -> None:
    """Wait until standard input closes, which happens when the parent ends, and end this process."""
    while os.read(0, 1):
        continue
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main(Path(sys.argv[1])))

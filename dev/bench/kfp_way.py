"""kfp.local's own way of running a pipeline, as its documentation shows it: the peer of our backends.

Each component names its `packages_to_install` (here: only those that it imports), and every step reinstalls them: in
a virtual environment ("venv", SubprocessRunner's default) or in a container of a plain Python image ("containers").
The step functions, data, seed and parameters are ours.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
STAND_IN = "digits-bench-python:3.11"
RUN_SECONDS = 3600

# What an author would list for each step; digits itself comes as a wheel.
PACKAGES = {
    "fetch_mnist": ["pillow", "scikit-learn", "scipy"],
    "collect_feedback": ["pillow", "scipy"],
    "prepare": [],
    "train": ["tensorflow", "keras", "onnx", "onnxruntime", "pillow", "tf2onnx", "scipy"],
    "evaluate": ["jinja2", "onnxruntime", "pillow"],
    "publish": ["jinja2", "mlflow", "onnx", "onnxruntime", "pillow"],
    "deploy": [],
}


def run(way: str, home: Path, data: str) -> dict[str, Any]:
    """Run the pipeline once, in "venv" or "containers". Return {"seconds": of all, "training_seconds", "release"}."""
    wheels = home / "pipeline" / "wheels"
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT], check=True, timeout=600)
    if way == "containers":
        base = os.environ.get("DIGITS_BASE_IMAGE") or "python:3.11"
        # A Debian root has no usable pip of its own, python:3.11 has one; with a virtual environment both do.
        text = f"FROM {base}\nRUN python3 -m venv /venv\nENV PATH=/venv/bin:$PATH\n"
        build = ["docker", "build", "--quiet", "--network", "host", "--tag", STAND_IN, "-"]
        subprocess.run(build, input=text.encode(), check=True, timeout=600, env=os.environ | {"DOCKER_BUILDKIT": "0"})
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "dev.bench.kfp_way", way, str(home), data],
        cwd=ROOT,
        stdout=sys.stderr,
        timeout=RUN_SECONDS,
        check=False,
    )
    if done.returncode:
        sys.exit(f"kfp.local's own way ({way}) failed; see above")
    answer: dict[str, Any] = json.loads((home / "answer.json").read_text())
    return answer | {"seconds": time.monotonic() - began}


def child(way: str, folder: str, data: str) -> None:
    """Run the definition with components that install their packages, in a separate process for kfp's singleton."""
    from kfp import dsl, local

    from backends.process import predictor
    from digits.settings import Settings
    from pipeline import components, definition

    home = Path(folder)
    root = home / "pipeline"
    # Only the pipeline's root is mounted, so everything must be in it.
    place = root / "data"
    if data:
        place.mkdir()
        for file in Path(data).iterdir():
            (place / file.name).write_bytes(file.read_bytes())
    settings = Settings(home=root / "home", data=str(place) if data else "", port=0, grpc_port=0)
    wheel = next((root / "wheels").glob("*.whl")).as_uri()
    for name, packages in PACKAGES.items():
        made = dsl.component(
            getattr(components, name).python_func,
            base_image=STAND_IN,
            packages_to_install=[f"digits @ {wheel}", *_pinned(packages)],
        )
        setattr(components, name, made)
    served = predictor.ensure(settings)
    try:
        environment = settings.environ() | {"DIGITS_ENDPOINT": served.url}
        if way == "containers":
            runner: Any = local.DockerRunner(network_mode="host", environment=environment | {"HOME": "/root"})
        else:
            os.environ.update(environment)
            runner = local.SubprocessRunner(use_venv=True)
        local.init(runner=runner, pipeline_root=str(root))
        outputs = definition.build()(
            dataset="mnist" if data else "sklearn-digits", min_accuracy=0.5, store=settings.store
        ).outputs
    finally:
        predictor.stop_all(settings)
    answer = {"training_seconds": outputs["trained"]["seconds"], "release": outputs["published"]["version"]}
    (home / "answer.json").write_text(json.dumps(answer))


def _pinned(packages: list[str]) -> list[str]:
    """Return the packages at the versions of our lock."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in packages]


if __name__ == "__main__":
    child(*sys.argv[1:])

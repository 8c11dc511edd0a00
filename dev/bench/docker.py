"""What containers cost: the docker backend against the process backend and against kfp.local's own way of containers.

    python -m dev.bench.docker [--data FOLDER] [--without-kfp]

Needs a Docker engine; images are built before anything is measured. kfp.local's way is what its documentation shows:
each component names its `packages_to_install` (here: only those that it imports) and a plain Python image, so that
every container installs them anew. The same step functions, data, seed and parameters in all three.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_SECONDS, LIMIT_TIMES = 15.0, 4.0
STAND_IN = "digits-bench-python:3.11"
RUN_SECONDS = 3600

# What an author would list for each step; digits itself comes as a wheel.
PACKAGES = {
    "fetch_mnist": ["pillow", "scikit-learn", "scipy"],
    "collect_feedback": ["pillow", "scipy"],
    "prepare": [],
    "train": ["tensorflow", "keras", "onnx", "onnxruntime", "tf2onnx", "scipy"],
    "evaluate": ["jinja2", "onnxruntime", "pillow"],
    "publish": ["jinja2", "mlflow", "onnx", "onnxruntime", "pillow"],
    "deploy": [],
}


def main() -> int:
    """Measure, print a table and one line of JSON; 1 if a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("DIGITS_DATA", ""), help="folder with MNIST's files")
    parser.add_argument("--without-kfp", action="store_true", help="leave kfp.local's own way out (it takes minutes)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="digits-bench-") as folder:
        _digits(Path(folder) / "docker", "images", "build", "steps", "predictor")
        found = {}
        for backend in ("process", "docker"):
            home = Path(folder) / backend
            data = ["--data", chosen.data] if chosen.data else ["--dataset", "sklearn-digits"]
            asked = ["run", "--backend", backend, *data, "--min-accuracy", "0.5"]
            try:
                # Once to warm up what a user's second run finds warm: page cache, predictor, MinIO.
                _digits(home, *asked)
                found[backend] = _digits(home, *asked, "--no-cache")
            finally:
                _digits(home, "clean", "--yes", "--all")
        if not chosen.without_kfp:
            found["kfp.local"] = _kfp_way(Path(folder) / "kfp", chosen.data)
    return _print(found)


def _print(found: dict[str, Any]) -> int:
    print(f"{'':<12}{'whole run':>12}{'training':>12}{'outside it':>12}")
    outside = {}
    for name, run in found.items():
        outside[name] = run["seconds"] - run["training_seconds"]
        print(f"{name:<12}{run['seconds']:>10.1f} s{run['training_seconds']:>10.1f} s{outside[name]:>10.1f} s")
    over = found["docker"]["seconds"] - found["process"]["seconds"]
    passed = over <= LIMIT_SECONDS
    print(f"docker over process: {over:.1f} s (at most {LIMIT_SECONDS:.0f})")
    answer = {"docker_over_process_seconds": over, "runs": found}
    if "kfp.local" in found:
        times = outside["kfp.local"] / outside["docker"]
        passed = passed and times >= LIMIT_TIMES
        print(f"kfp.local's own way takes {times:.1f} times as long outside training (at least {LIMIT_TIMES:.0f})")
        answer["kfp_times"] = times
    print(json.dumps(answer))
    return 0 if passed else 1


def _digits(home: Path, *arguments: str) -> dict[str, Any]:
    """Run a command; returns its JSON. `seconds` is the whole command's time as its user sees it."""
    home.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "digits", *arguments, "--json"],
        env=os.environ | {"DIGITS_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        check=True,
        timeout=RUN_SECONDS,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer | {"seconds": time.monotonic() - began}


def _kfp_way(home: Path, data: str) -> dict[str, Any]:
    """The same steps as kfp.local's documentation would have them run."""
    wheels = home / "pipeline" / "wheels"
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", wheels, ROOT], check=True, timeout=600)
    base = os.environ.get("DIGITS_BASE_IMAGE") or "python:3.11"
    # A Debian root has no usable pip of its own, python:3.11 has one; with a virtual environment both do.
    text = f"FROM {base}\nRUN python3 -m venv /venv\nENV PATH=/venv/bin:$PATH\n"
    build = ["docker", "build", "--quiet", "--network", "host", "--tag", STAND_IN, "-"]
    subprocess.run(build, input=text.encode(), check=True, timeout=600, env=os.environ | {"DOCKER_BUILDKIT": "0"})
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", f"from dev.bench.docker import kfp_child; kfp_child({str(home)!r}, {data!r})"],
        cwd=ROOT,
        stdout=sys.stderr,
        timeout=RUN_SECONDS,
        check=False,
    )
    if done.returncode:
        sys.exit("kfp.local's own way failed; see above")
    answer: dict[str, Any] = json.loads((home / "answer.json").read_text())
    return answer | {"seconds": time.monotonic() - began}


def kfp_child(folder: str, data: str) -> None:
    """Run the definition with components that install what they need; a process of its own for kfp's singleton."""
    from kfp import dsl, local

    from backends.local import endpoint
    from digits.settings import Settings
    from pipeline import components, definition

    home = Path(folder)
    root = home / "pipeline"
    # Only the pipeline's root is mounted, so everything has to lie in it.
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
    served = endpoint.ensure(settings)
    try:
        local.init(
            runner=local.DockerRunner(
                network_mode="host",
                environment=settings.environ() | {"DIGITS_ENDPOINT": served.url, "HOME": "/root"},
            ),
            pipeline_root=str(root),
        )
        outputs = definition.build()(
            dataset="mnist" if data else "sklearn-digits", min_accuracy=0.5, store=settings.store
        ).outputs
    finally:
        endpoint.stop(settings)
    answer = {"training_seconds": outputs["trained"]["seconds"], "release": outputs["published"]["version"]}
    (home / "answer.json").write_text(json.dumps(answer))


def _pinned(packages: list[str]) -> list[str]:
    """The packages at the versions of our lock."""
    import importlib.metadata

    return [f"{name}=={importlib.metadata.version(name)}" for name in packages]


if __name__ == "__main__":
    sys.exit(main())

"""Measure the cost of containers: the docker backend, the process backend, and kfp.local's own containers.

    python -m dev.bench.docker [--data FOLDER] [--without-kfp]

Needs a Docker engine; images are built before anything is measured. kfp.local's way: see `dev.bench.kfp_way`. The same
step functions, data, seed and parameters in all three.
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

from dev.bench import kfp_way

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT_SECONDS, LIMIT_TIMES = 15.0, 4.0
RUN_SECONDS = 3600


def main() -> int:
    """Measure, and print a table and one line of JSON. Return 1 if a limit is missed."""
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
            found["kfp.local"] = kfp_way.run("containers", Path(folder) / "kfp", chosen.data)
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
    """Run a command, and return its JSON. `seconds` is the whole command's time as its user sees it."""
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


if __name__ == "__main__":
    sys.exit(main())

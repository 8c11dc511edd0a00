"""Measure a run on the process backend: cold, cached, and as plain function calls; and the predictor's start.

    python -m dev.bench.pipeline [--data FOLDER] [--repeats 5] [--without-kfp]

Overhead is the time of a run less that of training alone, as Keras measured it in that run. The peer is kfp.local's own
default, which makes a virtual environment and installs packages in every step (once: it takes minutes).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from backends.base import Request
from backends.process import predictor
from backends.process.predictor import Predictor
from dev.bench import kfp_way
from digits.events import Event
from digits.http import request_json
from digits.settings import Settings
from tests.helpers.fake_backend import FakeBackend

RUN_SECONDS = 1800
READY_SECONDS = 60


def run(settings: Settings, *arguments: str) -> tuple[float, dict[str, Any]]:
    """Return (seconds of the whole command, its object) of one `digits run --json`."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "digits", "run", "--json", "--quiet", *arguments],
        env=os.environ | settings.environ(),
        stdout=subprocess.PIPE,
        timeout=RUN_SECONDS,
        check=True,
    )
    return time.perf_counter() - began, json.loads(done.stdout)


def plain(settings: Settings) -> tuple[float, float]:
    """Return (seconds, seconds of training) of the same steps as plain function calls in a separate process."""
    code = (
        "import sys, time; began = time.perf_counter(); "
        "from dev.bench.pipeline import calls; training = calls(); "
        "print(time.perf_counter() - began, training)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | settings.environ(),
        stdout=subprocess.PIPE,
        timeout=RUN_SECONDS,
        check=True,
    )
    seconds, training = done.stdout.split()[-2:]
    return float(seconds), float(training)


def unwatched(_: Event) -> None:
    """Do nothing."""


def calls() -> float:
    """Run the steps by plain calls, and return the seconds of training alone."""
    backend = FakeBackend(Settings.load(dotenv=None))
    return float(backend.run(Request({}), unwatched).outputs["trained"]["seconds"])


def start(settings: Settings) -> float:
    """Return the seconds from starting the predictor on a champion to its first readiness."""
    predictor.stop_all(settings)
    began = time.perf_counter()
    state: Predictor = predictor.ensure(settings)
    while time.perf_counter() - began < READY_SECONDS:
        try:
            request_json(f"{state.url}/v2/models/digits/ready")
            return time.perf_counter() - began
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"the predictor was not ready after {READY_SECONDS} s")


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("DIGITS_DATA", "../shared/mnist")))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without-kfp", action="store_true", help="leave kfp.local's own way out (it takes minutes)")
    chosen = parser.parse_args()
    rows: dict[str, list[float]] = {}
    for _ in range(chosen.repeats):
        with tempfile.TemporaryDirectory() as home:
            settings = Settings(home=Path(home) / "digits", data=str(chosen.data.absolute()))
            seconds, answer = run(settings)
            rows.setdefault("accuracy, %", []).append(100 * answer["accuracy"])
            rows.setdefault("training, s", []).append(answer["training_seconds"])
            rows.setdefault("cold run, s", []).append(seconds)
            rows.setdefault("cold run less training, s", []).append(seconds - answer["training_seconds"])
            seconds, answer = run(settings)
            if [name for name, step in answer["steps"].items() if step["state"] != "cached"] != ["deploy"]:
                raise SystemExit(f"expected all steps but deploy from the cache, got {answer['steps']}")
            rows.setdefault("cached run, s", []).append(seconds)
            rows.setdefault("predictor ready after, s", []).append(start(settings))
            predictor.stop_all(settings)
            alone = dataclasses.replace(settings, home=Path(home) / "plain", store="", tracking_uri="")
            seconds, training = plain(alone)
            rows.setdefault("plain calls less training, s", []).append(seconds - training)
    if not chosen.without_kfp:
        with tempfile.TemporaryDirectory() as home:
            peer = kfp_way.run("venv", Path(home), str(chosen.data.absolute()))
        overhead = peer["seconds"] - peer["training_seconds"]
        rows["kfp.local's default less training, s"] = [overhead]
        cold = statistics.median(rows["cold run less training, s"])
        rows["kfp.local's overhead over ours, times"] = [overhead / cold]
    print(f"{'':<38} {'median':>9} {'least':>9} {'most':>9}   of {chosen.repeats}")
    for name, values in rows.items():
        print(f"{name:<38} {statistics.median(values):9.2f} {min(values):9.2f} {max(values):9.2f}")


if __name__ == "__main__":
    main()

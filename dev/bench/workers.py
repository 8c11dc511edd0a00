"""Measure training with several workers: whether they give one release, also if they are killed, and what it costs.

    python -m dev.bench.workers [--kills 50] [--images 20000] [--pairs 5]

It trains on MNIST of DIGITS_DATA, in a temporary home. First 1, 2 and 4 workers train undisturbed. Then 1, 2 or 4
workers train, a worker or the step itself is killed at a random moment, and the training continues from a checkpoint.
Last, one worker's time for a batch in shards is compared with that for the batch as a whole, alternating.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from digits import events, results
from digits.data import blocks, fetch
from digits.data.dataset import split_validation
from digits.settings import Settings
from digits.training.job import Job
from digits.training.recipe import SHARDS, TrainingConfig

SECONDS = 900
TRAIN = """
import sys
from pathlib import Path
from digits.settings import Settings
from digits.training.job import Job
from digits.training.trainers import train_here
train_here(Settings.load(), Job.load(Path(sys.argv[1])))
"""


def make_job(folder: Path, images: int, shards: int, epochs: int) -> Job:
    """Write a job with that many images of MNIST to `folder`."""
    settings = Settings.load()
    data = fetch.fetch(settings.declaration, "mnist", fetch.open_place(settings), settings.home / "data").train
    rest, held = split_validation(data.labels[:images], 12, 0)
    prepared = results.PreparedData(
        train=blocks.write(folder / "train_set", [data[rest]]),
        validation=data[held].save(folder / "validation_set"),
        test="",
        feedback_used=0,
        are_digits=True,
        task=settings.declaration.of_model().text(),
    )
    job = Job(folder, TrainingConfig(shards=shards, epochs=epochs), prepared, "bench")
    job.save()
    return job


def start(job: Job, home: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start the process of a train step."""
    environment = {"DIGITS_HOME": str(home), "DIGITS_WORKERS": str(workers), events.VARIABLE: str(home / "events")}
    (home / "log").parent.mkdir(parents=True, exist_ok=True)
    with (home / "log").open("ab") as log:
        command = [sys.executable, "-c", TRAIN, str(job.folder)]
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)


def weights(job: Job, home: Path, workers: int) -> str:
    """Train to the end and return the digest of the weights."""
    process = start(job, home, workers)
    if code := process.wait(SECONDS):
        raise SystemExit(f"training ended with exit code {code}: {(home / 'log').read_text()[-2000:]}")
    return job.result().weights


def killed(job: Job, home: Path, workers: int, moment: float, draw: random.Random) -> str:
    """Train, kill a worker or the step after `moment` seconds, and continue until the training ends.

    Return the digest of the weights; '' if the training had ended before that moment.
    """
    process = start(job, home, workers)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
        return ""
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        victims = psutil.Process(process.pid).children() or [psutil.Process(process.pid)]
        draw.choice([*victims, psutil.Process(process.pid)]).kill()
    if process.wait(SECONDS) == 0:
        return job.result().weights
    return weights(job, home, workers)


def measure(kills: int, images: int, pairs: int) -> dict[str, Any]:
    """Return the digests of all runs, and the times of a batch in shards and as a whole, in seconds an epoch."""
    draw, found = random.Random(0), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "job").mkdir()
        job = make_job(root / "job", images, SHARDS, 2)
        found["undisturbed"] = {}
        lasts = {}
        for workers in (1, 2, 4):
            began = time.monotonic()
            found["undisturbed"][workers] = weights(job, root / f"home-{workers}", workers)
            lasts[workers] = time.monotonic() - began
        sys.stderr.write(f"undisturbed: {found['undisturbed']}, seconds: {lasts}\n")
        found["killed"] = []
        while (number := len(found["killed"])) < kills:
            workers, home = (1, 2, 4)[number % 3], Path(tempfile.mkdtemp(dir=root))
            if digest := killed(job, home, workers, draw.random() * lasts[workers], draw):
                found["killed"].append(digest)
                sys.stderr.write(f"{number + 1} of {kills} killed: {set(found['killed'])}\n")
            else:  # other work on this machine has ended
                lasts[workers] *= 0.8
        found["seconds"] = {0: [], SHARDS: []}
        for number in range(pairs):
            for shards in (0, SHARDS) if number % 2 else (SHARDS, 0):
                (root / f"job-{shards}").mkdir(exist_ok=True)
                each = make_job(root / f"job-{shards}", images, shards, 2)
                home = root / f"pair-{number}-{shards}"
                weights(each, home, 1)
                epochs = json.loads((each.output / "history.json").read_text())
                found["seconds"][shards].append(epochs[-1]["seconds"])
    return found


def main() -> None:
    """Print the figures as JSON, and a sentence for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    found = measure(arguments.kills, arguments.images, arguments.pairs)
    digests = {*found["undisturbed"].values(), *found["killed"]}
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    sys.stdout.write(f"{len(found['killed'])} killed and {len(found['undisturbed'])} undisturbed trainings: ")
    sys.stdout.write(f"{len(digests)} distinct digests\n")
    if arguments.pairs:
        ratios = [a / b for a, b in zip(found["seconds"][SHARDS], found["seconds"][0], strict=True)]
        sys.stdout.write(f"in shards / as a whole: median {statistics.median(ratios):.2f}, ")
        sys.stdout.write(f"{min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs\n")


if __name__ == "__main__":
    main()

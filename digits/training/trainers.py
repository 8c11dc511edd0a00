"""Trainers, which carry out a training job somewhere: a trainer is selected by name.

DIGITS_TRAINER names the trainer, by default LOCAL. Other trainers are entry points of the group `digits.trainers`, so
this module does not depend on Kubernetes.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from typing import Protocol, cast

from digits import errors, events, results
from digits.entry_points import find_function
from digits.errors import DigitsError
from digits.files import parse_json
from digits.settings import Settings
from digits.training.job import Job

GROUP = "digits.trainers"
LOCAL = "local"
RESTARTS = 3  # of all workers, after one of them ended
MAX_SECONDS = 6 * 3600  # of a training
_POLL_SECONDS = 0.1


class Trainer(Protocol):
    """A function that carries out a training job: it fills the folder `job.output` and returns the result.

    >>> def train_nowhere(settings, job):
    ...     raise DigitsError(f"cannot train with seed {job.config.seed} here")
    >>> trainer: Trainer = train_nowhere
    """

    def __call__(self, settings: Settings, job: Job, /) -> results.TrainedModel:
        """Carry out the job. Raises DigitsError if the training failed."""


def train_here(settings: Settings, job: Job) -> results.TrainedModel:
    """Carry out a job on this machine: in this process, or in DIGITS_WORKERS processes.

    If one of the processes ends, all are started again from the last checkpoint, RESTARTS times.
    """
    if settings.workers < 2:
        from digits.training import worker

        return cast(results.TrainedModel, worker.train(job, settings))
    job.save()
    for restart in range(RESTARTS + 1):
        failure = _run_workers(job, settings.workers)
        if not failure:
            return job.result()
        events.emit("progress", "train", text=f"{failure}; starting all workers again ({restart + 1})")
    raise DigitsError(
        f"the training failed {RESTARTS + 1} times; the last time {failure}",
        remedy="see the step's log; with less memory a smaller --workers may succeed",
    )


def _run_workers(job: Job, count: int) -> str:
    """Run the workers of a job to their end. Return what went wrong, '' if nothing did.

    Raises:
        DigitsError: a worker raised it.
    """
    addresses, deadline = [f"127.0.0.1:{port}" for port in _free_ports(count)], time.monotonic() + MAX_SECONDS
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for index in range(count):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            command = [sys.executable, "-P", "-m", "digits.training.worker", str(job.folder)]
            # A worker ends when its standard input does, so none outlives this process.
            environment = os.environ | {"TF_CONFIG": json.dumps(config)}
            workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, env=environment))
        while time.monotonic() < deadline:
            codes = [worker.poll() for worker in workers]
            for index, code in enumerate(codes):
                if code:
                    raise_error(job)
                    return f"worker {index} ended with exit code {code}"
            if codes[0] == 0:
                return ""
            time.sleep(_POLL_SECONDS)
        return f"the workers had not ended after {MAX_SECONDS / 3600:g} hours"
    finally:
        for process in workers:
            process.kill()
            process.communicate()


def raise_error(job: Job) -> None:
    """Raise the error that a worker of the job wrote. Do nothing if there is none, or if trying again may help."""
    try:
        error = parse_json((job.folder / "error.json").read_bytes())
        kind = getattr(errors, error["kind"])
        if not issubclass(kind, errors.Unavailable):
            raise kind(error["message"], remedy=error["remedy"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that no process uses. If one is taken meanwhile, the workers start again."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


TRAINERS: dict[str, Trainer] = {LOCAL: train_here}  # by name; a process may add its own


def find_trainer(name: str) -> Trainer:
    """Return the trainer of that name. Raises MissingError, which lists the available ones."""
    return find_function("DIGITS_TRAINER", name, TRAINERS, GROUP)

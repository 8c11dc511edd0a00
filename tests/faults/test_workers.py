"""Workers that train together: one of them dies, then all of them, and the release is that of one worker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from backends.process import predictor
from digits import homes
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.homes import Home, left
from tests.helpers.support import free_port
from tests.helpers.table import Fault

RUN = ("run", "--dataset", "sklearn-digits", "--epochs", "3", "--min-accuracy", "0.5")


@contextlib.contextmanager
def home(folder: Path) -> Iterator[Home]:
    """Yield a new home; stop its predictor afterwards."""
    homes.claim(folder)
    made = Home(Settings(home=folder, port=free_port(), grpc_port=free_port()))
    try:
        yield made
    finally:
        predictor.stop_all(made.settings)


def progress(world: Home, step: str = "train") -> list[str]:
    """Return the texts that a step of the newest run has shown."""
    return [e["text"] for e in world.events(world.newest()) if (e["event"], e["step"]) == ("progress", step)]


def workers(world: Home) -> list[psutil.Process]:
    """Return the worker processes of the newest run."""
    return [each for each in world.processes(world.newest()) if "digits.training.worker" in each.cmdline()]


@pytest.mark.fault(
    "a worker of a training killed, then the step and all its workers",
    "the workers start again from the checkpoint, then `digits run --resume` does; the release is that of one worker",
)
def test_workers_that_are_killed(tmp_path: Path, fault: Fault) -> None:
    """Whichever worker dies, the training continues after the last epoch and ends with the release of one worker."""
    with home(tmp_path / "one") as one, home(tmp_path / "two") as world:
        expected = one.digits(*RUN, "--workers", "1")
        process = world.start(*RUN, "--workers", "2", "--json")

        def shown(text: str) -> None:
            world.wait_for(lambda: any(line.startswith(text) for line in progress(world)), text)

        world.wait_for(lambda: any(world.settings.home.glob("runs/*/events.jsonl")), "a run")
        shown("epoch 1")
        first = workers(world)
        assert len(first) == 2
        first[1].kill()
        shown("worker")  # the message that one ended
        shown("epoch 2")
        assert left(first) == []
        second = workers(world)
        psutil.Process(second[0].ppid()).kill()
        answer = world.answer(process, 1)
        assert "step train failed" in answer["error"]
        world.wait_for(lambda: left(second) == [], "end of the workers, whose step was killed")
        answer = world.digits("run", "--resume", DIGITS_WORKERS="2")
        assert answer["digest"] == expected["digest"]
        epochs = [line.split("  ")[0] for line in progress(world)]
        # It was killed while it wrote the checkpoint of the second epoch, afterwards, or after the last epoch.
        assert epochs in (["epoch 2", "epoch 3"], ["epoch 3"], [])
        assert open_store(world.settings).keys("trainings/") == []
        fault.saw("continued twice, the same digest")

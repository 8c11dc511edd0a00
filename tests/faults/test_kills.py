"""Kill the whole program at nine random moments of a run: the next run ends like an undisturbed one.

A run has nine parts: its start, its seven steps and its end. A fixed seed draws a moment of each part, uniformly over
the part's measured duration. The three victims take turns. The steps before the part are in the cache, as they are
when a user resumes a run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import signal
import time

import psutil
import pytest

from backends import runs
from pipeline import STEPS
from tests.helpers.homes import Home
from tests.helpers.invariants import Invariants
from tests.helpers.table import Fault
from tests.helpers.world import RUN, World

PARTS = ("start", *STEPS, "end")
# What is killed: only the program; its child, the engine; or everything, as in a power failure.
VICTIMS = ("program", "engine", "everything")


@dataclasses.dataclass(frozen=True)
class Moment:
    """A moment as a share of a part's duration, and what is killed."""

    part: str
    share: float
    victim: str

    def __str__(self) -> str:
        return f"{self.part}-{self.share:.2f}-{self.victim}"


def moments() -> list[Moment]:
    """Return a moment of each part, each for the next victim."""
    drawn = random.Random(8)
    return [Moment(part, drawn.random(), VICTIMS[n % len(VICTIMS)]) for n, part in enumerate(PARTS)]


def killed(world: World, moment: Moment) -> Invariants:
    """Kill a run at that moment, resume it, and check the invariants."""
    first = moment.part in {"start", *STEPS[:2]}
    world.before({"start": STEPS[0], "end": STEPS[-1]}.get(moment.part, moment.part), database=not first)
    holds = Invariants(world)
    process = world.start(*RUN, "--json")
    if moment.part == "start":
        time.sleep(moment.share * min(world.timeline[step][0] for step in STEPS[:2]))
    else:
        step = STEPS[-1] if moment.part == "end" else moment.part
        began, lasts = world.timeline[step]
        world.started([step], process)
        rest = world.timeline["end"][0] - began - lasts
        time.sleep(lasts + moment.share * rest if moment.part == "end" else moment.share * lasts)
    strike(world, process, moment.victim)
    process.communicate(timeout=120)
    made = runs.all_runs(world.settings.home)
    over = bool(made) and made[-1].record()["state"] == "SUCCEEDED"
    answer = world.digits(*(("run", "--resume") if made and not over else RUN))
    if over:  # it had ended before it was killed, so all its results must be cached
        assert {name for name, step in answer["steps"].items() if step["state"] != "cached"} == {"deploy"}
    holds.recovered(answer)
    assert made == [] or made[-1].record()["state"] in {"FAILED", "SUCCEEDED"}
    return holds


def strike(world: Home, process: object, victim: str) -> None:
    """Send SIGKILL to the victim."""
    program = psutil.Process(process.pid)  # type: ignore[attr-defined]
    made = runs.all_runs(world.settings.home)
    engine = made[-1].record().get("engine", 0) if made else 0
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        below = psutil.Process(engine).children(recursive=True) if engine else []
        if victim == "program" or not engine:
            program.kill()
            return
        victims = [engine] if victim == "engine" else [program.pid, engine, *(process.pid for process in below)]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)


@pytest.mark.fault(
    "whole program killed at a random moment of a run",
    "`digits run --resume` ends with the digest of an undisturbed run; no trace of the killed run remains",
)
@pytest.mark.parametrize("moment", moments(), ids=str)
def test_a_killed_run_is_resumed(moment: Moment, world: World, fault: Fault) -> None:
    """Whenever the program is killed, the next run ends with the release of an undisturbed run."""
    fault.checks.append(killed(world, moment))
    fault.saw("the same digest")

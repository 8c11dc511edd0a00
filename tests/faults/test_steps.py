"""Each of the seven steps dies in turn (killed, stopped, or out of memory), and the same run is resumed each time.

The command itself is stopped, too, as when the machine shuts down.
"""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Callable

import psutil
import pytest

from backends import runs
from pipeline import STEPS
from tests.helpers import starved
from tests.helpers.homes import left
from tests.helpers.table import Fault
from tests.helpers.world import RUN, World

OUT_OF_MEMORY = r"MemoryError|Cannot allocate memory|failed to map segment|bad_alloc"


def _kill(process: psutil.Process) -> None:
    process.kill()


def _stop(process: psutil.Process) -> None:
    process.terminate()


def _wait(process: psutil.Process) -> None:
    """Do nothing; the step runs out of memory (see `starved`)."""


def case(name: str, do: Callable[[psutil.Process], None], cause: str, said: str, *, code: int) -> object:
    expected = f"the run is FAILED, step and cause ({cause}) are named, `digits run --resume` continues there"
    return pytest.param(
        do, said, code, id=name, marks=pytest.mark.fault(f"{name} in each of the seven steps", expected)
    )


def strike(world: World, run: runs.Run, do: Callable[[psutil.Process], None]) -> list[psutil.Process]:
    """Strike the processes of a run's steps. Return them."""
    struck: list[psutil.Process] = []

    def all_of_them() -> bool:
        for process in world.steps_processes(run):
            if process not in struck:
                with contextlib.suppress(psutil.NoSuchProcess):
                    do(process)
                    struck.append(process)
        return bool(struck) and (do is _wait or not left(struck))

    world.wait_for(all_of_them, "processes of a step", every=0.002)
    return struck


@pytest.mark.parametrize(
    ("do", "said", "code"),
    [
        case("SIGKILL", _kill, "SIGKILL", "SIGKILL", code=1),
        case("SIGTERM", _stop, "SIGTERM", "SIGTERM", code=1),
        case("out of memory", _wait, "no memory", OUT_OF_MEMORY, code=3),
    ],
)
def test_a_step_that_dies_fails_the_run(
    do: Callable[[psutil.Process], None], said: str, code: int, world: World, fault: Fault
) -> None:
    """If a step dies, the run is FAILED with step and cause, nothing remains, and it resumes at that step."""
    world.before(STEPS[0])
    holds = fault.watch(world)
    command, spared = RUN, list(STEPS)
    for turn in range(len(STEPS)):
        path = world.environment["PYTHONPATH"]
        hunger = starved.environment(world.kept / "starved", spared, path) if do is _wait else {}
        process = world.start(*command, "--json", **hunger)
        step = world.started(spared, process, runs_before=turn)
        assert step, world.finish(process, 1)
        run = world.newest()
        victims = strike(world, run, do)
        answer = world.answer(process, code)
        holds.failed(answer, names=f"step {step} failed: ", remedy="digits run --resume", run=run)
        assert re.search(said, answer["error"]), answer
        assert left(victims) == []
        command = ("run", "--resume")
        spared.remove(step)
    fault.row.count += len(STEPS) - 1
    answer = world.digits(*command)
    assert answer["steps"]["publish"]["state"] == "cached"
    holds.recovered(answer)
    fault.saw("FAILED and resumed at each step, the same digest")


@pytest.mark.parametrize("step", ["fetch-mnist", "train", "publish"])
@pytest.mark.fault(
    "`digits run` stopped by SIGTERM within a step",
    "exit code 130, the run is CANCELED, its processes end, `digits run --resume` continues there",
)
def test_a_command_that_is_stopped(step: str, world: World, fault: Fault) -> None:
    """SIGTERM to the program cancels the run as Ctrl-C does: no process remains, and the run can be resumed."""
    world.before(step)
    holds = fault.watch(world)
    process = world.start(*RUN, "--json")
    assert world.started([step], process) == step
    run = world.newest()
    running = world.processes(run)
    process.send_signal(signal.SIGTERM)
    answer = world.answer(process, 130)
    holds.failed(answer, names="interrupted", remedy="digits run --resume", run=run, state="CANCELED")
    assert left(running) == []
    if step == "publish":  # which waits for MLflow's run
        assert world.status(run) == "KILLED"
    resumed = world.digits("run", "--resume")
    assert all(resumed["steps"][name]["state"] == "cached" for name in STEPS[: STEPS.index(step)])
    holds.recovered(resumed)
    fault.saw("exit code 130, CANCELED; resumed, the same digest")

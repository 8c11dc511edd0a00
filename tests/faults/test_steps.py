"""Each of the seven steps dies in its turn: killed, stopped, or out of memory; one run is taken up again and again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psutil
import pytest
from homes import arguments_of, left
from table import Fault
from world import ALL, RUN, World

from backends import runs

SMALL = 100 << 20  # bytes of address space: less than Python with NumPy needs


def _kill(process: psutil.Process) -> None:
    process.kill()


def _stop(process: psutil.Process) -> None:
    process.terminate()


def _starve(process: psutil.Process) -> None:
    process.rlimit(psutil.RLIMIT_AS, (SMALL, SMALL))


def case(name: str, do: Callable[[psutil.Process], None], said: str, remedy: str) -> object:
    expected = (
        f"the run is FAILED, step and cause ({said or 'its last words'}) are named, `{remedy}` goes on from there"
    )
    return pytest.param(
        do, said, remedy, id=name, marks=pytest.mark.fault(f"{name} in each of the seven steps", expected)
    )


def strike(world: World, run: runs.Run, do: Callable[[psutil.Process], None]) -> list[psutil.Process]:
    """Do it to a step's shell and to its program, which the shell may just be starting; returns both."""
    struck: list[psutil.Process] = []

    def both() -> bool:
        now = world.steps_processes(run)
        for process in now:
            if process not in struck:
                with contextlib.suppress(psutil.NoSuchProcess):
                    do(process)
                    struck.append(process)
        return bool(struck) and (not left(struck) or any("kfp.dsl.executor_main" in arguments_of(p)[1:3] for p in now))

    world.wait_for(both, "processes of a step", every=0.002)
    return struck


@pytest.mark.parametrize(
    ("do", "said", "remedy"),
    [
        case("SIGKILL", _kill, "SIGKILL", "digits run --resume"),
        case("SIGTERM", _stop, "SIGTERM", "digits run --resume"),
        case("out of memory", _starve, "", "digits run --resume"),
    ],
)
def test_a_step_that_dies_fails_the_run(
    do: Callable[[psutil.Process], None], said: str, remedy: str, world: World, fault: Fault
) -> None:
    """Whichever step dies, the run is FAILED with step and cause, nothing is left, and it is taken up at that step."""
    world.before(ALL[0])
    holds = fault.watch(world)
    command, spared = RUN, list(ALL)
    for turn in range(len(ALL)):
        process = world.start(*command, "--json")
        step = world.started(spared, process, runs_before=turn)
        assert step, world.finish(process, 1)
        run = world.newest()
        victims = strike(world, run, do)
        answer = world.answer(process, 1)
        holds.failed(answer, names=f"step {step} failed: ", remedy=remedy, run=run)
        assert said in answer["error"], answer
        assert left(victims) == []
        command = ("run", "--resume")
        spared.remove(step)
    fault.row.count += len(ALL) - 1
    answer = world.digits(*command)
    assert answer["steps"]["publish"]["state"] == "cached"
    holds.recovered(answer)
    fault.saw("FAILED and resumed at each step, the same digest")

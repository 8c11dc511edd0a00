"""Each of the seven steps dies in its turn: killed, stopped, or out of memory; one run is taken up again and again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psutil
import pytest
from homes import left
from table import Fault
from world import ALL, RUN, World

SMALL = 150 << 20  # bytes of address space: less than Python with NumPy needs


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
    command = RUN
    for turn, step in enumerate(ALL):
        process = world.start(*command, "--json")
        run = world.started(step, process, runs_before=turn)
        assert run, world.finish(process, 0)
        victims = world.steps_processes(run)
        assert victims
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                do(victim)
        answer = world.answer(process, 1)
        holds.failed(answer, names=f"step {step} failed: ", remedy=remedy, run=run)
        assert said in answer["error"], answer
        assert left(victims) == []
        command = ("run", "--resume")
    fault.row.count += len(ALL) - 1
    answer = world.digits(*command)
    assert answer["steps"]["publish"]["state"] == "cached"
    holds.recovered(answer)
    fault.saw("FAILED and resumed at each step, the same digest")

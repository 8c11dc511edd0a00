"""The error of a failed run names the step, the cause and the log."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from backends.local import failures
from backends.local.supervisor import Outcome
from backends.runs import Run


class Usage(NamedTuple):
    free: int


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with an engine's log and the log of its step train."""
    run = Run(tmp_path)
    run.logs.mkdir()
    for name in ("engine", "train"):
        (run.logs / f"{name}.log").write_text(f"first\n\nlast of {name}\n")
    return run


def outcome(engine: int, **failure: Any) -> Outcome:
    """Return an outcome in which the first two steps are done and train is running."""
    result = Outcome(engine, failure=failure)
    for name, state in (
        ("fetch-mnist", "cached"),
        ("collect-feedback", "done"),
        ("prepare", "done"),
        ("train", "running"),
    ):
        result.steps[name].state = state
    return result


def test_a_step_that_reported_its_failure(run: Run) -> None:
    """Cause, remedy and exit code come from the step's event."""
    error = failures.step_failed(
        run, outcome(1, event="failed", step="train", cause="no memory", remedy="buy some", exit_code=3)
    )
    assert (error.step, error.remedy, error.exit_code) == ("train", "buy some", 3)
    assert "no memory" in error.message
    assert "train.log" in error.message


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1, "exit code 1"),
        (-9, "killed (SIGKILL"),
        (137, "killed (SIGKILL"),
        (139, "crashed (SIGSEGV)"),
        (-1, "signal 1"),
    ],
)
def test_a_step_that_exited(code: int, expected: str, run: Run) -> None:
    """The cause is the exit code, in words if it is a signal's, and the end of the step's log."""
    error = failures.step_failed(run, outcome(1, event="exited", step="train", code=code))
    assert expected in error.message
    assert "last of train" in error.message
    assert error.remedy == "digits run --resume"


@pytest.mark.parametrize("failure", [{"event": "failed", "step": "", "cause": "no space for the report"}, {}])
def test_a_failure_after_the_last_step_is_that_of_no_step(failure: dict[str, Any], run: Run) -> None:
    """The engine copies the report when all steps are done; its failure is not attributed to the first step."""
    done = outcome(1, **failure)
    for step in done.steps.values():
        step.state = "done"
    error = failures.step_failed(run, done)
    assert (error.step, error.message.startswith("the run failed: ")) == ("", True)
    assert failure.get("cause", "the engine ended with exit code 1 after the last step") in error.message


@pytest.mark.parametrize(("free", "exit_code"), [(1 << 30, 1), (0, 3)])
def test_an_engine_that_died(free: int, exit_code: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The running step is named, with the engine's log; a full disk is reported, because the step could not."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free))
    error = failures.step_failed(run, outcome(-9))
    assert (error.step, error.exit_code) == ("train", exit_code)
    assert "the engine ended with exit code -9" in error.message
    assert ("no space is left" in error.message) == (exit_code == 3)
    assert "engine.log" in error.message

"""The error of a run that failed: which step, why, and where its log is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from backends import runs
from backends.local.supervisor import Outcome
from digits.errors import StepFailed

MIN_FREE = 64 << 10  # bytes on the disk of the run; with less, a step cannot report that the disk is full


def step_failed(run: runs.Run, outcome: Outcome) -> StepFailed:
    """Return the error for a run whose engine ended before all steps were done."""
    event: dict[str, Any] = outcome.failure
    running = [name for name, step in outcome.steps.items() if step.state == "running"]
    # The engine itself can fail, too: a step that has not begun, or is done, is not the cause.
    next_steps = [] if event.get("event") == "failed" else outcome.unfinished
    step = event.get("step") or [*running, *next_steps, ""][0]
    log = run.logs / f"{step if event.get('step') else 'engine'}.log"
    if event.get("event") == "failed":
        cause = event["cause"]
    elif event.get("event") == "exited":
        cause = describe_exit(event["code"]) + last_lines(log)
    else:
        when = "before the step was done" if step else "after the last step"
        cause = f"the engine ended with {describe_exit(outcome.code)} {when}"
        if shutil.disk_usage(run.folder).free < MIN_FREE:
            cause += f"; no space is left in {run.folder}"
            event = {"remedy": "free some space, or set DIGITS_HOME to another disk", "exit_code": 3}
    error = StepFailed(
        step, cause, log=log if log.exists() else None, remedy=event.get("remedy") or "digits run --resume"
    )
    error.exit_code = event.get("exit_code") or error.exit_code
    return error


def describe_exit(code: int) -> str:
    """Describe an exit code. Negative codes and those above 128 stand for signals."""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    names = {
        2: "interrupted (SIGINT)",
        9: "killed (SIGKILL; possibly out of memory)",
        15: "stopped (SIGTERM)",
        11: "crashed (SIGSEGV)",
    }
    return f"exit code {code}" + (f": {names.get(number, f'signal {number}')}" if number else "")


def last_lines(log: Path) -> str:
    """Return the last five lines of a log for an error message, '' if there are none."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    shown = [line.rstrip() for line in lines if line.strip()][-5:]
    return "; the log ends with:\n    " + "\n    ".join(shown) if shown else ""

"""Starts the engine process of a run, follows its events, and ends it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, cast

from backends import processes, runs
from backends.base import CANCELED, StepState, Watch
from backends.programs import python, python_environment
from digits import events
from digits.errors import DigitsError, Interrupted
from pipeline import STEPS

POLL_SECONDS = 0.01
STOP_SECONDS = 30.0
RUN_SECONDS = 24 * 3600.0

Engine = subprocess.Popen[bytes]

_STATES = {"started": "running", "finished": "done", "cached": "cached", "failed": "failed", "exited": "failed"}


@dataclass
class Outcome:
    """The end of an engine: its exit code, the states of the steps, and the event of the first step that failed."""

    code: int = 0
    steps: dict[str, StepState] = field(default_factory=lambda: {step: StepState() for step in STEPS})
    mlflow_run: str = ""
    failure: events.Event = field(default_factory=dict)

    @property
    def unfinished(self) -> list[str]:
        """Return the names of the steps that are neither done nor cached."""
        return [name for name, step in self.steps.items() if step.state not in {"done", "cached"}]


def start(run: runs.Run) -> Engine:
    """Start the engine of `run`. It imports its libraries and waits for `supervise`, or for `stop`."""
    own = {events.VARIABLE: str(run.events), "TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
    with (run.logs / "engine.log").open("wb") as output:
        return subprocess.Popen(
            python("-m", "backends.local.engine", str(run.folder)),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=python_environment(os.environ | own),
            start_new_session=True,
        )


def supervise(engine: Engine, run: runs.Run, environment: Mapping[str, str], watch: Watch) -> Outcome:
    """Let the engine of `run` run the pipeline to its end, with `environment` added to this process's own.

    Raises:
        Interrupted: Ctrl-C; the run is CANCELED, and all its processes have ended.
        DigitsError: the run took longer than RUN_SECONDS.
    """
    log, outcome, started = events.EventLog(run.events), Outcome(), dict[str, float]()
    try:
        run.update(engine=engine.pid)
        _send(engine, environment)
        deadline = time.monotonic() + RUN_SECONDS
        while True:
            ended = engine.poll() is not None  # before the events are read, so that none is missed
            for event in log.read_new():
                _note(event, outcome, started)
                watch(event)
            if ended:
                outcome.code = engine.wait()
                return outcome
            if time.monotonic() > deadline:
                raise DigitsError(f"run {run.id} took longer than {RUN_SECONDS / 3600:.0f} h; it was ended")
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        raise Interrupted(
            f"run {run.id} was interrupted; finished steps are kept", remedy="digits run --resume"
        ) from None
    finally:
        if engine.poll() is None:
            run.update(state=CANCELED)
            stop(engine)
        if engine.returncode:  # if only the shell of a step was killed, the step itself still runs
            processes.end_with_variable(events.VARIABLE, str(run.events))


def _send(engine: Engine, environment: Mapping[str, str]) -> None:
    """Send the engine its environment, with which it begins. If it has ended, its exit code states that."""
    stdin = cast(IO[bytes], engine.stdin)
    with contextlib.suppress(BrokenPipeError):
        stdin.write(json.dumps(dict(environment)).encode() + b"\n")
        stdin.flush()


def _note(event: events.Event, outcome: Outcome, started: dict[str, float]) -> None:
    """Update `outcome` and the start times of the steps by an event."""
    name, kind = event["step"], event["event"]
    step = outcome.steps.get(name, StepState())
    step.state = _STATES.get(kind, step.state)
    if kind == "started":
        started[name] = event["time"]
    elif kind in _STATES:
        step.seconds = event["time"] - started.get(name, event["time"])
    elif kind == "mlflow":
        outcome.mlflow_run = event["run_id"]
    if step.state == "failed" and not outcome.failure:
        outcome.failure = event


def stop(engine: Engine) -> None:
    """End the engine, within STOP_SECONDS."""
    engine.terminate()
    try:
        engine.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.communicate()

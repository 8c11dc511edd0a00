"""The engine's process is followed by its events and ended with everything that it started."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from backends import runs
from backends.base import Request
from backends.local import supervisor
from backends.processes import variable
from digits import events
from digits.errors import DigitsError, Interrupted

Engine = Callable[[str], None]

STEP = """echo '{"event": "started", "step": "train", "time": 1}' >> $DIGITS_EVENTS; sleep 300 & """


@pytest.fixture
def run(tmp_path: Path) -> runs.Run:
    """A run that has just been created."""
    return runs.create(tmp_path / "home", "process", Request({}))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Replaces the engine by a shell script."""

    def replace(script: str) -> None:
        path = tmp_path / "engine"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return replace


def processes_of(run: runs.Run) -> list[psutil.Process]:
    """Return the processes that were started for a run."""
    return [process for process in psutil.process_iter() if variable(process, events.VARIABLE) == str(run.events)]


def test_the_states_of_the_steps_come_from_the_events(run: runs.Run, engine: Engine) -> None:
    """The outcome holds the states and durations of the steps, MLflow's run and the exit code."""
    lines = [
        '{"event": "cached", "step": "prepare", "time": 1}',
        '{"event": "mlflow", "step": "", "time": 1, "run_id": "m"}',
        '{"event": "started", "step": "train", "time": 2}',
        '{"event": "finished", "step": "train", "time": 5, "code": 0}',
        '{"event": "started", "step": "evaluate", "time": 5}',
        '{"event": "exited", "step": "evaluate", "time": 6, "code": 1}',
    ]
    engine("\n".join(f"echo '{line}' >> $DIGITS_EVENTS" for line in lines) + "\nread -r line; echo $line\nexit 7")
    watched: list[events.Event] = []
    outcome = supervisor.supervise(supervisor.start(run), run, {"ADDED": "passed on"}, watched.append)
    assert (outcome.code, outcome.mlflow_run, outcome.failure["step"]) == (7, "m", "evaluate")
    states = {name: step.state for name, step in outcome.steps.items()}
    assert (states["prepare"], states["train"], states["evaluate"], states["publish"]) == (
        "cached", "done", "failed", "waiting",
    )  # fmt: skip
    assert outcome.steps["train"].seconds == 3
    assert "train" not in outcome.unfinished
    assert len(watched) == len(lines)
    assert json.loads((run.logs / "engine.log").read_text()) == {"ADDED": "passed on"}


def test_an_interrupted_run_is_canceled_and_its_processes_end(run: runs.Run, engine: Engine) -> None:
    """Ctrl-C ends the engine and its steps, and the record says CANCELED."""

    def interrupt(event: events.Event) -> None:
        raise KeyboardInterrupt

    engine(STEP + "wait")
    with pytest.raises(Interrupted):
        supervisor.supervise(supervisor.start(run), run, {}, interrupt)
    assert run.record()["state"] == "CANCELED"
    assert processes_of(run) == []


def test_the_steps_of_an_engine_that_died_are_ended(run: runs.Run, engine: Engine) -> None:
    """If the engine is killed, its steps still run; they are ended, too."""
    engine(STEP + "kill -9 $$")
    outcome = supervisor.supervise(supervisor.start(run), run, {}, lambda event: None)
    assert outcome.code == -9
    assert outcome.steps["train"].state == "running"
    assert processes_of(run) == []


def test_a_run_has_a_time_limit(run: runs.Run, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that exceeds RUN_SECONDS is ended with an error."""
    monkeypatch.setattr(supervisor, "RUN_SECONDS", 0.2)
    engine(STEP + "wait")
    with pytest.raises(DigitsError, match="took longer"):
        supervisor.supervise(supervisor.start(run), run, {}, lambda event: None)
    assert processes_of(run) == []


def test_an_engine_that_is_not_sent_an_environment_runs_nothing(run: runs.Run) -> None:
    """If the parent is killed while the engine imports its libraries, the engine ends without an event or error."""
    engine = supervisor.start(run)
    assert engine.communicate(timeout=60) == (None, None)
    assert (engine.returncode, run.events.exists()) == (0, False)
    assert (run.logs / "engine.log").read_text() == ""


def test_an_engine_that_is_not_needed_is_ended(run: runs.Run) -> None:
    """When the inputs of a run are refused, its engine has been started and is ended."""
    engine = supervisor.start(run)
    supervisor.stop(engine)
    assert engine.returncode is not None
    assert processes_of(run) == []


def test_the_engine_imports_no_library_that_only_steps_need() -> None:
    """The engine imports neither NumPy nor kfp's client ahead, so that a cached run is short."""
    program = (
        "import sys; from backends.local import engine; engine._import_libraries()\n"
        "print({'numpy', 'cv2', 'mlflow', 'kubernetes'} & set(sys.modules), 'kfp.local' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set() True\n", "")

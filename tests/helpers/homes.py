"""An installation and how to run the real program in it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from backends import runs
from digits import events
from digits.release.mlflow_client import connect
from digits.settings import Settings
from tests.helpers.support import child_environment

SECONDS = 400.0
# A run of little training on little data.
BASIC = ("--dataset", "sklearn-digits", "--epochs", "1")


@dataclasses.dataclass(frozen=True)
class Home:
    """An installation and how to run the program in it."""

    settings: Settings

    @functools.cached_property
    def environment(self) -> dict[str, str]:
        """What the program finds in its environment; made once, as tests change theirs."""
        return child_environment(self.settings)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `digits` in a process group of its own, with more in its environment if so wished."""
        return subprocess.Popen(
            [sys.executable, "-m", "digits", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment | environment,
            cwd=self.settings.home,
            start_new_session=True,
        )

    def digits(self, *arguments: str, code: int = 0, **environment: str) -> dict[str, Any]:
        """Run `digits … --json` to its end; the object that it answers."""
        return self.answer(self.start(*arguments, "--json", **environment), code)

    def answer(self, process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
        """Wait for the end of a program that was started with `--json`; the object that it answers."""
        out, err = self.finish(process, code)
        assert out.count("\n") == 1, out + err
        found: dict[str, Any] = json.loads(out)
        return found

    def finish(self, process: subprocess.Popen[str], code: int) -> tuple[str, str]:
        """Wait for the end of a program and check its exit code; (standard output, standard error)."""
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"digits did not end within {SECONDS:.0f} s: {process.communicate()[1]}")
        assert process.returncode == code, f"exit code {process.returncode}\n{out}{err}\n{self.logs()}"
        assert "Traceback" not in err
        return out, err

    def logs(self) -> str:
        """The ends of the newest run's logs."""
        found = runs.all_runs(self.settings.home)
        files = sorted(found[-1].logs.glob("*.log")) if found else []
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def newest(self) -> runs.Run:
        """The newest run."""
        return runs.all_runs(self.settings.home)[-1]

    def events(self, run: runs.Run) -> list[events.Event]:
        """What happened in a run so far."""
        return events.EventLog(run.events).read_new()

    def started_at_train(self, before: int) -> tuple[runs.Run, list[psutil.Process]]:
        """Wait until a new run trains (it has told of an epoch); that run and the step's processes, shell first."""
        self.wait_for(lambda: len(runs.all_runs(self.settings.home)) > before, "a new run")
        run = self.newest()

        def trains() -> bool:
            return any(e["event"] == "progress" and e["step"] == "train" for e in self.events(run))

        self.wait_for(trains, "its training")
        steps = [process for process in self.processes(run) if "train" in arguments_of(process)]
        assert steps
        return run, steps

    def processes(self, run: runs.Run) -> list[psutil.Process]:
        """The engine of a run and all that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            engine = psutil.Process(run.record()["engine"])
            return [engine, *engine.children(recursive=True)]
        return []

    def wait_for(
        self, condition: Callable[[], bool], what: str, seconds: float = SECONDS, *, every: float = 0.05
    ) -> None:
        """Wait until `condition` holds; fails with the logs otherwise."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} within {seconds:.0f} s\n{self.logs()}")
            time.sleep(every)

    def status(self, run: runs.Run) -> str:
        """How MLflow says that a run ended."""
        made = [e["run_id"] for e in self.events(run) if e["event"] == "mlflow"]
        with connect(self.settings) as client:
            return str(client.get_run(made[-1]).info.status)


def arguments_of(process: psutil.Process) -> list[str]:
    """The arguments of a process, none where it is gone."""
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def left(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of the processes that are still there."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may go between the two questions
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found

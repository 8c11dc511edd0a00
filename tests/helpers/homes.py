"""A home, and how to run the real program in it."""

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
# The options of a run with little training on little data.
BASIC = ("--dataset", "sklearn-digits", "--epochs", "1")


@dataclasses.dataclass(frozen=True)
class Home:
    """A home and how to run the program in it."""

    settings: Settings

    @functools.cached_property
    def environment(self) -> dict[str, str]:
        """The environment of the program; computed once, because tests change their own."""
        return child_environment(self.settings)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `digits` in a process group of its own, with these additional variables."""
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
        """Run `digits … --json` and return the object that it prints. Checks the exit code."""
        return self.answer(self.start(*arguments, "--json", **environment), code)

    def answer(self, process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
        """Wait until a program that was started with `--json` ends, and return the object that it prints."""
        out, err = self.finish(process, code)
        assert out.count("\n") == 1, out + err
        found: dict[str, Any] = json.loads(out)
        return found

    def finish(self, process: subprocess.Popen[str], code: int) -> tuple[str, str]:
        """Wait until a program ends, and check its exit code. Return standard output and standard error."""
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"digits did not end within {SECONDS:.0f} s: {process.communicate()[1]}")
        assert process.returncode == code, f"exit code {process.returncode}\n{out}{err}\n{self.logs()}"
        assert "Traceback" not in err
        return out, err

    def logs(self) -> str:
        """Return the last lines of the newest run's logs."""
        found = runs.all_runs(self.settings.home)
        files = sorted(found[-1].logs.glob("*.log")) if found else []
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-1500:]}" for file in files)

    def newest(self) -> runs.Run:
        """Return the newest run."""
        return runs.all_runs(self.settings.home)[-1]

    def events(self, run: runs.Run) -> list[events.Event]:
        """Return the events of a run so far."""
        return events.EventLog(run.events).read_new()

    def processes(self, run: runs.Run) -> list[psutil.Process]:
        """Return the processes of a run: its engine and all descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            engine = psutil.Process(run.record()["engine"])
            return [engine, *engine.children(recursive=True)]
        return []

    def wait_for(
        self, condition: Callable[[], bool], what: str, seconds: float = SECONDS, *, every: float = 0.05
    ) -> None:
        """Wait until `condition` holds. After `seconds` the test fails with the run's logs."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"no {what} within {seconds:.0f} s\n{self.logs()}")
            time.sleep(every)

    def status(self, run: runs.Run) -> str:
        """Return the status of a run in MLflow."""
        made = [e["run_id"] for e in self.events(run) if e["event"] == "mlflow"]
        with connect(self.settings) as client:
            return str(client.get_run(made[-1]).info.status)


def left(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that are still running."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end between the two calls
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found

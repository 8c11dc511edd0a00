"""The embedded backend: steps as subprocesses of this interpreter, a predictor process, nothing but Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from backends import runs
from backends.base import Watch
from backends.local.backend import STEP_SECONDS, LocalBackend, StartStep
from backends.process import predictor
from digits.settings import Settings


class ProcessBackend(LocalBackend):
    """See `backends.base.Backend`."""

    name = "process"

    def check(self) -> None:
        """Nothing is needed."""

    def prepare(self, watch: Watch) -> Settings:
        """Start the predictor, if none serves, so that it imports its libraries while the steps run."""
        del watch
        predictor.ensure(self.settings)
        return self.settings

    def here(self) -> Settings:
        """See Backend."""
        return self.settings

    def step_settings(self) -> Settings:
        """The same: everything is on this machine."""
        return self.settings

    def step_endpoint(self) -> str:
        """See LocalBackend."""
        return predictor.ensure(self.settings).url

    def endpoint(self) -> str:
        """See Backend."""
        state = predictor.running(self.settings)
        return state.url if state else ""

    def release_leftovers(self, run: runs.Run) -> None:
        """Nothing beside processes."""


def engine_parts(settings: Settings, run: runs.Run) -> tuple[Any, StartStep, Any]:
    """(kfp.local's runner, how a step is started, what is set on each task) for the engine."""
    del settings, run
    from kfp import local

    from pipeline.definition import unchanged

    return local.SubprocessRunner(use_venv=False), start_step, unchanged


def start_step(step: str, command: list[str], environment: dict[str, str], log: Path) -> int:
    """Run a step's command to its end; standard output and error go to `log`. Returns its exit code."""
    del step
    with log.open("ab") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
        try:
            return process.wait(STEP_SECONDS)
        finally:
            if process.poll() is None:  # the engine is being ended, or the step took too long
                runs.end_children(process.pid)  # the shell's child is the step itself
                process.kill()
                process.wait()

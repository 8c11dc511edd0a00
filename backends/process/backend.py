"""The process backend: the steps and the predictor are processes of this machine. It needs only Python."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from backends import processes, runs
from backends.base import Watch
from backends.local.backend import STEP_SECONDS, EngineParts, LocalBackend
from backends.process import predictor
from digits.settings import Settings


class ProcessBackend(LocalBackend):
    """See `backends.base.Backend`."""

    name = "process"

    def check(self) -> None:
        """See Backend. Nothing is needed."""

    def prepare(self, watch: Watch) -> Settings:
        """Start the predictor if there is none, so that it imports its libraries while the steps run."""
        del watch
        predictor.ensure(self.settings)
        return self.settings

    def host_settings(self) -> Settings:
        return self.settings

    def step_settings(self) -> Settings:
        return self.settings

    def step_endpoint(self) -> str:
        return predictor.ensure(self.settings).url

    def endpoint(self) -> str:
        state = predictor.running(self.settings)
        return state.url if state else ""

    def engine_parts(self, run: runs.Run) -> EngineParts:
        del run
        from kfp import local

        from pipeline.definition import unchanged

        return EngineParts(local.SubprocessRunner(use_venv=False), start_step, unchanged)

    def remove_leftovers(self, run: runs.Run) -> None:
        """See LocalBackend. There are only processes."""


def start_step(step: str, command: list[str], environment: dict[str, str], log: Path) -> int:
    """Run a step's command to its end; standard output and error go to `log`. Returns its exit code."""
    del step
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=os.environ | environment
        )
        try:
            return process.wait(STEP_SECONDS)
        finally:
            if process.poll() is None:  # the engine is being ended, or the step took too long
                processes.kill_children(process.pid)  # the command is a shell; its child is the step itself
                process.kill()
                process.wait()

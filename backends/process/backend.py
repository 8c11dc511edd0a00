"""The process backend: the steps and the predictor are processes of this machine. It needs only Python."""

from __future__ import annotations

from backends import runs
from backends.base import Report
from backends.local.backend import EngineParts, LocalBackend
from backends.process import predictor
from backends.process.step_processes import StepProcesses
from digits.settings import Settings


class ProcessBackend(LocalBackend):
    """See `backends.base.Backend`."""

    name = "process"

    def check(self) -> None:
        """See Backend. Nothing is needed."""

    def prepare(self, report: Report) -> Settings:
        """Start the predictor if there is none, so that it imports its libraries while the steps run."""
        predictor.ensure(self.settings, report)
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
        steps = StepProcesses()
        steps.start("deploy", run.logs / "deploy.log")  # the only step of most cached runs
        from kfp import local

        from pipeline.definition import unchanged

        return EngineParts(local.SubprocessRunner(use_venv=False), steps.run, unchanged)

    def remove_leftovers(self, run: runs.Run) -> None:
        """See LocalBackend. There are only processes."""

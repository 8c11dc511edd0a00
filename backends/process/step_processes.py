"""The processes of a run's steps. Some are started while earlier steps run, and import their libraries meanwhile."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
from pathlib import Path

from backends.local.backend import STEP_SECONDS
from backends.programs import kill_whole, python

# {step: the steps whose processes are started with its own}. TensorFlow is imported while the data is prepared. MLflow
# is imported while TensorFlow builds its graph, which takes one core.
TOGETHER = {
    "collect-feedback": ("fetch-mnist", "prepare", "train"),
    "fetch-mnist": ("prepare", "train"),
    "prepare": ("train",),
    "train": ("evaluate", "publish"),
}


class StepProcesses:
    """Runs steps, each in a process of its own. All of them end with this process."""

    def __init__(self) -> None:
        self._waiting: dict[str, subprocess.Popen[bytes]] = {}
        atexit.register(self._end)

    def start(self, step: str, log: Path) -> None:
        """Start the process of a step, unless there is one; its output goes to `log`. It waits for `run`."""
        if step in self._waiting and self._waiting[step].poll() is None:
            return
        with log.open("ab") as file:
            self._waiting[step] = subprocess.Popen(
                python("-m", "backends.process.step_main", step),
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"_KFP_RUNTIME": "true"},  # which limits what kfp imports
            )

    def run(self, step: str, command: list[str], environment: dict[str, str], log: Path) -> int:
        """Run a step's command, which is kfp's, to its end, with its output in `log`. Returns its exit code."""
        for name in (step, *TOGETHER.get(step, ())):
            self.start(name, log.with_name(f"{name}.log"))
        process = self._waiting.pop(step)
        try:
            process.communicate(json.dumps([command, environment]).encode(), STEP_SECONDS)
            return process.returncode
        finally:
            _kill(process)  # if the engine is being ended, or the step took too long

    def _end(self) -> None:
        for process in self._waiting.values():
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        kill_whole(process)

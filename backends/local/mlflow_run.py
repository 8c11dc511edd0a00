"""The MLflow run of a pipeline run. The engine starts it, so that MLflow also shows runs that never reach `publish`."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from digits import events
from digits.errors import DigitsError, UsageError
from digits.imports import without
from digits.release import mlflow_log, mlflow_registry
from digits.settings import Settings

WAIT_SECONDS = 120.0
LAST_WAIT_SECONDS = 10.0  # for a run that did not succeed; its user waits for the end


class MlflowRun:
    """The MLflow run. The first step other than `deploy` that is not cached starts it, in the background."""

    def __init__(self, settings: Settings, run_id: str, record: dict[str, Any]) -> None:
        self._settings, self._run_id, self._record = settings, run_id, record
        self._future: Future[str] | None = None
        self.folders: list[Path] | None = None  # that steps can write in; None if these are all

    def environment_of(self, step: str) -> dict[str, str]:
        """Return the variables for a step that is about to start: MLflow's run for `publish`, which logs to it."""
        if self._future is None and step != "deploy":
            self._future = Future()
            threading.Thread(target=self._make, args=(self._future,), daemon=True).start()
        run_id = self._id(WAIT_SECONDS) if step == "publish" else ""
        return {mlflow_log.RUN_VARIABLE: run_id} if run_id else {}

    def end(self, status: str) -> None:
        """Set the last status of the MLflow run, if there is one."""
        if run_id := self._id(WAIT_SECONDS if status == mlflow_log.FINISHED else LAST_WAIT_SECONDS):
            try:
                mlflow_log.end_run(self._settings, run_id, status)
            except Exception as exc:  # noqa: BLE001 # the outcome of the run must not depend on this
                events.emit("progress", "publish", text=f"could not mark the MLflow run {status}: {exc}")

    def _id(self, seconds: float) -> str:
        """Return the id of the MLflow run, '' if there is none within `seconds`."""
        try:
            return self._future.result(seconds) if self._future else ""
        except TimeoutError:
            return ""

    def _make(self, future: Future[str]) -> None:
        from pipeline import DEFAULTS

        run_id = ""
        experiment = self._record["parameters"].get("experiment") or DEFAULTS.experiment
        tags = {"digits.run": self._run_id, "digits.backend": self._record["backend"]}
        try:
            # MLflow imports these packages to log models, as `publish` does. They take a quarter of its import time.
            with without("matplotlib", "pandas", "scipy", "sklearn"):
                run_id = mlflow_log.start_run(self._settings, experiment, self._run_id, tags, folders=self.folders)
                events.emit("mlflow", run_id=run_id)
                mlflow_registry.check_model(self._settings)
        except UsageError as exc:  # `publish` would fail, whatever is trained until then
            events.emit("failed", "publish", cause=exc.message, remedy=exc.remedy, exit_code=exc.exit_code)
            os.kill(os.getpid(), signal.SIGTERM)  # which ends the engine and its steps
        except DigitsError as exc:
            # The step that needs MLflow reports this again; until then the training continues and is kept.
            events.emit("progress", "publish", text=str(exc))
        finally:
            future.set_result(run_id)

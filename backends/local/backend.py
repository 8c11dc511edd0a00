"""The base of the process and docker backends: a run by kfp.local in a child process, the engine."""

from __future__ import annotations

import contextlib
import json
import os
import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from backends import runs
from backends.base import FAILED, SUCCEEDED, Backend, Report, Request, Result, Watch, with_champion
from backends.local import preflight, supervisor
from backends.local.failures import step_failed
from digits import events, homes
from digits.data import catalog, correction_log, sources
from digits.errors import DigitsError
from digits.release import deploy, ledger, releases
from digits.settings import ENDPOINT_VARIABLE, Settings
from digits.store import open_store
from digits.store.trial import check_writing

STEP_SECONDS = 6 * 3600

# (step, command, additional environment, log file) -> exit code. Runs a step's command to its end, with its output
# appended to the log.
StartStep = Callable[[str, list[str], dict[str, str], Path], int]


class EngineParts(NamedTuple):
    """The parts of the engine that depend on the backend."""

    runner: Any  # of kfp.local
    start_step: StartStep
    configure: Callable[[Any], Any]  # called with each task of the definition


class LocalBackend(Backend):
    """Runs the definition by kfp.local. See `backends.base.Backend` for the contract."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def prepare(self, report: Report) -> Settings:
        """Start the object store and endpoint of a run. Returns the settings by which this machine reaches them.

        `report` is called with a sentence about what takes long or changes what was there.
        """

    @abstractmethod
    def step_settings(self) -> Settings:
        """Return the settings for the steps."""

    @abstractmethod
    def step_endpoint(self) -> str:
        """Return the address of the endpoint as the steps reach it."""

    def step_folders(self) -> list[Path] | None:
        """Return the folders that steps can write in; None if these are all of this machine."""
        return None

    @abstractmethod
    def engine_parts(self, run: runs.Run) -> EngineParts:
        """Return the parts for the engine of `run`. Called in the engine's process, with the steps' settings."""

    @abstractmethod
    def remove_leftovers(self, run: runs.Run) -> None:
        """Remove what a run that did not succeed may have left behind, other than processes."""

    def redeploy(self) -> str:
        """See Backend. The predictor loads the champion by itself; this waits until it serves it."""
        if url := self.endpoint():
            store = open_store(self.host_settings())
            manifest = releases.load(store, ledger.champion(store))
            deploy.wait_for(url, manifest, champion=lambda: ledger.champion(store))
        return url

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        home = self.settings.home
        homes.claim(home)
        preflight.check(self.settings, request.parameters)
        for dead in runs.reap_dead_runs(home):
            self.remove_leftovers(dead)
            _mark_killed(self.settings, dead)
        run = runs.create(home, self.name, request, resume)
        engine = supervisor.start(run)
        try:
            reachable = self.prepare(
                lambda text: watch({"event": "progress", "step": "", "time": time.time(), "text": text})
            )
            # Damaged data or an unreachable store is refused here; then there is no run that could be resumed.
            parameters = request.parameters | self._external_inputs(request, reachable, watch)
            environment = self.step_settings().environ() | {ENDPOINT_VARIABLE: self.step_endpoint()}
            cache = runs.cache_root(home, run, "pipeline", request, resume)
            # Relative, because a copy of the home must not use the cache of the original.
            run.update(parameters=parameters, cache_root=os.path.relpath(cache, home))
        except BaseException:
            supervisor.stop(engine)
            runs.discard(run)
            raise
        started = time.monotonic()
        watch({"event": "run", "step": "", "time": time.time(), "id": run.id, "folder": str(run.folder)})
        try:
            outcome = supervisor.supervise(engine, run, environment, watch)
        except BaseException:
            self.remove_leftovers(run)
            raise
        finally:
            runs.remove_temporary_files(home, run)
        if outcome.code == 0 and not outcome.unfinished:
            run.update(state=SUCCEEDED)
            result = json.loads((run.folder / "result.json").read_text())
            outputs = with_champion(result, cached=outcome.steps["publish"].state == "cached")
            seconds = time.monotonic() - started
            return Result(run.id, SUCCEEDED, outcome.steps, outputs, outcome.mlflow_run, seconds)
        run.update(state=FAILED)
        self.remove_leftovers(run)
        raise step_failed(run, outcome)

    def _external_inputs(self, request: Request, reachable: Settings, watch: Watch) -> dict[str, Any]:
        """Return the parameters that put external inputs into the cache keys: the data set, store and corrections."""
        settings, task = self.settings, self.settings.declaration
        chosen = request.parameters.get("dataset", catalog.AUTO)
        dataset = sources.resolve(task, chosen, settings.data, settings.home / "data")
        sources.check_place(task, dataset, settings.data)
        if dataset == catalog.FALLBACK and request.parameters.get("dataset") != catalog.FALLBACK:
            watch({"event": "fallback", "step": "fetch-mnist", "time": time.time()})
        check_writing(store := open_store(reachable))
        ledger.entries(store)  # `publish` cannot promote in a damaged ledger
        return {
            "dataset": dataset,
            "source": sources.digest(task, settings.data, request.parameters.get("source", "")),
            "store": self.step_settings().store,
            "feedback": correction_log.digest(store),
        }


def _mark_killed(settings: Settings, run: runs.Run) -> None:
    """Mark the MLflow run of a run that was killed."""
    from digits.release import mlflow_log

    ids = [event["run_id"] for event in events.EventLog(run.events).read_new() if event["event"] == "mlflow"]
    if ids:
        # If MLflow cannot be reached, the step that needs it will report that.
        with contextlib.suppress(DigitsError):
            mlflow_log.end_run(settings, ids[-1], mlflow_log.KILLED)

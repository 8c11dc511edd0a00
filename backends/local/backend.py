"""What the process and docker backends share: a run in a child process, watched through its events."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from backends import runs
from backends.base import CANCELED, FAILED, SUCCEEDED, Request, Result, StepState, Watch, with_champion
from backends.programs import finding_us
from digits import events
from digits.data import catalog, corrections, fetch
from digits.errors import DigitsError, Interrupted, StepFailed
from digits.release import deploy, ledger, releases
from digits.settings import ENDPOINT_VARIABLE, Settings
from digits.store import open_store

POLL_SECONDS = 0.03
STOP_SECONDS = 30.0
RUN_SECONDS = 24 * 3600.0
STEP_SECONDS = 6 * 3600
LEAST_SPACE = 64 << 10  # bytes

# Runs a step's command to its end with more variables in its environment, its output in a log; returns its exit code.
StartStep = Callable[[str, list[str], dict[str, str], Path], int]


class LocalBackend(ABC):
    """Runs the definition by kfp.local. See `backends.base.Backend` for the contract."""

    name: str

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def check(self) -> None:
        """See Backend."""

    @abstractmethod
    def prepare(self, watch: Watch) -> Settings:
        """Start what a run needs (object store, endpoint); returns the settings that this machine reaches them by."""

    @abstractmethod
    def here(self) -> Settings:
        """See Backend."""

    @abstractmethod
    def step_settings(self) -> Settings:
        """The settings as the steps need them."""

    @abstractmethod
    def step_endpoint(self) -> str:
        """Return the address of the endpoint as the steps reach it."""

    @abstractmethod
    def endpoint(self) -> str:
        """See Backend."""

    @abstractmethod
    def release_leftovers(self, run: runs.Run) -> None:
        """Remove what a run that ended badly may have left beside its processes."""

    def close(self) -> None:  # noqa: B027 # nothing to close is the usual case
        """See Backend."""

    def redeploy(self) -> str:
        """See Backend. The predictor follows the ledger by itself; this waits until it has."""
        if url := self.endpoint():
            store = open_store(self.here())
            deploy.wait_for(url, releases.load(store, ledger.champion(store)))
        return url

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        """See Backend."""
        for dead in runs.bury_dead(self.settings.home):
            self.release_leftovers(dead)
            _mark_killed(self.settings, dead)
        reached = self.prepare(watch)
        from pipeline import STEPS

        steps = {step: StepState() for step in STEPS}
        # What the world refuses (damaged data, a store that is away) is refused before there is a run to resume.
        parameters = request.parameters | self._resolved(request, reached, watch)
        run = runs.create(self.settings.home, self.name, Request(parameters, request.use_cache), resume)
        run.update(cache_root=str(runs.cache_root(self.settings.home, run, "pipeline", request, resume)))
        started = time.monotonic()
        watch({"event": "run", "step": "", "time": time.time(), "id": run.id, "folder": str(run.folder)})
        try:
            code, mlflow_run, failure = self._watch_engine(run, steps, watch)
        finally:
            runs.tidy(self.settings.home, run)
        seconds = time.monotonic() - started
        unfinished = [name for name, step in steps.items() if step.state not in {"done", "cached"}]
        if code == 0 and not unfinished:
            run.update(state=SUCCEEDED)
            outputs = with_champion(json.loads((run.folder / "result.json").read_text()))
            return Result(run.id, SUCCEEDED, steps, outputs, mlflow_run, seconds)
        run.update(state=FAILED)
        self.release_leftovers(run)
        raise _step_failed(run, steps, unfinished, failure, code)

    def _resolved(self, request: Request, reached: Settings, watch: Watch) -> dict[str, Any]:
        """Return the parameters that put external inputs into the cache keys: the data set, store and corrections."""
        dataset = fetch.resolve(
            request.parameters.get("dataset", catalog.AUTO), self.settings.data, self.settings.home / "data"
        )
        fetch.check_place(dataset, self.settings.data)
        if dataset == catalog.FALLBACK and request.parameters.get("dataset") != catalog.FALLBACK:
            watch({"event": "fallback", "step": "fetch-mnist", "time": time.time()})
        store = open_store(reached)
        return {
            "dataset": dataset,
            "store": self.step_settings().store,
            "feedback": corrections.digest(store),
        }

    def _watch_engine(
        self, run: runs.Run, steps: dict[str, StepState], watch: Watch
    ) -> tuple[int, str, dict[str, Any]]:
        """Run the engine to its end. Returns (exit code, MLflow's run id, the first step failure's event)."""
        reader, mlflow_run = events.EventLog(run.events), ""
        failure: events.Event = {}
        began: dict[str, float] = {}
        with (run.logs / "engine.log").open("wb") as log:
            engine = self._start_engine(run, log)
            try:
                deadline = time.monotonic() + RUN_SECONDS
                over = False
                while True:
                    over = engine.poll() is not None
                    for event in reader.read_new():
                        name, kind = event["step"], event["event"]
                        step = steps.get(name, StepState())
                        if kind == "started":
                            step.state, began[name] = "running", event["time"]
                        elif kind in {"finished", "cached", "failed", "exited"}:
                            step.state = {"finished": "done", "cached": "cached"}.get(kind, "failed")
                            step.seconds = event["time"] - began.get(name, event["time"])
                        elif kind == "mlflow":
                            mlflow_run = event["run_id"]
                        if kind in {"failed", "exited"} and not failure:
                            failure = event
                        watch(event)
                    if over:
                        return engine.wait(), mlflow_run, failure
                    if time.monotonic() > deadline:
                        raise DigitsError(f"run {run.id} took longer than {RUN_SECONDS / 3600:.0f} h; it was ended")
                    time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                raise Interrupted(
                    f"run {run.id} was interrupted; what was done is kept", remedy="digits run --resume"
                ) from None
            finally:
                if engine.poll() is None:
                    self._stop_engine(run, engine)
                elif engine.returncode:
                    # Of a step whose shell alone was killed, the work would go on.
                    runs.end_group(engine.pid, run.record()["engine_started"])

    def _start_engine(self, run: runs.Run, log: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = os.environ | self.step_settings().environ()
        environment |= {ENDPOINT_VARIABLE: self.step_endpoint()}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONUNBUFFERED": "1"}
        environment.pop("MLFLOW_RUN_ID", None)
        engine = subprocess.Popen(
            [sys.executable, "-m", "backends.local.engine", str(run.folder)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=finding_us(environment),
            start_new_session=True,
        )
        run.update(engine=engine.pid, engine_started=runs.started_at(engine.pid))
        return engine

    def _stop_engine(self, run: runs.Run, engine: subprocess.Popen[bytes]) -> None:
        """End a run's processes: the engine marks MLflow's run, its steps end with it."""
        # A second Ctrl-C must not cut this short; the deadline does.
        run.update(state=CANCELED)
        stopper = threading.Thread(target=_terminate, args=(engine,))
        stopper.start()
        while stopper.is_alive():
            try:
                stopper.join()
            except KeyboardInterrupt:
                continue
        runs.end_group(engine.pid, run.record()["engine_started"])
        self.release_leftovers(run)


def _terminate(engine: subprocess.Popen[bytes]) -> None:
    engine.terminate()
    try:
        engine.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        engine.kill()
        engine.wait()


def _mark_killed(settings: Settings, run: runs.Run) -> None:
    """Give the MLflow run of a run that was killed its last status."""
    from digits.release import mlflow_log

    made = [event["run_id"] for event in events.EventLog(run.events).read_new() if event["event"] == "mlflow"]
    if made:
        # A database that is away is the business of the step that needs it.
        with contextlib.suppress(DigitsError):
            mlflow_log.end_run(settings, made[-1], mlflow_log.KILLED)


def _step_failed(
    run: runs.Run, steps: dict[str, StepState], unfinished: list[str], failure: dict[str, Any], code: int
) -> StepFailed:
    at = [name for name in unfinished if steps[name].state == "running"] + unfinished + list(steps)[-1:]
    failed = failure.get("step") or at[0]
    log = run.logs / f"{failed if failure.get('step') else 'engine'}.log"
    if failure.get("event") == "failed":
        cause = failure["cause"]
    elif failure.get("event") == "exited":
        cause = describe_exit(failure["code"]) + last_lines(log)
    else:
        cause = f"the engine ended with {describe_exit(code)} before the step was done"
        if shutil.disk_usage(run.folder).free < LEAST_SPACE:  # then it could not say so itself
            cause += f"; no space is left in {run.folder}"
            failure = {"remedy": "free some space, or set DIGITS_HOME to another disk", "exit_code": 3}
    error = StepFailed(
        failed, cause, log=log if log.exists() else None, remedy=failure.get("remedy") or "digits run --resume"
    )
    if failure.get("exit_code"):
        error.exit_code = failure["exit_code"]
    return error


def describe_exit(code: int) -> str:
    """An exit code in words: those above 128, and negative ones, stand for signals."""
    number = -code if code < 0 else code - 128 if code > 128 else 0
    names = {9: "killed (SIGKILL; if nobody did, out of memory)", 15: "stopped (SIGTERM)", 11: "crashed (SIGSEGV)"}
    return f"exit code {code}" + (f": {names.get(number, f'signal {number}')}" if number else "")


def last_lines(log: Path, count: int = 5) -> str:
    """The end of a log, for a message; '' where there is none."""
    lines = log.read_text(errors="replace").split("\n")[-200:] if log.exists() else []
    kept = [line.rstrip() for line in lines if line.strip()][-count:]
    return "; its last words:\n    " + "\n    ".join(kept) if kept else ""

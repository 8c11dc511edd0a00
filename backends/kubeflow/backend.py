"""The kubeflow backend: a run of the compiled pipeline by a Kubeflow Pipelines API, submitted and watched from here.

See docs/kubeflow.md for what the cluster needs.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import urllib3

from backends import runs
from backends.base import CANCELED, FAILED, SUCCEEDED, Request, Result, StepState, Watch, as_it_stands
from backends.kubeflow.api import Pipelines
from backends.kubeflow.connection import Refused, Unreachable
from backends.kubeflow.submit import submission
from backends.kubeflow.watch import Observed, events_of, observe, tries_of
from digits.errors import DigitsError, Interrupted, RunGoesOn, StepFailed
from digits.files import write_whole
from digits.http import pool_for
from digits.settings import Settings

POLL_SECONDS = 2.0
RUN_SECONDS = 24 * 3600.0
OUTAGE_SECONDS = 300.0  # how long the API may be away while a run is watched
STOP_SECONDS = 60.0
REPORT_SECONDS = 10.0


class KubeflowBackend:
    """See `backends.base.Backend`."""

    name = "kubeflow"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.api = Pipelines(settings)

    def check(self) -> None:
        """See Backend."""
        self.api.check()

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        """See Backend. A run is resumed by another one: Kubeflow's cache has what was done.

        Raises:
            RunGoesOn: the run can no longer be watched: the token expired for good, the API stayed away, or it takes
                longer than a day.
        """
        from pipeline import STEPS

        runs.bury_dead(self.settings.home)
        run = runs.create(self.settings.home, self.name, request, resume)
        started = time.monotonic()
        try:
            asked = submission(self.settings, request)
            run.update(parameters=request.parameters | asked.parameters)
            run_id = self.api.submit(asked.spec, asked.name, asked.experiment, asked.parameters)
        except BaseException:
            run.update(state=FAILED)
            raise
        url = self.api.url(run_id)
        run.update(kubeflow_run=run_id, url=url)
        watch({"event": "run", "step": "", "time": time.time(), "id": run.id, "folder": str(run.folder)})
        watch({"event": "progress", "step": "", "time": time.time(), "text": url})
        steps = {step: StepState() for step in STEPS}
        try:
            try:
                last = self._wait(run_id, steps, watch)
            except KeyboardInterrupt:
                raise self._stop(run_id) from None
        except DigitsError as exc:
            run.update(state=CANCELED if isinstance(exc, Interrupted) else FAILED, why=exc.message)
            raise
        run.update(state=last.state if last.state in {SUCCEEDED, CANCELED} else FAILED)
        if last.state == CANCELED:
            raise Interrupted(f"run {run_id} was cancelled on Kubeflow: {url}", remedy="digits run --resume")
        if last.state != SUCCEEDED:
            raise self._failed(run, run_id, last, steps)
        outputs = self._outputs(run, run_id, last)
        mlflow_run = str(outputs.get("published", {}).get("mlflow_run", ""))
        self._fetch_report(run, mlflow_run)
        return Result(run.id, SUCCEEDED, steps, outputs, mlflow_run, time.monotonic() - started)

    def endpoint(self) -> str:
        """See Backend. Without a kubeconfig in DIGITS_HOME none is known."""
        from backends.kserve import rollout
        from backends.kserve.kube import Kube, is_ready

        namespace = self.settings.namespace
        try:
            found = Kube.connect(self.settings).get(rollout.path_of(namespace)) or {}
        except DigitsError:
            return ""
        return rollout.address_of(namespace) if is_ready(found) else ""

    def here(self) -> Settings:
        """See Backend. The cluster's store and tracking must be reachable by the same addresses from here."""
        return self.settings

    def redeploy(self) -> str:
        """See Backend."""
        if not self.endpoint():
            return ""
        from backends.kserve import rollout
        from digits.release import ledger, releases
        from digits.store import open_store

        store = open_store(self.settings)
        manifest = releases.load(store, ledger.champion(store))
        return rollout.deploy(self.settings, manifest, releases.uri_of(store, manifest["version"]))

    def close(self) -> None:
        """See Backend."""
        self.api.close()

    def _wait(self, run_id: str, steps: dict[str, StepState], watch: Watch) -> Observed:
        """Watch the run until it is in a final state, telling what changes."""
        url = self.api.url(run_id)
        deadline = time.monotonic() + RUN_SECONDS
        answered = time.monotonic()
        while True:
            try:
                seen = observe(self.api.run(run_id), steps)
            except Refused as exc:
                raise RunGoesOn(
                    f"run {run_id} goes on, but can no longer be watched: {exc.message}: {url}", remedy=exc.remedy
                ) from exc
            except Unreachable as exc:
                if time.monotonic() - answered > OUTAGE_SECONDS:
                    raise RunGoesOn(
                        f"run {run_id} may go on, but Kubeflow Pipelines has not answered for "
                        f"{OUTAGE_SECONDS:.0f} s: {exc.message}: {url}",
                        remedy=exc.remedy,
                    ) from exc
            else:
                answered = time.monotonic()
                for event in seen.events:
                    watch(event)
                if seen.over:
                    return seen
            if time.monotonic() > deadline:
                raise RunGoesOn(f"run {run_id} takes longer than {RUN_SECONDS / 3600:.0f} h and goes on: {url}")
            time.sleep(POLL_SECONDS)

    def _stop(self, run_id: str) -> DigitsError:
        """End a run on the server and wait until it has ended; returns the error that says how that went."""
        url = self.api.url(run_id)
        deadline = time.monotonic() + STOP_SECONDS
        try:
            try:
                self.api.terminate(run_id)
            except DigitsError as exc:
                return RunGoesOn(f"run {run_id} could not be stopped: {exc.message}", remedy=f"stop it on {url}")
            while not observe(self.api.run(run_id), {}).over:
                if time.monotonic() > deadline:
                    return Interrupted(f"run {run_id} was asked to stop, and is still stopping: {url}")
                time.sleep(POLL_SECONDS / 4)
        except (KeyboardInterrupt, DigitsError):
            return Interrupted(f"run {run_id} was asked to stop; whether it has is seen on {url}")
        return Interrupted(f"run {run_id} was stopped; what was done is kept", remedy="digits run --resume")

    def _failed(self, run: runs.Run, run_id: str, last: Observed, steps: dict[str, StepState]) -> StepFailed:
        """What is known of a failure: the step's own words where its log is still there, else Kubeflow's."""
        unfinished = [name for name, state in steps.items() if state.state not in {"done", "cached"}]
        failed = next((name for name in unfinished if steps[name].state == "failed"), (unfinished or ["?"])[0])
        log = self._log(run, run_id, last, failed)
        told = [event for event in events_of(log) if event["event"] == "failed"] if log else []
        cause, remedy = last.error or f"Kubeflow says {last.state} and no more", "digits run --resume"
        if told:
            cause, remedy = told[-1]["cause"], told[-1]["remedy"] or remedy
        kept = run.logs / f"{failed}.log" if log else None
        error = StepFailed(failed, f"{cause} ({self.api.url(run_id)})", log=kept, remedy=remedy)
        if told:
            error.exit_code = told[-1]["exit_code"]
        return error

    def _outputs(self, run: runs.Run, run_id: str, last: Observed) -> dict[str, Any]:
        """What the run answers, as its deploy step told it; {} where the pod's log is gone."""
        log = self._log(run, run_id, last, "deploy")
        told = [event["outputs"] for event in events_of(log) if event["event"] == "outputs"]
        return as_it_stands(told[-1], told[-1]["deployed"]["version"]) if told else {}  # deploy is never from the cache

    def _fetch_report(self, run: runs.Run, mlflow_run: str) -> None:
        """Get the report from MLflow's server, where one is reached from here; it is also on the run's page."""
        if not mlflow_run or not self.settings.tracking_uri.startswith("http"):
            return
        address = f"{self.settings.tracking_uri.rstrip('/')}/get-artifact"
        asked = {"path": "report.html", "run_uuid": mlflow_run}
        with contextlib.suppress(urllib3.exceptions.HTTPError, DigitsError):
            answer = pool_for(address).request("GET", address, fields=asked, timeout=REPORT_SECONDS, retries=False)
            if answer.status == 200:
                write_whole(run.folder / "report.html", answer.data)

    def _log(self, run: runs.Run, run_id: str, last: Observed, step: str) -> str:
        """The log of a step's last try, kept in the run's folder; '' where Kubeflow has none."""
        for node, pod in tries_of(last, step, self.settings.step_retries):
            for read, where in ((self.api.archived_log, node), (self.api.log, pod)):
                with contextlib.suppress(DigitsError):
                    if log := read(run_id, where):
                        (run.logs / f"{step}.log").write_text(log)
                        return log
        return ""

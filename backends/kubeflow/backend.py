"""The kubeflow backend: submits the compiled pipeline to Kubeflow Pipelines and watches the run.

docs/kubeflow.md has the requirements of the cluster.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable
from pathlib import Path

from backends import runs
from backends.base import CANCELED, FAILED, SUCCEEDED, Request, Result, StepState, Watch, with_champion
from backends.kubeflow.api import Pipelines
from backends.kubeflow.connection import Refused, Unreachable, understood
from backends.kubeflow.logs import fetch_report, step_log
from backends.kubeflow.submit import submission
from backends.kubeflow.watch import Message, Observed, correction, events_of, messages_of, observe
from digits import homes
from digits.errors import DigitsError, Interrupted, MissingError, RunContinues, StepFailed, UsageError
from digits.settings import Settings

POLL_SECONDS = 1.0
RUN_SECONDS = 24 * 3600.0
OUTAGE_SECONDS = 300.0  # how long the API may be unreachable while a run is watched
STOP_SECONDS = 60.0
MESSAGE_SECONDS = 10.0  # between two requests for what the pods wait for
UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # the form of Kubeflow's ids, and of none of ours
CONTINUES = "CONTINUES"  # state in the record of a run that was watched only until some time before its end


class KubeflowBackend:
    """See `backends.base.Backend`."""

    name = "kubeflow"
    again = "digits run --resume"  # the command that continues a run

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.api = Pipelines(settings)

    def check(self) -> None:
        self.api.check()

    def run(self, request: Request, watch: Watch, *, resume: str = "") -> Result:
        """See Backend. A resumed run is a new run, which takes completed steps from Kubeflow's cache.

        Raises:
            RunContinues: the run can no longer be watched: the token has expired, the API has not answered for five
                minutes, or the run takes longer than a day.
            UsageError: the run to resume continues on Kubeflow, or has succeeded there unwatched.
        """
        homes.claim(self.settings.home)
        runs.reap_dead_runs(self.settings.home)
        if resume:
            self._refuse_unless_ended(runs.find(self.settings.home, resume))
        run = runs.create(self.settings.home, self.name, request, resume)
        started = time.monotonic()
        try:
            new = submission(self.settings, request)
            run.update(parameters=request.parameters | new.parameters)
            run_id = self.api.submit(new.spec, new.name, new.experiment, new.parameters)
        except BaseException:
            run.update(state=FAILED)
            raise
        run.update(kubeflow_run=run_id, url=self.api.url(run_id))
        return self._follow(run, run_id, watch, started)

    def watch(self, name: str, watch: Watch) -> Result:
        """Watch a run on Kubeflow to its end; return its result, and record it.

        `name` is its id on this machine, '' for the newest run, or on Kubeflow. A run that was not started by
        `digits run` on this machine gets a record here.

        Raises:
            MissingError: there is no such run on this machine.
            UsageError: the run was not submitted to Kubeflow.
            DigitsError: Kubeflow has no such run.
        """
        run = self._recorded(name)
        run_id = run.record().get("kubeflow_run")
        if not run_id:
            raise UsageError(f"run {run.id} was not submitted to Kubeflow", remedy="digits run")
        return self._follow(runs.hold(run), run_id, watch, time.monotonic())

    def _recorded(self, name: str) -> runs.Run:
        home = self.settings.home
        if not re.fullmatch(UUID, name):
            return runs.find(home, name)
        recorded = [run for run in runs.all_runs(home) if run.record().get("kubeflow_run") == name]
        if recorded:
            return recorded[-1]
        config = self.api.run(name).runtime_config
        homes.claim(home)
        run = runs.create(home, self.name, Request((config and config.parameters) or {}))
        run.update(kubeflow_run=name, url=self.api.url(name))
        return run

    def _follow(self, run: runs.Run, run_id: str, watch: Watch, started: float) -> Result:
        """Watch a run to its end. Record how it ended, and return its result or raise why there is none."""
        from pipeline import STEPS

        watch({"event": "run", "step": "", "time": time.time(), "id": run.id, "folder": str(run.folder)})
        steps = {step: StepState() for step in STEPS}
        try:
            last = self._to_end(run_id, steps, watch, run.logs)
        except DigitsError as exc:
            states: dict[type, str] = {Interrupted: CANCELED, RunContinues: CONTINUES}
            run.update(state=states.get(type(exc), FAILED), why=exc.message)
            raise
        run.update(state=SUCCEEDED)
        # Without outputs if the log of the last step is no longer available.
        outputs, mlflow_run = {}, ""
        for event in events_of(self._log(run.logs, run_id, last, "deploy"), "deploy"):
            with contextlib.suppress(LookupError, TypeError):  # another program wrote that line into the log
                if event["event"] == "outputs":
                    outputs = with_champion(event["outputs"])
                    mlflow_run = str(outputs["published"]["mlflow_run"])
        fetch_report(self.settings.tracking_uri, mlflow_run, run.folder)
        return Result(run.id, SUCCEEDED, steps, outputs, mlflow_run, time.monotonic() - started)

    def _to_end(self, run_id: str, steps: dict[str, StepState], watch: Watch, logs: Path) -> Observed:
        """Watch a run until it has succeeded; raise why it did not, or why it can no longer be watched."""
        place = self.api.place(run_id)
        watch({"event": "progress", "step": "", "time": time.time(), "text": place})
        try:
            try:
                last = self._wait(run_id, steps, watch)
            except KeyboardInterrupt:
                raise self._stop(run_id) from None
        except RunContinues as exc:
            exc.remedy = ", then ".join(filter(None, (exc.remedy, f"digits watch {run_id}")))
            raise
        if last.state == CANCELED:
            raise Interrupted(f"run {run_id} was cancelled on Kubeflow: {place}", remedy=self.again)
        if last.state != SUCCEEDED:
            raise self._failed(logs, run_id, last, steps)
        return last

    def endpoint(self) -> str:
        """See Backend. Returns '' if there is no kubeconfig in DIGITS_HOME."""
        from backends.kserve.kube import Kube, is_ready
        from backends.kserve.service import cluster_url, service_path

        place = self.settings.namespace, self.settings.declaration.name
        try:
            with (kube := Kube.connect(self.settings)).understood():
                return cluster_url(*place) if is_ready(kube.get(service_path(*place)) or {}) else ""
        except DigitsError:
            return ""

    def host_settings(self) -> Settings:
        """See Backend. This machine must reach the cluster's store and MLflow by the same addresses as the steps."""
        return self.settings

    def redeploy(self) -> str:
        from backends.kserve import rollout
        from backends.kserve.kube import Kube
        from backends.kserve.service import service_path
        from digits.release import ledger, releases
        from digits.store import open_store

        # Without access to the cluster this fails, so that the endpoint never differs silently from the ledger.
        if not Kube.connect(self.settings).get(service_path(self.settings.namespace, self.settings.declaration.name)):
            return ""
        store = open_store(self.settings)
        manifest = releases.load(store, ledger.champion(store))
        return rollout.deploy(self.settings, manifest, releases.release_uri(store, manifest["version"]))

    def close(self) -> None:
        self.api.close()

    def _refuse_unless_ended(self, run: runs.Run) -> None:
        """Raise UsageError if the run to resume continues on Kubeflow, or has succeeded there unwatched."""
        record = run.record()
        run_id = record.get("kubeflow_run")
        if not run_id:  # it was never submitted
            return
        try:
            observed = self._observe(run_id, {})
        except MissingError:  # no answer, or no access
            raise
        except DigitsError:  # deleted on Kubeflow
            return
        if not observed.final:
            raise UsageError(
                f"run {run.id} continues on Kubeflow: {self.api.place(run_id)}", remedy=f"digits watch {run.id}"
            )
        if observed.state == SUCCEEDED != record["state"]:
            run.update(state=SUCCEEDED)
            raise UsageError(
                f"run {run.id} has succeeded on Kubeflow: {self.api.place(run_id)}",
                remedy="digits run, for another run",
            )

    def _observe(self, run_id: str, steps: dict[str, StepState]) -> Observed:
        with understood(self.api.host):
            return observe(self.api.run(run_id), steps)

    def _wait(self, run_id: str, steps: dict[str, StepState], watch: Watch) -> Observed:
        """Pass changes to `watch` until the run has ended; return its final state."""
        url = self.api.place(run_id)
        deadline = time.monotonic() + RUN_SECONDS
        last_answer = last_look = time.monotonic()
        answered = True
        shown: set[Message] = set()
        while True:
            try:
                observed = self._observe(run_id, steps)
            except Refused as exc:
                raise RunContinues(
                    f"run {run_id} continues, but can no longer be watched: {exc.message}: {url}", remedy=exc.remedy
                ) from exc
            except Unreachable as exc:
                if time.monotonic() - last_answer > OUTAGE_SECONDS:
                    raise RunContinues(
                        f"run {run_id} may continue, but Kubeflow Pipelines has not answered for "
                        f"{OUTAGE_SECONDS:.0f} s: {exc.message}: {url}",
                        remedy=exc.remedy,
                    ) from exc
                if answered:
                    text = f"{exc.message}; trying again"
                    watch({"event": "progress", "step": "", "time": time.time(), "text": text})
                answered = False
            else:
                answered = True
                last_answer = time.monotonic()
                for event in observed.events:
                    watch(event)
                if observed.final:
                    return observed
                if time.monotonic() - last_look > MESSAGE_SECONDS:
                    last_look = time.monotonic()
                    self._show_messages(run_id, steps, watch, shown)
            if time.monotonic() > deadline:
                raise RunContinues(
                    f"run {run_id} takes longer than {RUN_SECONDS / 3600:.0f} h and continues: {url}",
                    remedy="wait until it has ended, or terminate it on that page",
                )
            time.sleep(POLL_SECONDS)

    def _show_messages(self, run_id: str, steps: Iterable[str], watch: Watch, shown: set[Message]) -> None:
        """Report what pods wait for, each message once. If one waits for what does not come, raise StepFailed."""
        for message in set(messages_of(self.api.nodes(run_id), steps)) - shown:
            shown.add(message)
            corrected = correction(message.text)
            again = f"; try: {corrected}" if corrected and not message.permanent else ""
            text = f"{message.step}: {message.text}{again}"
            watch({"event": "progress", "step": message.step, "time": time.time(), "text": text})
            if message.permanent:
                with contextlib.suppress(DigitsError):  # the reason is what the user needs
                    self.api.terminate(run_id)
                cause = f"{message.text} ({self.api.place(run_id)})"
                raise StepFailed(message.step, cause, remedy=self._after(corrected or "correct it"))

    def _stop(self, run_id: str) -> DigitsError:
        """Terminate a run and wait until it has ended; return the error that reports the result."""
        url, deadline = self.api.place(run_id), time.monotonic() + STOP_SECONDS
        try:
            try:
                self.api.terminate(run_id)
            except DigitsError as exc:
                remedy = f"stop it on {url}" if self.api.url(run_id) else exc.remedy
                return RunContinues(f"run {run_id} could not be stopped: {exc.message}", remedy=remedy)
            while not self._observe(run_id, {}).final:
                if time.monotonic() > deadline:
                    return Interrupted(f"run {run_id} was asked to stop, and is still stopping: {url}")
                time.sleep(POLL_SECONDS / 4)
        except (KeyboardInterrupt, DigitsError):
            return Interrupted(f"run {run_id} was asked to stop; whether it has stopped is shown on {url}")
        return Interrupted(f"run {run_id} was stopped; completed steps are kept", remedy=self.again)

    def _failed(self, logs: Path, run_id: str, last: Observed, steps: dict[str, StepState]) -> StepFailed:
        """Return the error for a failed run: the step's own message if its log is available, else Kubeflow's."""
        unfinished = [name for name, state in steps.items() if state.state not in {"done", "cached"}]
        failed = next((name for name in unfinished if steps[name].state == "failed"), (unfinished or ["?"])[0])
        # Argo also knows of pods that never started, which the API reports without a reason.
        if first := next((message for message in messages_of(self.api.nodes(run_id), steps) if message.failed), None):
            failed, last.error = first.step, last.error or first.text
        log = self._log(logs, run_id, last, failed)
        failures = [event for event in events_of(log, failed) if event["event"] == "failed"]
        cause = last.error or f"Kubeflow reports {last.state} without a reason"
        remedy = self._after(correction(cause))
        if failures:
            cause, remedy = str(failures[-1].get("cause", cause)), str(failures[-1].get("remedy") or remedy)
        path = logs / f"{failed}.log" if log else None
        error = StepFailed(failed, f"{cause} ({self.api.place(run_id)})", log=path, remedy=remedy)
        if failures:
            with contextlib.suppress(TypeError, ValueError):
                error.exit_code = int(failures[-1].get("exit_code", error.exit_code))
        return error

    def _after(self, corrected: str) -> str:
        """Return the command that continues a run, after what must be corrected first, if anything."""
        return f"{corrected}, then {self.again}" if corrected else self.again

    def _log(self, logs: Path, run_id: str, last: Observed, step: str) -> str:
        return step_log(self.api, run_id, last.nodes, step, logs, retries=self.settings.step_retries)

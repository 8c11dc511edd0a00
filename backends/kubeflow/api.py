"""The Kubeflow Pipelines API (v2beta1), through the generated client that kfp.Client wraps.

kfp.Client itself is left out: its calls have no deadline, its wait never ends on a run that was cancelled and meets
an expired token with Google's (kubeflow/pipelines 2.17), it keeps a namespace in the user's home and prints.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api
from kfp_server_api import models

from backends.kubeflow.connection import Client, Unreachable
from digits.errors import DigitsError, UsageError
from digits.settings import Settings

PAGE = 100

Json = dict[str, Any]


class Pipelines:
    """One Pipelines API. Every call has a deadline; foreign errors come out as ours, with the host in them.

    Raises:
        UsageError: there is no host, or it is no URL.
        MissingError: the file with the token or the authorities is not there.
    """

    def __init__(self, settings: Settings) -> None:
        host = settings.kfp_host.rstrip("/")
        if urlsplit(host).scheme not in {"http", "https"}:
            raise UsageError(
                f"DIGITS_KFP_HOST: expected the address of Kubeflow Pipelines, http(s)://…, got {host!r}",
                remedy="kubectl -n kubeflow port-forward svc/ml-pipeline 8888, then DIGITS_KFP_HOST=http://127.0.0.1:8888",
            )
        self.host, self._settings = host, settings
        self._multi_user = False
        client = Client(settings, host)
        self._client = client
        self._health = kfp_server_api.HealthzServiceApi(client)
        self._experiments = kfp_server_api.ExperimentServiceApi(client)
        self._pipelines = kfp_server_api.PipelineServiceApi(client)
        self._uploads = kfp_server_api.PipelineUploadServiceApi(client)
        self._runs = kfp_server_api.RunServiceApi(client)
        self._schedules = kfp_server_api.RecurringRunServiceApi(client)

    @property
    def _namespace(self) -> Json:
        """The argument that a multi-user Kubeflow demands and a single-user one refuses."""
        return {"namespace": self._settings.namespace} if self._multi_user else {}

    def check(self) -> None:
        """Ask whether it answers and knows us. Raises Unreachable or Refused."""
        self._multi_user = bool(self._health.healthz_service_get_healthz().multi_user)
        self._experiments.experiment_service_list_experiments(page_size=1, **self._namespace)

    def submit(self, spec: Json, name: str, experiment: str, parameters: Json) -> str:
        """Start a run of a compiled pipeline in `experiment`, which is made if there is none. Returns the run's id."""
        with self._in_experiment(experiment) as where:
            body = models.V2beta1Run(**self._asked(spec, name, where, parameters))
            try:
                return str(self._runs.run_service_create_run(run=body).run_id)
            except Unreachable:
                # The answer was lost; whether the request was, only a look can tell. Names of runs are ours alone.
                found = self._runs.run_service_list_runs(experiment_id=where, filter=_named(name)).runs
                if not found:
                    raise
                return str(found[0].run_id)

    def run(self, run_id: str) -> Any:
        """The run as it stands: `V2beta1Run`."""
        return self._runs.run_service_get_run(run_id)

    def terminate(self, run_id: str) -> None:
        """Ask for the run's end."""
        self._runs.run_service_terminate_run(run_id)

    def log(self, run_id: str, pod: str) -> str:
        """What a pod of the run has written; '' where that is not to be had. Raises DigitsError."""
        path = f"{self.host}/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log"
        found: str = self._client.request("GET", path, _preload_content=True).data.decode(errors="replace")
        return "" if found.startswith('{"error_message"') else found  # it answers 200 before it looks

    def archived_log(self, run_id: str, node: str) -> str:
        """What Argo kept of the log of one of its nodes. Raises DigitsError where it kept none.

        The one whole log in a single-user Kubeflow as released (2.17): its API may not read pods' logs there, answers
        `log` from this archive instead, and leaves out every line that is JSON, as events are.
        """
        path = f"{self.host}/apis/v2beta1/runs/{run_id}/nodes/{node}/artifacts/main-logs:read"
        found = json.loads(self._client.request("GET", path, _preload_content=True).data)
        return base64.b64decode(found["data"]).decode(errors="replace")

    def upload(self, package: Path, pipeline: str, version: str) -> tuple[str, str, bool]:
        """Upload a compiled pipeline as a version of `pipeline`, which is made if there is none.

        Returns (the pipeline's id, the version's id, whether this made it): a version of that name is not made twice.
        """
        found = self._pipelines.pipeline_service_list_pipelines(filter=_named(pipeline), **self._namespace).pipelines
        if found:
            where = str(found[0].pipeline_id)
            there = self._pipelines.pipeline_service_list_pipeline_versions(where, filter=_named(version))
            if there.pipeline_versions:
                return where, str(there.pipeline_versions[0].pipeline_version_id), False
        else:
            new = models.V2beta1Pipeline(name=pipeline, display_name=pipeline, **self._namespace)
            where = str(self._pipelines.pipeline_service_create_pipeline(pipeline=new).pipeline_id)
        try:
            made = self._uploads.upload_pipeline_version(str(package), name=version, pipelineid=where)
        except DigitsError:
            if not found:
                with contextlib.suppress(DigitsError):
                    self._pipelines.pipeline_service_delete_pipeline(where)
            raise
        return where, str(made.pipeline_version_id), True

    def schedule(self, spec: Json, name: str, experiment: str, parameters: Json, trigger: Json) -> str:
        """Run a compiled pipeline at set times. `trigger` is {"cron": …} or {"every": seconds}. Returns its id."""
        if "cron" in trigger:
            when = models.V2beta1Trigger(cron_schedule=models.V2beta1CronSchedule(cron=trigger["cron"]))
        else:
            period = models.V2beta1PeriodicSchedule(interval_second=str(trigger["every"]))
            when = models.V2beta1Trigger(periodic_schedule=period)
        with self._in_experiment(experiment) as where:
            body = models.V2beta1RecurringRun(
                **self._asked(spec, name, where, parameters),
                trigger=when,
                mode=models.RecurringRunMode.ENABLE,
                max_concurrency="1",  # two runs would train the same at the same time
                no_catchup=True,  # after an outage one run is enough
            )
            made = self._schedules.recurring_run_service_create_recurring_run(recurring_run=body)
        return str(made.recurring_run_id)

    def schedules(self, name: str) -> list[Json]:
        """[{"id", "when", "status"}] of the schedules of that name, oldest first."""
        found: list[Json] = []
        token = ""
        while True:
            page = self._schedules.recurring_run_service_list_recurring_runs(
                page_size=PAGE, page_token=token, filter=_named(name), **self._namespace
            )
            for item in page.recurring_runs or []:
                cron, every = item.trigger.cron_schedule, item.trigger.periodic_schedule
                when = cron.cron if cron else f"every {every.interval_second} s"
                found.append({"id": item.recurring_run_id, "when": when, "status": item.status})
            token = page.next_page_token
            if not token:
                return found

    def unschedule(self, schedule_id: str) -> None:
        """Remove a schedule. Kubernetes then removes its runs' pods too; one that goes on says RUNNING for ever."""
        self._schedules.recurring_run_service_delete_recurring_run(schedule_id)

    def url(self, run_id: str) -> str:
        """The page of a run."""
        return f"{self.host}/#/runs/details/{run_id}"

    def close(self) -> None:
        """Let go of connections."""
        self._client.rest_client.pool_manager.clear()

    def _asked(self, spec: Json, name: str, experiment_id: str, parameters: Json) -> Json:
        """What a run and a schedule of runs are both made of."""
        return {
            "display_name": name,
            "experiment_id": experiment_id,
            "pipeline_spec": spec,
            "runtime_config": models.V2beta1RuntimeConfig(parameters=parameters),
            "service_account": self._settings.kfp_service_account or None,
        }

    @contextlib.contextmanager
    def _in_experiment(self, name: str) -> Iterator[str]:
        """The id of an experiment, made if there is none, and gone again if then nothing comes of it."""
        service = self._experiments
        found = service.experiment_service_list_experiments(filter=_named(name), **self._namespace).experiments
        if found:
            yield str(found[0].experiment_id)
            return
        body = models.V2beta1Experiment(display_name=name, **self._namespace)
        made = str(service.experiment_service_create_experiment(experiment=body).experiment_id)
        try:
            yield made
        except DigitsError:
            with contextlib.suppress(DigitsError):
                service.experiment_service_delete_experiment(made)
            raise


def _named(name: str) -> str:
    """The filter for one display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})

"""The Kubeflow Pipelines API (v2beta1), through the generated client that kfp.Client wraps.

kfp.Client of kubeflow/pipelines 2.17 is not used: its calls have no deadline, and its wait never ends if a run is
cancelled. It also replaces an expired token by a Google token, stores a namespace in the user's home, and prints.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import kfp_server_api
from kfp_server_api import models

from backends.kubeflow.connection import CONNECT_SECONDS, Client, Unreachable, api_call
from digits.errors import DigitsError, UsageError, mask_address, mask_url
from digits.files import parse_json
from digits.settings import Settings

PAGE, MAX_PAGES = 100, 100
RUN_SECONDS = 15  # for the answer about a run, so that a watcher soon notices an API that is gone

Json = dict[str, Any]


class Pipelines:
    """One Pipelines API. Every call has a deadline, and raises `digits.errors` with the host in the message.

    Raises:
        UsageError: the host is missing or is not a URL.
        MissingError: the file with the token or the certificate authorities does not exist.
    """

    def __init__(self, settings: Settings) -> None:
        host = settings.kfp_host.rstrip("/")
        if urlsplit(host).scheme not in {"http", "https"}:
            raise UsageError(
                f"DIGITS_KFP_HOST: expected the address of Kubeflow Pipelines, http(s)://…, got {mask_address(host)!r}",
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
        """Return the argument that a multi-user Kubeflow requires and a single-user one refuses."""
        return {"namespace": self._settings.namespace} if self._multi_user else {}

    @api_call
    def check(self) -> None:
        """Check that the API answers and accepts our credentials. Raises Unreachable or Refused."""
        self._multi_user = bool(self._health.healthz_service_get_healthz().multi_user)
        self._experiments.experiment_service_list_experiments(page_size=1, **self._namespace)

    @api_call
    def submit(self, spec: Json, name: str, experiment: str, parameters: Json) -> str:
        """Start a run of a compiled pipeline in `experiment`, which is created if needed, and return the run's id.

        Raises:
            UsageError: the run is to use Kubeflow's MLflow plugin, which did not make a run; it is terminated.
        """
        with self._in_experiment(experiment) as experiment_id:
            fields = self._run_fields(spec, name, experiment_id, parameters)
            # Kubernetes refuses a pod that gets MLFLOW_TRACKING_URI from Kubeflow's MLflow plugin and our ConfigMap, so
            # a run that does not ask for the plugin switches it off.
            plugin = {"experiment_name": experiment} if self._settings.kfp_mlflow else {"disabled": True}
            body = models.V2beta1Run(**fields, plugins_input={"mlflow": plugin})
            try:
                created = self._runs.run_service_create_run(run=body)
            except Unreachable:
                matches = self._named(name, experiment_id)
                if not matches:
                    raise
                created = matches[0]
            except KeyboardInterrupt:
                with contextlib.suppress(DigitsError):  # without an answer nothing is known of a run
                    for run in self._named(name, experiment_id):
                        self.terminate(str(run.run_id))
                raise
            if self._settings.kfp_mlflow:
                self._check_plugin(created)
            return str(created.run_id)

    def _named(self, name: str, experiment_id: str) -> list[Any]:
        """Return the runs of that name, which is unique; one may exist whose creation got no response."""
        return self._runs.run_service_list_runs(experiment_id=experiment_id, filter=_by_name(name)).runs or []

    def _check_plugin(self, run: Any) -> None:
        """Terminate a run that would be recorded nowhere: Kubeflow runs it without its MLflow plugin, and is silent."""
        output = (run.plugins_output or {}).get("mlflow")
        if output and output.state == "PLUGIN_SUCCEEDED":
            return
        with contextlib.suppress(DigitsError):
            self.terminate(str(run.run_id))
        why = f"failed: {output.state_message or output.state}" if output else "is not switched on"
        raise UsageError(
            f"Kubeflow's MLflow plugin {why}",
            remedy="set DIGITS_KFP_MLFLOW=0, or ask the cluster's administrator for the plugin",
        )

    @api_call
    def run(self, run_id: str) -> Any:
        """Return the current `V2beta1Run`."""
        return self._runs.run_service_get_run(run_id, _request_timeout=(CONNECT_SECONDS, RUN_SECONDS))

    def nodes(self, run_id: str) -> Json:
        """Return the nodes of a run's workflow by their ids, as Argo reports them; {} if this API does not.

        API v2beta1 has no messages of nodes, so this is API v1beta1, which Kubeflow Pipelines 2.17 still serves.
        """
        path = f"{self.host}/apis/v1beta1/runs/{quote(run_id, '')}"
        with contextlib.suppress(DigitsError, ValueError, LookupError, TypeError):
            content = parse_json(self._client.request("GET", path, _preload_content=True).data)
            return dict(parse_json(content["pipeline_runtime"]["workflow_manifest"])["status"]["nodes"])
        return {}

    @api_call
    def terminate(self, run_id: str) -> None:
        """Request that a run ends; this does not wait."""
        self._runs.run_service_terminate_run(run_id)

    @api_call
    def delete(self, run_id: str) -> None:
        """Delete a run that has ended, with its pods."""
        self._runs.run_service_delete_run(run_id)

    @api_call
    def log(self, run_id: str, pod: str) -> str:
        """Return the log of a pod of the run; '' if it is not available. Raises DigitsError."""
        path = f"{self.host}/apis/v1alpha1/runs/{quote(run_id, '')}/nodes/{quote(pod, '')}/log"
        text: str = self._client.request("GET", path, _preload_content=True).data.decode(errors="replace")
        return "" if text.startswith('{"error_message"') else text  # the API sends status 200 for a missing pod too

    @api_call
    def archived_log(self, run_id: str, node: str) -> str:
        """Return the log of a workflow's node from Argo's archive. Raises DigitsError if there is none.

        In single-user Kubeflow 2.17 the API may not read pods' logs; `log` then serves this archive without its JSON
        lines, which are our events. Only the archive is complete.
        """
        path = f"{self.host}/apis/v2beta1/runs/{quote(run_id, '')}/nodes/{quote(node, '')}/artifacts/main-logs:read"
        content = parse_json(self._client.request("GET", path, _preload_content=True).data)
        return base64.b64decode(content["data"]).decode(errors="replace")

    @api_call
    def upload(self, package: Path, pipeline: str, version: str) -> tuple[str, str, bool]:
        """Upload a compiled pipeline as a version of `pipeline`, which is created if needed.

        Returns (the pipeline's id, the version's id, whether it is new): an existing version of that name is kept.
        """
        matches = self._pipelines.pipeline_service_list_pipelines(
            filter=_by_name(pipeline), **self._namespace
        ).pipelines
        if matches:
            pipeline_id = str(matches[0].pipeline_id)
            listing = self._pipelines.pipeline_service_list_pipeline_versions(pipeline_id, filter=_by_name(version))
            if listing.pipeline_versions:
                return pipeline_id, str(listing.pipeline_versions[0].pipeline_version_id), False
        else:
            body = models.V2beta1Pipeline(name=pipeline, display_name=pipeline, **self._namespace)
            pipeline_id = str(self._pipelines.pipeline_service_create_pipeline(pipeline=body).pipeline_id)
        try:
            created = self._uploads.upload_pipeline_version(str(package), name=version, pipelineid=pipeline_id)
        except DigitsError:
            if not matches:
                with contextlib.suppress(DigitsError):
                    self._pipelines.pipeline_service_delete_pipeline(pipeline_id)
            raise
        return pipeline_id, str(created.pipeline_version_id), True

    @api_call
    def schedule(self, spec: Json, name: str, experiment: str, parameters: Json, trigger: Json) -> str:
        """Schedule runs of a compiled pipeline and return the schedule's id.

        `trigger` is {"cron": expression} or {"every": seconds}. Kubeflow 2.17.0 never starts a run of a schedule that
        has both a pipeline of its own and `plugins_input`. Without the latter, no plugin acts on its runs.

        Raises:
            UsageError: the runs are to use Kubeflow's MLflow plugin.
        """
        if self._settings.kfp_mlflow:
            raise UsageError(
                "Kubeflow 2.17 starts no scheduled run that uses its MLflow plugin",
                remedy="set DIGITS_KFP_MLFLOW=0, and MLFLOW_TRACKING_URI in the ConfigMap",
            )
        if "cron" in trigger:
            when = models.V2beta1Trigger(cron_schedule=models.V2beta1CronSchedule(cron=trigger["cron"]))
        else:
            period = models.V2beta1PeriodicSchedule(interval_second=str(trigger["every"]))
            when = models.V2beta1Trigger(periodic_schedule=period)
        with self._in_experiment(experiment) as experiment_id:
            body = models.V2beta1RecurringRun(
                **self._run_fields(spec, name, experiment_id, parameters),
                trigger=when,
                mode=models.RecurringRunMode.ENABLE,
                max_concurrency="1",  # two runs at the same time would train the same model
                no_catchup=True,  # after an outage, one run is enough
            )
            created = self._schedules.recurring_run_service_create_recurring_run(recurring_run=body)
        return str(created.recurring_run_id)

    @api_call
    def schedules(self, name: str) -> list[Json]:
        """Return [{"id", "when", "status"}] of the schedules of that name, oldest first."""
        schedules: list[Json] = []
        token = ""
        for _ in range(MAX_PAGES):
            page = self._schedules.recurring_run_service_list_recurring_runs(
                page_size=PAGE, page_token=token, filter=_by_name(name), **self._namespace
            )
            for item in page.recurring_runs or []:
                cron, every = item.trigger.cron_schedule, item.trigger.periodic_schedule
                when = cron.cron if cron else f"every {every.interval_second} s"
                schedules.append({"id": item.recurring_run_id, "when": when, "status": item.status})
            token = page.next_page_token
            if not token:
                return schedules
        raise ValueError(f"more than {MAX_PAGES} pages of schedules")

    @api_call
    def unschedule(self, schedule_id: str) -> None:
        """Remove a schedule. Kubernetes also removes the pods of its runs; an unfinished run stays RUNNING forever."""
        self._schedules.recurring_run_service_delete_recurring_run(schedule_id)

    def url(self, run_id: str) -> str:
        """Return the address of a run's page, without credentials, because it is printed and recorded.

        It is '' if DIGITS_KFP_UI is not set and the API has no gateway, which serves page and API at /pipeline.
        """
        page = self._settings.kfp_ui.rstrip("/") or (self.host if self.host.endswith("/pipeline") else "")
        return mask_url(f"{page}/#/runs/details/{run_id}") if page else ""

    def place(self, run_id: str) -> str:
        """Return the address of a run's page, or the command that shows the run."""
        return self.url(run_id) or f"kubectl get workflows -A -l pipeline/runid={run_id}"

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.pool_manager.clear()

    def _run_fields(self, spec: Json, name: str, experiment_id: str, parameters: Json) -> Json:
        """Return the fields that a run and a schedule have in common."""
        return {
            "display_name": name,
            "experiment_id": experiment_id,
            "pipeline_spec": spec,
            "runtime_config": models.V2beta1RuntimeConfig(parameters=parameters),
            "service_account": self._settings.kfp_service_account or None,
        }

    @contextlib.contextmanager
    def _in_experiment(self, name: str) -> Iterator[str]:
        """Yield the id of an experiment, which is created if needed, and deleted again if the block then fails."""
        service = self._experiments
        matches = service.experiment_service_list_experiments(filter=_by_name(name), **self._namespace).experiments
        if matches:
            yield str(matches[0].experiment_id)
            return
        body = models.V2beta1Experiment(display_name=name, **self._namespace)
        experiment_id = str(service.experiment_service_create_experiment(experiment=body).experiment_id)
        try:
            yield experiment_id
        except DigitsError:
            with contextlib.suppress(DigitsError):
                service.experiment_service_delete_experiment(experiment_id)
            raise


def _by_name(name: str) -> str:
    """Return the filter for one display name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})

"""Runs of the kubeflow backend against a server of the Pipelines API, with faults."""

from __future__ import annotations

import dataclasses
import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from kfp_server_api import RunServiceApi

from backends import runs
from backends.base import Request, Result
from backends.kubeflow import backend as kubeflow
from backends.kubeflow.backend import KubeflowBackend
from digits.errors import DigitsError, Interrupted, MissingError, RunContinues, StepFailed, UsageError
from digits.settings import Settings
from pipeline import STEPS
from tests.helpers.kfp_api import Pipelines
from tests.helpers.kfp_runs import OUTPUTS, SECRETS, invoke, node, node_of, pod, succeeded, task, tasks
from tests.helpers.kubernetes_api import ServiceApi, kubernetes_api, write_kubeconfig


def run(settings: Settings, events: list[Any] | None = None, **parameters: Any) -> Result:
    backend = KubeflowBackend(settings)
    try:
        backend.check()
        return backend.run(Request(parameters), [].append if events is None else events.append)
    finally:
        backend.close()


def test_a_run_is_watched_to_its_end(settings: Settings, api: Pipelines) -> None:
    """Steps are reported as they change, and the outputs are those of a run on this machine."""
    succeeded(api, "train")
    events: list[Any] = []
    result = run(settings, events, epochs=5)
    assert result.state == "SUCCEEDED"
    assert result.outputs == OUTPUTS
    assert result.mlflow_run == "f00"
    assert {name: step.state for name, step in result.steps.items()} == {
        step: "cached" if step == "train" else "done" for step in STEPS
    }
    changes = [(event["event"], event["step"]) for event in events]
    assert changes.index(("started", "fetch-mnist")) < changes.index(("finished", "fetch-mnist"))
    assert ("cached", "train") in changes
    (sent,) = api.runs.values()
    assert sent["runtime_config"]["parameters"]["epochs"] == 5
    assert set(sent["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    assert api.experiments[sent["experiment_id"]]["display_name"] == "digits-recognizer-kfp"
    record = runs.find(settings.home).record()
    assert (record["state"], record["url"]) == ("SUCCEEDED", f"https://kubeflow.test/#/runs/details/{sent['run_id']}")


@pytest.mark.parametrize(("plugin", "sent"), [(0, {"disabled": True}), (1, {"experiment_name": "mine"})])
def test_mlflows_plugin_gets_the_experiment_or_is_switched_off(
    settings: Settings, api: Pipelines, plugin: int, sent: dict[str, Any]
) -> None:
    """The plugin logs into the run's experiment; without DIGITS_KFP_MLFLOW it is off for this run."""
    run(dataclasses.replace(settings, kfp_mlflow=plugin), experiment="mine")
    (body,) = api.runs.values()
    assert body["plugins_input"] == {"mlflow": sent}


@pytest.mark.parametrize(
    ("plugin", "why"),
    [(None, "is not switched on"), ({"state": "PLUGIN_FAILED", "state_message": "no MLflow"}, "failed: no MLflow")],
)
def test_a_run_that_mlflows_plugin_would_not_record_is_refused(
    settings: Settings, api: Pipelines, plugin: Any, why: str
) -> None:
    """A user who asked for the plugin gets no run without it, which Kubeflow would start in silence."""
    api.plugin = plugin
    with pytest.raises(UsageError, match=f"plugin {why}"):
        run(dataclasses.replace(settings, kfp_mlflow=1))
    assert api.terminated == list(api.runs)
    assert runs.find(settings.home).record()["state"] == "FAILED"
    assert run(settings).state == "SUCCEEDED"


def test_a_run_without_logs_succeeds(settings: Settings, api: Pipelines) -> None:
    """If the pods are gone there are no outputs, but the run has succeeded."""
    succeeded(api)
    api.logs.clear()
    assert run(settings).outputs == {}


def test_the_archived_log_is_preferred(settings: Settings, api: Pipelines) -> None:
    """In single-user Kubeflow 2.17 the API serves a pod's log without its lines of JSON."""
    succeeded(api)
    api.archive[node_of("deploy")] = whole = api.logs[pod("deploy")]
    api.logs[pod("deploy")] = "\n".join("" if line.startswith("{") else line for line in whole.splitlines())
    assert run(settings).outputs == OUTPUTS
    assert (runs.find(settings.home).logs / "deploy.log").read_text() == api.archive[node_of("deploy")]


def test_the_results_are_read_from_the_step_that_started_last(settings: Settings, api: Pipelines) -> None:
    """The logs of steps before the last one are not read, because each takes an answer of Kubeflow."""
    succeeded(api)
    assert run(settings).outputs == OUTPUTS
    read = {step for step in STEPS for path in api.asked if node_of(step) in path}
    assert read == {"deploy"}


def test_a_cached_promotion_is_not_claimed(settings: Settings, api: Pipelines) -> None:
    """If another release has become champion, the run does not claim that its own was promoted."""
    succeeded(api)
    log = api.logs[pod("deploy")]
    api.logs[pod("deploy")] = log.replace('"version": "abc"}', '"version": "xyz"}')
    published = KubeflowBackend(settings).run(Request({}), lambda _: None).outputs["published"]
    assert (published["promoted"], published["champion"]) == (False, "xyz")
    assert "digits promote abc" in published["why"]


@pytest.mark.parametrize("there", [True, False])
def test_the_report_is_downloaded(settings: Settings, api: Pipelines, there: bool) -> None:
    """If MLflow's server is reachable, the report is kept as that of a run on this machine."""
    succeeded(api)
    if there:
        api.artifacts["f00"] = "<html>report</html>"
    run(dataclasses.replace(settings, tracking_uri=api.url))
    report = runs.find(settings.home).folder / "report.html"
    assert (report.read_text() if report.exists() else "") == api.artifacts.get("f00", "")


def test_an_experiment_is_created_once(settings: Settings, api: Pipelines) -> None:
    """A second run uses the experiment of the first."""
    for _ in range(2):
        run(settings, experiment="mine")
    assert [e["display_name"] for e in api.experiments.values()] == ["mine"]
    assert len(api.runs) == 2


def test_the_cache_serves_all_steps_but_the_last_two(settings: Settings, api: Pipelines) -> None:
    """A run takes data and corrections from the cache, but never a release or an endpoint that may be gone."""
    run(settings)
    (sent,) = api.runs.values()
    steps = sent["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {step for step in STEPS if not steps[step]["cachingOptions"]} == {"publish", "deploy"}


def test_no_cache_applies_to_every_step(settings: Settings, api: Pipelines) -> None:
    """--no-cache turns the cache off for every step."""
    backend = KubeflowBackend(settings)
    backend.run(Request({}, use_cache=False), [].append)
    (sent,) = api.runs.values()
    steps = sent["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {step: steps[step]["cachingOptions"] for step in STEPS} == {step: {} for step in STEPS}


def test_a_multi_user_kubeflow_gets_the_namespace(settings: Settings, api: Pipelines) -> None:
    """A multi-user Kubeflow gets the namespace, and the pods' service account from the settings."""
    api.multi_user = True
    run(dataclasses.replace(settings, namespace="team", kfp_service_account="runner"))
    assert [e["namespace"] for e in api.experiments.values()] == ["team"]
    assert [r["service_account"] for r in api.runs.values()] == ["runner"]


@pytest.mark.parametrize("last", ["CANCELED", "FAILED"])
def test_a_run_cancelled_elsewhere_ends_here(settings: Settings, api: Pipelines, last: str) -> None:
    """A run that is cancelled on Kubeflow is recorded as cancelled, although Kubeflow 2.17 reports it as failed."""
    api.snapshots = [("RUNNING", []), ("CANCELING", []), (last, [])]
    with pytest.raises(Interrupted, match="cancelled on Kubeflow"):
        run(settings)
    assert runs.find(settings.home).record()["state"] == "CANCELED"


def test_a_failed_step_has_its_own_message(settings: Settings, api: Pipelines) -> None:
    """Cause, remedy and exit code come from the log of the step's last attempt, which is kept."""
    api.snapshots = [("FAILED", tasks(task("fetch-mnist", "SUCCEEDED"), task("prepare", "FAILED")))]
    failed = {"event": "failed", "step": "prepare", "time": 1.0, "cause": "the data set changed", "remedy": "look"}
    api.logs[pod("prepare", 1)] = "noise\n" + json.dumps(failed | {"exit_code": 3}) + "\n"
    earlier = failed | {"time": 0.5, "cause": "the store was away", "exit_code": 1}
    api.logs[pod("prepare", 0)] = "the first try\n" + json.dumps(earlier) + "\n"
    with pytest.raises(StepFailed) as raised:
        run(settings)
    error = raised.value
    assert (error.step, error.exit_code, error.remedy) == ("prepare", 3, "look")
    assert "the data set changed" in error.cause
    assert "https://kubeflow.test" in error.cause
    assert error.log is not None
    assert error.log.read_text().startswith("noise")
    assert runs.find(settings.home).record()["state"] == "FAILED"


def test_a_killed_step_has_its_log(settings: Settings, api: Pipelines) -> None:
    """The log of a step that was killed is found by its first event; the error has Kubeflow's reason."""
    killed = task("train", "FAILED", error="OOMKilled")
    api.snapshots = [("FAILED", tasks(task("fetch-mnist", "SUCCEEDED"), killed))]
    for step, attempt in (("fetch-mnist", 0), ("train", 0), ("train", 1)):
        entered = {"event": "entered", "step": step, "time": 1.0 + attempt}
        api.archive[node_of(step, attempt)] = f"{json.dumps(entered)}\n{step}, attempt {attempt}\n"
    with pytest.raises(StepFailed, match="step train failed: OOMKilled") as raised:
        run(settings)
    assert raised.value.log is not None
    assert "train, attempt 1" in raised.value.log.read_text()


def test_a_failure_without_a_log_has_kubeflows_message(settings: Settings, api: Pipelines) -> None:
    """A pod that never started has no log, so the error has the task's message."""
    api.snapshots = [("FAILED", tasks(task("train-driver", "FAILED", error="quota exceeded")))]
    with pytest.raises(StepFailed, match=r"step train failed: quota exceeded"):
        run(settings)


def test_what_a_pod_waits_for_is_shown_once(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """A pod that cannot be scheduled is reported while the run is watched; one that is starting is not."""
    monkeypatch.setattr(kubeflow, "MESSAGE_SECONDS", 0.0)
    succeeded(api)
    api.snapshots[1:1] = [api.snapshots[1]] * 3
    api.nodes = (
        node("fetch-mnist", "Succeeded", name="fetch-mnist-driver(0)")
        | node("fetch-mnist", "Pending", "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.")
        | node("prepare", "Pending", "PodInitializing")
    )
    events: list[Any] = []
    assert run(settings, events).state == "SUCCEEDED"
    texts = [event["text"] for event in events if event["event"] == "progress" and event["step"]]
    (text,) = texts
    assert text.startswith("fetch-mnist: Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.")
    assert "DIGITS_TRAIN_CPU_REQUEST" in text


def test_a_driver_of_the_whole_run_that_waits_is_shown(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """The pod that Kubeflow starts before the first step is reported, too, if it waits or is refused."""
    monkeypatch.setattr(kubeflow, "MESSAGE_SECONDS", 0.0)
    api.snapshots = [("RUNNING", []), ("RUNNING", []), ("FAILED", [])]
    waiting = node("x", "Pending", "Unschedulable: 1 Insufficient cpu.", name="root-driver(0)")
    api.nodes = waiting | node("x", "Error", 'pods "y" is forbidden: exceeded quota: small', name="root-driver(1)")
    events: list[Any] = []
    with pytest.raises(StepFailed, match="step root-driver failed: the pod is forbidden") as raised:
        run(settings, events)
    assert any("root-driver: Unschedulable: 1 Insufficient cpu." in event.get("text", "") for event in events)
    assert "ResourceQuota" in raised.value.remedy


def test_what_is_refused_at_each_attempt_is_shown_once(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """The messages of the attempts of a step, which differ only in the pod's name, are one."""
    monkeypatch.setattr(kubeflow, "MESSAGE_SECONDS", 0.0)
    succeeded(api)
    refused = (node("train", "Error", f'pods "train-{n}" is forbidden: no quota', name=f"e({n})") for n in range(3))
    api.nodes = {key: value for nodes in refused for key, value in nodes.items()}
    events: list[Any] = []
    run(settings, events)
    texts = [event["text"] for event in events if event["event"] == "progress" and event["step"]]
    assert texts == ["train: the pod is forbidden: no quota"]


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ("Pending", "ErrImageNeverPull: the image is not present with pull policy of Never"),
        ("Error", 'pods "x" is forbidden: maximum memory usage per Container is 2Gi, but limit is 3Gi'),
        ("Error", 'Pod "x" is invalid: spec.containers[0].resources.requests: Invalid value: "3Gi"'),
    ],
)
def test_a_pod_that_can_never_start_ends_the_run(
    settings: Settings, api: Pipelines, monkeypatch: Any, phase: str, message: str
) -> None:
    """A missing image that must be on the node, or a refused pod, ends the run before Argo repeats all of it."""
    monkeypatch.setattr(kubeflow, "MESSAGE_SECONDS", 0.0)
    api.snapshots = [("RUNNING", [])]
    api.nodes = node("train", phase, message)
    with pytest.raises(StepFailed, match=f"step train failed: .*{re.escape(message[-20:])}"):
        run(settings)
    assert api.terminated == list(api.runs)


def test_the_first_pod_that_failed_is_the_cause(settings: Settings, api: Pipelines) -> None:
    """A refused pod is the cause, although the API reports no reason and shows the step as completed."""
    api.snapshots = [("FAILED", tasks(task("prepare", "SUCCEEDED"), task("train", "FAILED")))]
    refused = 'Pod is invalid: spec.containers[0].resources.requests: must be less than or equal to cpu limit of "250m"'
    api.nodes = (
        node("fetch-mnist", "Error", "pod deleted", ended="2026-01-01T00:00:01Z")
        | node("fetch-mnist", "Succeeded", name="executor(1)", ended="2026-01-01T00:00:02Z")
        | node("train", "Failed", "child failed", ended="2026-01-01T00:00:09Z")
        | node("prepare", "Error", refused, ended="2026-01-01T00:00:05Z")
    )
    with pytest.raises(StepFailed, match="step prepare failed: Pod is invalid"):
        run(settings)


@pytest.mark.parametrize(
    ("message", "named"),
    [
        (
            'pods "x" is forbidden: exceeded quota: small, requested: limits.cpu=2, limited: limits.cpu=1',
            "ResourceQuota",
        ),
        ('pods "x" is forbidden: maximum cpu usage per Container is 1, but limit is 2', "LimitRange"),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', "Pod Security"),
        ('pods "x" is forbidden: error looking up service account team/y: not found', "DIGITS_KFP_SERVICE_ACCOUNT"),
        ("OOMKilled (exit code 137)", "DIGITS_TRAIN_MEMORY"),
    ],
)
def test_a_refused_pod_has_a_remedy_that_names_what_to_correct(
    settings: Settings, api: Pipelines, message: str, named: str
) -> None:
    """A run whose pod was refused or killed for a limit would fail again, so the remedy names the limit first."""
    api.snapshots = [("FAILED", tasks(task("train", "FAILED")))]
    api.nodes = node("train", "Error", message, ended="2026-01-01T00:00:05Z")
    with pytest.raises(StepFailed, match="step train failed") as raised:
        run(settings)
    correction, _, again = raised.value.remedy.partition(", then ")
    assert named in correction
    assert again == "digits run --resume"


def test_a_completed_step_stays_completed(settings: Settings, api: Pipelines) -> None:
    """When Argo repeats a failed run as a whole, a step that it then takes from the cache is not reported again."""
    repeated = tasks(task("prepare", "SUCCEEDED", seconds=0), task("train", "FAILED"))
    api.snapshots = [("RUNNING", tasks(task("prepare", "SUCCEEDED"))), ("FAILED", repeated)]
    events: list[Any] = []
    with pytest.raises(StepFailed, match="step train failed"):
        run(settings, events)
    ends = [event["event"] for event in events if event["step"] == "prepare"]
    assert ends == ["started", "finished"]


def test_the_last_step_of_a_run_that_succeeded_is_done(settings: Settings, api: Pipelines) -> None:
    """If the API reports the end of the run before that of its last step, the step is not shown as stopped."""
    api.snapshots = [("SUCCEEDED", tasks(task("deploy", "RUNNING")))]
    result = invoke(api, settings.home, "run", "--backend", "kubeflow")
    assert result.exit_code == 0, result.output
    assert "✓ deploy" in result.output


def test_ctrl_c_ends_the_run_on_the_server(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """An interrupted watcher terminates the run on Kubeflow and waits until it has ended."""
    api.snapshots = [("RUNNING", [])]
    sleep = time.sleep

    def interrupted(seconds: float) -> None:
        monkeypatch.setattr(kubeflow.time, "sleep", sleep)
        raise KeyboardInterrupt

    monkeypatch.setattr(kubeflow.time, "sleep", interrupted)
    with pytest.raises(Interrupted, match="was stopped"):
        run(settings)
    assert api.terminated == list(api.runs)
    assert runs.find(settings.home).record()["state"] == "CANCELED"


@pytest.mark.parametrize("page", ["https://kubeflow.test", ""])
def test_a_run_that_cannot_be_stopped_continues(
    page: str, settings: Settings, api: Pipelines, monkeypatch: Any
) -> None:
    """If the server refuses to terminate a run, the exit code is 4, and record and remedy say that it continues."""
    settings = dataclasses.replace(settings, kfp_ui=page)
    api.snapshots = [("RUNNING", [])]
    api.fail = lambda method, path: (403, "not yours") if path.endswith(":terminate") else None
    monkeypatch.setattr(kubeflow.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(RunContinues, match=r"could not be stopped.*not yours") as raised:
        run(settings)
    assert raised.value.exit_code == 4
    record = runs.find(settings.home).record()
    assert (record["state"], record["why"]) == ("CONTINUES", raised.value.message)
    assert (f"stop it on {page}/" in raised.value.remedy) is bool(page)
    assert "kubectl get" not in raised.value.remedy
    assert "digits watch" in raised.value.remedy


def unwatched(settings: Settings, api: Pipelines, monkeypatch: Any) -> runs.Run:
    """Return the record of a run that took longer than it was watched."""
    api.snapshots = [("RUNNING", [])]
    with monkeypatch.context() as patch:
        patch.setattr(kubeflow, "RUN_SECONDS", 0.05)
        with pytest.raises(RunContinues, match="takes longer than"):
            run(settings)
    record = runs.find(settings.home)
    assert record.record()["state"] == "CONTINUES"
    return record


def resume(settings: Settings) -> Result:
    """Resume the last run as `digits run --resume` does."""
    return KubeflowBackend(settings).run(Request({}), [].append, resume=runs.to_resume(settings.home).id)


def test_a_run_that_continues_can_be_watched_again(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """`digits watch` follows a run that was no longer watched to its end, and records it, without a new run."""
    record = unwatched(settings, api, monkeypatch)
    succeeded(api)
    result = invoke(api, settings.home, "watch", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["run"] == record.id
    assert (record.record()["state"], len(api.runs)) == ("SUCCEEDED", 1)


def test_a_watched_run_is_not_removed(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """While `digits watch` follows a run, it counts as running, so that `digits clean` refuses to remove its record."""
    record, running = unwatched(settings, api, monkeypatch), list[bool]()
    succeeded(api)
    KubeflowBackend(settings).watch(record.id, lambda event: running.append(record.is_running()))
    assert running
    assert all(running)
    assert (record.is_running(), record.record()["state"]) == (False, "SUCCEEDED")


def test_a_run_that_was_never_submitted_cannot_be_watched(settings: Settings, api: Pipelines) -> None:
    """A run of another backend is refused."""
    runs.create(settings.home, "process", Request({}))
    with pytest.raises(UsageError, match="was not submitted to Kubeflow"):
        KubeflowBackend(settings).watch("", [].append)


def test_a_run_that_was_started_elsewhere_can_be_watched(settings: Settings, api: Pipelines) -> None:
    """A run of `digits submit`, a schedule or Kubeflow's page is watched by Kubeflow's id, and recorded once."""
    submitted = json.loads(invoke(api, settings.home, "submit", "--epochs", "7", "--json").stdout)["run"]
    succeeded(api)
    watched = [json.loads(invoke(api, settings.home, "watch", submitted, "--json").stdout) for _ in range(2)]
    record = runs.find(settings.home).record()
    assert [answer["run"] for answer in watched] == [record["id"]] * 2
    assert (record["kubeflow_run"], record["state"], record["parameters"]["epochs"]) == (submitted, "SUCCEEDED", 7)
    api.deleted.append(other := str(uuid.uuid4()))
    with pytest.raises(DigitsError, match="not found"):
        KubeflowBackend(settings).watch(other, [].append)
    assert len(runs.all_runs(settings.home)) == 1


def test_a_run_without_a_known_page_names_the_command_that_shows_it(settings: Settings, api: Pipelines) -> None:
    """The API's own address has no page, so none is printed, unless it is that of a gateway."""
    without = dataclasses.replace(settings, kfp_ui="")
    assert (KubeflowBackend(without).api.url("r1"), "runid=r1" in KubeflowBackend(without).api.place("r1")) == (
        "",
        True,
    )
    gateway = dataclasses.replace(without, kfp_host="https://kubeflow.example.com/pipeline")
    assert KubeflowBackend(gateway).api.url("r1") == "https://kubeflow.example.com/pipeline/#/runs/details/r1"


def test_a_run_that_continues_is_not_submitted_again(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """--resume refuses a run that was no longer watched and still runs; once it has failed, it is resumed."""
    first = unwatched(settings, api, monkeypatch)
    with pytest.raises(UsageError, match=f"run {first.id} continues on Kubeflow: .*/#/runs/details/") as refused:
        resume(settings)
    assert refused.value.remedy == f"digits watch {first.id}"
    assert len(api.runs) == 1
    api.snapshots = [("FAILED", [])]
    with pytest.raises(StepFailed):
        resume(settings)
    assert len(api.runs) == 2


def test_a_run_that_succeeded_unwatched_is_not_resumed(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """--resume reports the success of a run that was no longer watched, and records it."""
    first = unwatched(settings, api, monkeypatch)
    api.snapshots = [("SUCCEEDED", [])]
    with pytest.raises(UsageError, match=f"run {first.id} has succeeded on Kubeflow"):
        resume(settings)
    assert first.record()["state"] == "SUCCEEDED"
    assert len(api.runs) == 1


def test_a_run_that_was_deleted_can_be_resumed(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """A run that Kubeflow no longer has does not continue."""
    unwatched(settings, api, monkeypatch)
    missing = next(iter(api.runs))
    api.fail = lambda method, path: (404, "run not found") if path.endswith(missing) else None
    succeeded(api)
    api.looks = 0
    assert resume(settings).state == "SUCCEEDED"


def test_a_run_that_was_asked_to_stop_is_canceled(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """If the server accepts the termination and then does not answer, the record is CANCELED."""
    api.snapshots = [("RUNNING", [])]
    api.fail = lambda method, path: (503, "gone") if api.terminated and method == "GET" else None
    monkeypatch.setattr(kubeflow.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Interrupted, match=r"was asked to stop.*/#/runs/details/"):
        run(settings)
    assert runs.find(settings.home).record()["state"] == "CANCELED"


def test_a_run_that_was_deleted_is_not_recorded_as_running(settings: Settings, api: Pipelines) -> None:
    """If the run is deleted on Kubeflow while it is watched, its record is FAILED."""
    api.snapshots = [("RUNNING", [])]
    api.fail = lambda method, path: (404, "run not found") if api.looks and "/runs/" in path else None
    with pytest.raises(DigitsError, match="run not found"):
        run(settings)
    record = runs.find(settings.home).record()
    assert record["state"] == "FAILED"
    assert "run not found" in record["why"]


def test_the_endpoint_is_the_inference_service(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint is the InferenceService's address in the cluster, as long as it is ready."""
    backend = KubeflowBackend(settings)
    assert backend.endpoint() == ""
    ready = {"type": "Ready", "status": "True"}
    monkeypatch.setattr(ServiceApi, "live", {"status": {"conditions": [ready]}})
    with kubernetes_api(ServiceApi) as url:
        write_kubeconfig(settings, url)
        assert backend.endpoint() == "http://digits-predictor.digits.svc.cluster.local"
        ready["status"] = "Unknown"
        assert backend.endpoint() == ""


def test_a_short_outage_is_waited_through(settings: Settings, api: Pipelines) -> None:
    """Responses 500 and 503 and cut connections during a run are reported once and do not end the watch."""
    succeeded(api)
    faults: list[Any] = [(500, "database is down"), (503, "restarting"), "cut"]

    def fail(method: str, path: str) -> Any:
        return faults.pop() if faults and "/runs/" in path and method == "GET" else None

    api.fail = fail
    events: list[Any] = []
    assert run(settings, events).state == "SUCCEEDED"
    assert faults == []
    assert sum(api.url in event.get("text", "") for event in events) == 1


def test_a_long_outage_ends_the_watch_only(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """The run may continue, so the exit code is 4 and the error has its address."""
    monkeypatch.setattr(kubeflow, "OUTAGE_SECONDS", 0.1)
    api.fail = lambda method, path: (503, "gone") if re.search("/runs/.", path) else None
    with pytest.raises(RunContinues, match=r"has not answered for.*gone.*/#/runs/details/"):
        run(settings)


def test_the_watch_has_a_deadline(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """A run that never ends is watched for a limited time."""
    monkeypatch.setattr(kubeflow, "RUN_SECONDS", 0.1)
    api.snapshots = [("RUNNING", [])]
    with pytest.raises(RunContinues, match="takes longer than"):
        run(settings)


def test_a_renewed_token_is_read_again(settings: Settings, api: Pipelines, tmp_path: Path) -> None:
    """A token file that is rewritten during the run is read again, and the watch continues."""
    succeeded(api)
    file = tmp_path / "token"
    file.write_text("old\n")
    api.token = "old"

    def renew(method: str, path: str) -> None:
        if api.looks == 2 and api.token == "old":
            api.token = "new"
            file.write_text("new\n")

    api.fail = renew
    assert run(dataclasses.replace(settings, kfp_token_file=str(file))).state == "SUCCEEDED"


def test_an_expired_token_ends_the_watch_only(settings: Settings, api: Pipelines, tmp_path: Path) -> None:
    """A token that stays expired is read again once; then the exit code is 4, with the run's address."""
    succeeded(api)
    file = tmp_path / "token"
    file.write_text("old")
    api.token = "old"

    def expire(method: str, path: str) -> None:
        api.token = "new" if api.looks >= 1 else "old"

    api.fail = expire
    with pytest.raises(RunContinues, match=r"rejects the credentials.*/#/runs/details/") as raised:
        run(dataclasses.replace(settings, kfp_token_file=str(file)))
    assert raised.value.exit_code == 4
    assert sum(bool(re.search("GET .*/runs/.", line)) for line in api.asked) == 2
    assert api.terminated == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_names_host_and_namespace(settings: Settings, api: Pipelines, status: int) -> None:
    """A refused run is an error with host, namespace and reason, and leaves nothing on Kubeflow."""
    api.fail = lambda method, path: (status, "no rights") if path.endswith("/runs") and method == "POST" else None
    with pytest.raises(MissingError) as raised:
        run(dataclasses.replace(settings, namespace="team"))
    assert all(part in raised.value.message for part in (api.url, "team", "no rights"))
    assert (api.experiments, api.runs) == ({}, {})
    assert runs.find(settings.home).record()["state"] == "FAILED"


def test_a_lost_answer_makes_no_second_run(settings: Settings, api: Pipelines) -> None:
    """If the response to a new run is lost, the run is found by its name."""
    succeeded(api)
    api.silent_create = True
    assert run(settings).state == "SUCCEEDED"
    assert len(api.runs) == 1


def test_a_run_that_is_interrupted_while_it_is_submitted_is_stopped(
    settings: Settings, api: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C nothing trains on Kubeflow, also if the run existed already, which no record names."""
    create = RunServiceApi.run_service_create_run

    def interrupted(*args: Any, **more: Any) -> None:
        create(*args, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunServiceApi, "run_service_create_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    assert api.terminated == list(api.runs) != []


def test_no_secret_is_recorded(settings: Settings, api: Pipelines) -> None:
    """A token is in no error and in no record."""
    api.token = "another"
    secret = dataclasses.replace(settings, kfp_token=SECRETS[2], kfp_cookie=f"session={SECRETS[3]}")
    with pytest.raises(DigitsError) as raised:
        KubeflowBackend(secret).check()
    api.token = ""
    run(secret)
    record = runs.find(settings.home).folder / "run.json"
    assert all(value not in str(raised.value) + record.read_text() + repr(secret) for value in SECRETS)

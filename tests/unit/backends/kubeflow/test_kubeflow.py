"""The kubeflow backend and its commands against a server of the Pipelines API, and what is compiled for it."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner

from backends import runs
from backends.base import Request, Result
from backends.kubeflow import backend as kubeflow
from backends.kubeflow import connection as kubeflow_http
from backends.kubeflow import submit as kubeflow_submit
from backends.kubeflow.backend import KubeflowBackend
from backends.kubeflow.submit import compile_version, compiled, external_inputs
from backends.kubeflow.tasks import UNCACHED_STEPS, configure_task
from backends.kubeflow.watch import events_of, pod_name
from digits.cli import cli
from digits.errors import DigitsError, Interrupted, MissingError, RunContinues, StepFailed, UsageError
from digits.settings import Settings
from pipeline import STEPS
from pipeline.definition import compile_to
from tests.helpers.http_proxy import http_proxy
from tests.helpers.kfp_api import WORKFLOW, Pipelines, node_of, serving, slow, task, tasks
from tests.helpers.kubernetes_api import ServiceApi, write_kubeconfig
from tests.helpers.kubernetes_api import serving as serving_api
from tests.helpers.support import ROOT

SECRETS = ("canary-access", "canary-secret", "canary-token", "canary-cookie", "canary-endpoint-token")
OUTPUTS = {
    "data": {"dataset": "mnist"},
    "feedback": {"count": 0},
    "trained": {"seconds": 3.0},
    "published": {"version": "abc", "mlflow_run": "f00", "accuracy": 0.99, "promoted": True, "champion": "abc"},
    "deployed": {"endpoint": "http://digits-predictor.digits.svc.cluster.local", "version": "abc"},
}


MADE: dict[Any, Any] = {}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once, and the same settings are compiled once for all tests."""
    monkeypatch.setattr(kubeflow, "POLL_SECONDS", 0.01)

    def once(settings: Settings, uncached: tuple[str, ...] = UNCACHED_STEPS) -> Any:
        same = {"home": Path("/"), "store": "file:///", "tracking_uri": "sqlite:////x", "kfp_host": "http://x"}
        key = (dataclasses.replace(settings, **same), uncached)
        if key not in MADE:
            MADE[key] = compiled(settings, uncached)
        return copy.deepcopy(MADE[key])

    monkeypatch.setattr(kubeflow_submit, "compiled", once)


@pytest.fixture
def api() -> Iterator[Pipelines]:
    with serving(Pipelines()) as served:
        yield served


@pytest.fixture
def settings(tmp_path: Path, api: Pipelines) -> Settings:
    return Settings(home=tmp_path, backend="kubeflow", kfp_host=api.url)


def pod(step: str, attempt: int = 0) -> str:
    """The name of the pod of a try of a step."""
    return node_of(step, attempt).replace(WORKFLOW, f"{WORKFLOW}-retry-system-container-impl")


def succeeded(api: Pipelines, *cached: str) -> None:
    """Make the next run succeed, with its outputs in the log of its deploy step."""
    ended = [task(step, "SUCCEEDED", seconds=0 if step in cached else 20) for step in STEPS]
    api.snapshots = [
        ("PENDING", []),
        ("RUNNING", tasks(task("fetch-mnist-driver", "RUNNING"))),
        ("RUNNING", tasks(task("fetch-mnist-driver", "SUCCEEDED"), task("fetch-mnist", "RUNNING"))),
        ("SUCCEEDED", tasks(*ended)),
    ]
    told = {"event": "outputs", "step": "deploy", "time": 1.0, "outputs": OUTPUTS}
    api.logs[pod("deploy")] = f"I1123 launcher\n{json.dumps(told)}\nI1123 publish success.\n"


def run(settings: Settings, events: list[Any] | None = None, **parameters: Any) -> Result:
    backend = KubeflowBackend(settings)
    try:
        backend.check()
        return backend.run(Request(parameters), [].append if events is None else events.append)
    finally:
        backend.close()


# --- what is compiled ---


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """(text, pipeline, platform) of a compilation with a secret in every setting that may hold one."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(
        home=home,
        data=str(home / "mnist"),
        minio_access_key=SECRETS[0],
        minio_secret_key=SECRETS[1],
        kfp_token=SECRETS[2],
        kfp_cookie=SECRETS[3],
        endpoint_token=SECRETS[4],
        namespace="team",
        steps_image="registry.example.com/digits-python-steps:1",
        pull_policy="Always",
        pull_secret="registry",
        secret_name="keys",
        config_map="places",
        step_retries=2,
        train_gpus=1,
        train_cpu="8",
        train_memory="16Gi",
        train_node="pool=gpu zone=a",
    )
    path = home / "pipeline.yaml"
    compile_to(path, configure_task(settings))
    text = path.read_text()
    pipeline, platform = yaml.safe_load_all(text)
    return text, pipeline, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def test_no_secret_and_no_path_of_this_machine_is_compiled(documents: Any, tmp_path_factory: Any) -> None:
    """Neither a secret's value nor a folder of this machine is in the YAML."""
    text = documents[0]
    assert [secret for secret in SECRETS if secret in text] == []
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert str(Path.home()) not in text.replace("/root/.", "") or str(Path.home()) == "/root"
    assert str(ROOT) not in text


def test_every_step_has_what_kubernetes_should_hold_it_to(documents: Any) -> None:
    """Image, pull policy, identity, limits, deadline, retries and credentials are set on each of the seven steps."""
    _, pipeline, platform = documents
    executors, steps = pipeline["deploymentSpec"]["executors"], pipeline["root"]["dag"]["tasks"]
    assert set(platform) == {f"exec-{step}" for step in STEPS}
    for step in STEPS:
        container, kubernetes = executors[f"exec-{step}"]["container"], platform[f"exec-{step}"]
        assert container["image"] == "registry.example.com/digits-python-steps:1"
        assert {"cpuRequest", "cpuLimit", "memoryRequest", "memoryLimit"} <= set(container["resources"])
        assert steps[step]["retryPolicy"]["maxRetryCount"] == 2
        assert steps[step]["cachingOptions"] == ({} if step in {*UNCACHED_STEPS, "deploy"} else {"enableCache": True})
        assert kubernetes["imagePullPolicy"] == "Always"
        assert kubernetes["imagePullSecret"][0]["secretName"] == "registry"
        assert kubernetes["securityContext"] == {"runAsUser": "1000", "runAsGroup": "1000", "runAsNonRoot": True}
        assert int(kubernetes["activeDeadlineSeconds"]) > 0
        secret, config = kubernetes["secretAsEnv"][0], kubernetes["configMapAsEnv"][0]
        assert (secret["secretName"], config["configMapName"]) == ("keys", "places")
        wanted = {"MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_SESSION_TOKEN"}
        assert wanted <= {entry["envVar"] for entry in secret["keyToEnv"]}
        places = {entry["envVar"] for entry in config["keyToEnv"]}
        assert {"DIGITS_STORE", "MINIO_ENDPOINT", "MINIO_REGION"} <= places
        assert not wanted & places


@pytest.mark.parametrize("plugin", [0, 1])
def test_no_variable_comes_from_two_places(tmp_path: Path, plugin: int) -> None:
    """A variable set twice would be merged into one that Kubernetes refuses, also with Kubeflow's MLflow plugin's."""
    spec = compiled(Settings(home=tmp_path, kfp_mlflow=plugin))
    platform = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for step in STEPS:
        container = spec["pipeline_spec"]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]
        names = [variable["name"] for variable in container["env"]]
        for source in ("secretAsEnv", "configMapAsEnv"):
            names += [entry["envVar"] for part in platform[f"exec-{step}"][source] for entry in part["keyToEnv"]]
        if plugin:
            names += ["MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_TOKEN"]
        assert len(names) == len(set(names))


def test_train_may_have_a_gpu_and_a_node(documents: Any) -> None:
    """GPU, node labels and limits by setting go to train and to no other step."""
    _, pipeline, platform = documents
    resources = {s: pipeline["deploymentSpec"]["executors"][f"exec-{s}"]["container"]["resources"] for s in STEPS}
    assert resources["train"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert (resources["train"]["resourceCpuLimit"], resources["train"]["resourceMemoryLimit"]) == ("8", "16Gi")
    assert platform["exec-train"]["nodeSelector"]["labels"] == {"pool": "gpu", "zone": "a"}
    assert [s for s in STEPS if "accelerator" in resources[s]] == ["train"]
    assert [s for s in STEPS if "nodeSelector" in platform[f"exec-{s}"]] == ["train"]


@pytest.mark.parametrize(
    "wrong", [{"pull_policy": "Sometimes"}, {"train_node": "gpu"}, {"train_node": "=a"}], ids=lambda w: str(w)
)
def test_a_wrong_setting_is_named(tmp_path: Path, wrong: dict[str, str]) -> None:
    """What Kubernetes would not take is refused before anything is compiled."""
    with pytest.raises(UsageError, match=r"DIGITS_(PULL_POLICY|TRAIN_NODE): expected"):
        configure_task(Settings(home=tmp_path, **wrong))


def test_a_version_is_named_by_what_is_in_it(tmp_path: Path) -> None:
    """The same code and settings give the same version, another image another one."""
    first = compile_version(Settings(home=tmp_path), tmp_path / "a.yaml")
    assert compile_version(Settings(home=tmp_path / "elsewhere"), tmp_path / "b.yaml") == first
    assert compile_version(Settings(home=tmp_path, steps_image="other:1"), tmp_path / "c.yaml") != first


def test_the_cache_never_has_the_external_inputs(tmp_path: Path) -> None:
    """The endpoint is looked at in each run; corrections are those of the store, and new where it is out of reach."""
    here = Settings(home=tmp_path)
    assert external_inputs(here)["feedback"] != external_inputs(here)["feedback"]
    away = dataclasses.replace(here, store="s3://digits", minio_endpoint="http://127.0.0.1:9", minio_access_key="a")
    assert external_inputs(away)["feedback"] != external_inputs(away)["feedback"]


# --- events and nodes ---


@pytest.mark.parametrize(("retries", "template"), [(0, "system-container-impl"), (1, "retry-system-container-impl")])
def test_a_pod_has_the_name_that_argo_gives_it(retries: int, template: str) -> None:
    """The pod of an executor node has the workflow's name, the template's name and the node's number."""
    node = "digits-recognizer-zml6d-387167656"
    assert pod_name(node, retries=retries) == f"digits-recognizer-zml6d-{template}-387167656"


def test_a_step_is_found_by_the_events_in_its_log() -> None:
    """Only complete JSON objects that are events of the step count, whatever the order of their keys."""
    event = {"time": 1.0, "step": "train", "event": "progress"}
    lines = [
        "noise",
        json.dumps(event),
        json.dumps(event | {"step": "deploy"}),
        '{"time": 1.0}',
        "{",
        "[]",
        '{"event": ',
    ]
    assert events_of("\n".join(lines), "train") == [event]
    assert events_of("", "train") == []


# --- a run ---


def test_a_run_is_watched_to_its_end(settings: Settings, api: Pipelines) -> None:
    """Steps are told as they change, and the outputs come back as they would on this machine."""
    succeeded(api, "train")
    events: list[Any] = []
    result = run(settings, events, epochs=5)
    assert result.state == "SUCCEEDED"
    assert result.outputs == OUTPUTS
    assert result.mlflow_run == "f00"
    assert {name: step.state for name, step in result.steps.items()} == {
        step: "cached" if step == "train" else "done" for step in STEPS
    }
    told = [(event["event"], event["step"]) for event in events]
    assert told.index(("started", "fetch-mnist")) < told.index(("finished", "fetch-mnist"))
    assert ("cached", "train") in told
    (sent,) = api.runs.values()
    assert sent["runtime_config"]["parameters"]["epochs"] == 5
    assert set(sent["pipeline_spec"]) == {"pipeline_spec", "platform_spec"}
    assert api.experiments[sent["experiment_id"]]["display_name"] == "digits-recognizer-kfp"
    record = runs.find(settings.home).record()
    assert (record["state"], record["url"]) == ("SUCCEEDED", f"{api.url}/#/runs/details/{sent['run_id']}")


def test_without_the_log_a_run_still_succeeds(settings: Settings, api: Pipelines) -> None:
    """The pods may be gone by then: no outputs, but no failure either."""
    succeeded(api)
    api.logs.clear()
    assert run(settings).outputs == {}


def test_the_archived_log_is_read_where_the_api_may_not_read_pods(settings: Settings, api: Pipelines) -> None:
    """As a single-user Kubeflow Pipelines 2.17 is released, the log that its API gives of a pod has no line of JSON."""
    succeeded(api)
    api.archive[node_of("deploy")] = whole = api.logs[pod("deploy")]
    api.logs[pod("deploy")] = "\n".join("" if line.startswith("{") else line for line in whole.splitlines())
    assert run(settings).outputs == OUTPUTS
    assert (runs.find(settings.home).logs / "deploy.log").read_text() == api.archive[node_of("deploy")]


def test_what_publish_said_from_the_cache_is_held_against_the_endpoint(settings: Settings, api: Pipelines) -> None:
    """Where another release is champion by now, the run doesn't claim that its own was promoted."""
    succeeded(api)
    log = api.logs[pod("deploy")]
    api.logs[pod("deploy")] = log.replace('"version": "abc"}', '"version": "xyz"}')
    published = KubeflowBackend(settings).run(Request({}), lambda _: None).outputs["published"]
    assert (published["promoted"], published["champion"]) == (False, "xyz")
    assert "digits promote abc" in published["why"]


@pytest.mark.parametrize("there", [True, False])
def test_the_report_comes_back(settings: Settings, api: Pipelines, there: bool) -> None:
    """Where MLflow's server is reached from here, the report is kept as that of a run on this machine."""
    succeeded(api)
    if there:
        api.artifacts["f00"] = "<html>report</html>"
    run(dataclasses.replace(settings, tracking_uri=api.url))
    kept = runs.find(settings.home).folder / "report.html"
    assert (kept.read_text() if kept.exists() else "") == api.artifacts.get("f00", "")


def test_a_second_run_uses_the_experiment(settings: Settings, api: Pipelines) -> None:
    """An experiment is made once."""
    for _ in range(2):
        run(settings, experiment="mine")
    assert [e["display_name"] for e in api.experiments.values()] == ["mine"]
    assert len(api.runs) == 2


def test_the_cache_can_be_left_out(settings: Settings, api: Pipelines) -> None:
    """--no-cache turns the cache off for every step."""
    backend = KubeflowBackend(settings)
    backend.run(Request({}, use_cache=False), [].append)
    (sent,) = api.runs.values()
    steps = sent["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {step: steps[step]["cachingOptions"] for step in STEPS} == {step: {} for step in STEPS}


def test_a_multi_user_kubeflow_is_told_the_namespace(settings: Settings, api: Pipelines) -> None:
    """Where it wants a namespace it gets one; the account of the pods is by setting."""
    api.multi_user = True
    run(dataclasses.replace(settings, namespace="team", kfp_service_account="runner"))
    assert [e["namespace"] for e in api.experiments.values()] == ["team"]
    assert [r["service_account"] for r in api.runs.values()] == ["runner"]


@pytest.mark.parametrize("last", ["CANCELED", "FAILED"])
def test_a_run_cancelled_elsewhere_ends_here(settings: Settings, api: Pipelines, last: str) -> None:
    """The wait of kfp itself would go on for ever; and Kubeflow 2.17 says in the end that such a run failed."""
    api.snapshots = [("RUNNING", []), ("CANCELING", []), (last, [])]
    with pytest.raises(Interrupted, match="cancelled on Kubeflow"):
        run(settings)
    assert runs.find(settings.home).record()["state"] == "CANCELED"


def test_a_failed_step_says_why(settings: Settings, api: Pipelines) -> None:
    """The step's own cause, remedy and exit code come from its last try's log, which is kept."""
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
    assert api.url in error.cause
    assert error.log is not None
    assert error.log.read_text().startswith("noise")
    assert runs.find(settings.home).record()["state"] == "FAILED"


def test_a_failure_without_a_log_says_what_kubeflow_says(settings: Settings, api: Pipelines) -> None:
    """A pod that never started has no log; the task's error is told."""
    api.snapshots = [("FAILED", tasks(task("train-driver", "FAILED", error="quota exceeded")))]
    with pytest.raises(StepFailed, match=r"step train failed: quota exceeded"):
        run(settings)


def test_ctrl_c_ends_the_run_on_the_server(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """An interrupted watcher asks for the run's end and waits for it."""
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


def test_ctrl_c_that_cannot_stop_says_so(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """Where the server refuses to end a run, it goes on: exit code 4."""
    api.snapshots = [("RUNNING", [])]
    api.fail = lambda method, path: (403, "not yours") if path.endswith(":terminate") else None
    monkeypatch.setattr(kubeflow.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(RunContinues, match=r"could not be stopped.*not yours") as raised:
        run(settings)
    assert raised.value.exit_code == 4
    record = runs.find(settings.home).record()
    assert (record["state"], record["why"]) == ("CONTINUES", raised.value.message)


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


def test_a_run_that_continues_is_not_submitted_again(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """--resume refuses a run that was no longer watched and still runs; once it has failed, it is resumed."""
    first = unwatched(settings, api, monkeypatch)
    with pytest.raises(UsageError, match=f"run {first.id} continues on Kubeflow: .*/#/runs/details/") as refused:
        resume(settings)
    assert "digits run --resume" in refused.value.remedy
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
    """Where the server takes the request and is gone then, the record says what was asked, not that the run goes on."""
    api.snapshots = [("RUNNING", [])]
    api.fail = lambda method, path: (503, "gone") if api.terminated and method == "GET" else None
    monkeypatch.setattr(kubeflow.time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(Interrupted, match=r"was asked to stop.*/#/runs/details/"):
        run(settings)
    assert runs.find(settings.home).record()["state"] == "CANCELED"


def test_a_run_that_was_deleted_is_not_recorded_as_running(settings: Settings, api: Pipelines) -> None:
    """Where somebody deletes the run in Kubeflow, its record here says so."""
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
    with serving_api(ServiceApi) as url:
        write_kubeconfig(settings, url)
        assert backend.endpoint() == "http://digits-predictor.digits.svc.cluster.local"
        ready["status"] = "Unknown"
        assert backend.endpoint() == ""


# --- faults ---


def test_a_short_outage_is_waited_through(settings: Settings, api: Pipelines) -> None:
    """500, 503 and cut connections in the middle of a run change nothing."""
    succeeded(api)
    faults: list[Any] = [(500, "database is down"), (503, "restarting"), "cut"]

    def fail(method: str, path: str) -> Any:
        return faults.pop() if faults and "/runs/" in path and method == "GET" else None

    api.fail = fail
    assert run(settings).state == "SUCCEEDED"
    assert faults == []


def test_a_long_outage_ends_the_watch_only(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """The run may go on: exit code 4 and its address."""
    monkeypatch.setattr(kubeflow, "OUTAGE_SECONDS", 0.1)
    api.fail = lambda method, path: (503, "gone") if re.search("/runs/.", path) else None
    with pytest.raises(RunContinues, match=r"has not answered for.*gone.*/#/runs/details/"):
        run(settings)


def test_a_slow_answer_has_a_deadline(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """A server that does not answer in time is not there."""
    monkeypatch.setattr(kubeflow_http, "ANSWER_SECONDS", 0.2)
    api.fail = slow(1)
    with pytest.raises(MissingError, match="does not answer"):
        KubeflowBackend(settings).check()


def test_a_run_that_never_ends_is_left(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """The wait has a deadline of its own."""
    monkeypatch.setattr(kubeflow, "RUN_SECONDS", 0.1)
    api.snapshots = [("RUNNING", [])]
    with pytest.raises(RunContinues, match="takes longer than"):
        run(settings)


def test_a_renewed_token_is_read_again(settings: Settings, api: Pipelines, tmp_path: Path) -> None:
    """A token file that was rewritten meanwhile is read once more, and the watch goes on."""
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
    """A token that stays expired: exit code 4 with the address, after one look into the file and no storm."""
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


def test_the_notebooks_own_token_is_found(settings: Settings, api: Pipelines, tmp_path: Path, monkeypatch: Any) -> None:
    """In a notebook the projected token's place is in KF_PIPELINES_SA_TOKEN_PATH."""
    (tmp_path / "token").write_text("projected")
    api.token = "projected"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    KubeflowBackend(settings).check()


def test_a_cookie_is_sent_and_a_login_page_is_no_answer(settings: Settings, api: Pipelines) -> None:
    """Behind a login, the page it shows is named as what it is."""
    session = dataclasses.replace(settings, kfp_cookie="authservice_session=abc")
    KubeflowBackend(session).check()
    assert api.cookies == {"authservice_session=abc"}
    for answer in ("page", (302, "log in there")):
        api.fail = lambda method, path, answer=answer: answer
        with pytest.raises(MissingError, match="sent a web page") as raised:
            KubeflowBackend(session).check()
        assert "DIGITS_KFP_COOKIE" in raised.value.remedy


def test_an_authority_of_ones_own_is_taken_by_setting(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that no public authority knows is refused, and taken with its own in DIGITS_KFP_CA; so by proxy."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=kubeflow", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(Pipelines(), context) as api:
        there = dataclasses.replace(settings, kfp_host=api.url)
        with pytest.raises(MissingError, match=r"does not answer: .*(SSL|CERTIFICATE)"):
            KubeflowBackend(there).check()
        there = dataclasses.replace(there, kfp_ca=str(certificate))
        KubeflowBackend(there).check()
        with http_proxy("anna:canary") as between:
            monkeypatch.setenv("no_proxy", "")
            monkeypatch.setenv("HTTPS_PROXY", between.url.replace("//", "//anna:canary@"))
            KubeflowBackend(there).check()
            monkeypatch.setenv("HTTPS_PROXY", between.url)
            with pytest.raises(MissingError, match=r"does not answer: the proxy: .* 407"):
                KubeflowBackend(there).check()
            assert {*between.asked} == {f"CONNECT {urlsplit(api.url).netloc}"}
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            KubeflowBackend(there).check()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_names_host_and_namespace(settings: Settings, api: Pipelines, status: int) -> None:
    """Who asks where is in the message, and nothing is left behind."""
    api.fail = lambda method, path: (status, "no rights") if path.endswith("/runs") and method == "POST" else None
    with pytest.raises(MissingError) as raised:
        run(dataclasses.replace(settings, namespace="team"))
    assert all(part in raised.value.message for part in (api.url, "team", "no rights"))
    assert (api.experiments, api.runs) == ({}, {})
    assert runs.find(settings.home).record()["state"] == "FAILED"


def test_nothing_there(settings: Settings) -> None:
    """A host where nothing listens is said at once, with the next thing to try."""
    with pytest.raises(MissingError, match=r"http://127.0.0.1:9 does not answer: connection refused") as raised:
        KubeflowBackend(dataclasses.replace(settings, kfp_host="http://127.0.0.1:9")).check()
    assert "DIGITS_KFP_HOST" in raised.value.remedy


@pytest.mark.parametrize("host", ["", "ml-pipeline:8888", "file:///x"])
def test_a_host_is_an_address(settings: Settings, host: str) -> None:
    """Without one there is nothing to ask."""
    with pytest.raises(UsageError, match="DIGITS_KFP_HOST: expected"):
        KubeflowBackend(dataclasses.replace(settings, kfp_host=host))


@pytest.mark.parametrize("name", ["kfp_token_file", "kfp_ca"])
def test_a_file_that_is_not_there_is_named(settings: Settings, tmp_path: Path, name: str) -> None:
    """A setting that names no file is told apart from a server that says no."""
    with pytest.raises(MissingError, match="nowhere"):
        KubeflowBackend(dataclasses.replace(settings, **{name: str(tmp_path / "nowhere")}))


def test_a_lost_answer_makes_no_second_run(settings: Settings, api: Pipelines) -> None:
    """A run whose creation was answered into the void is found by its name."""
    succeeded(api)
    api.silent_create = True
    assert run(settings).state == "SUCCEEDED"
    assert len(api.runs) == 1


def test_no_secret_is_told(settings: Settings, api: Pipelines) -> None:
    """A token is in no error and no record."""
    api.token = "another"
    secret = dataclasses.replace(settings, kfp_token=SECRETS[2], kfp_cookie=f"session={SECRETS[3]}")
    with pytest.raises(DigitsError) as raised:
        KubeflowBackend(secret).check()
    api.token = ""
    run(secret)
    kept = runs.find(settings.home).folder / "run.json"
    assert all(value not in str(raised.value) + kept.read_text() + repr(secret) for value in SECRETS)


# --- the commands ---


def invoke(api: Pipelines, home: Path, *arguments: str, **environ: str) -> Any:
    variables = {"DIGITS_KFP_HOST": api.url, "DIGITS_HOME": str(home), **environ}
    return CliRunner().invoke(cli, arguments, env=variables, catch_exceptions=True)


def test_submit_returns_at_once(api: Pipelines, tmp_path: Path) -> None:
    """The id and the address are told; nobody waits."""
    api.snapshots = [("RUNNING", [])]
    answer = invoke(api, tmp_path, "submit", "--epochs", "7", "--json")
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["run"] in api.runs
    assert told["url"].endswith(told["run"])
    assert api.runs[told["run"]]["runtime_config"]["parameters"]["epochs"] == 7
    assert api.looks == 0


@pytest.mark.parametrize("command", [("submit",), ("schedule", "--every", "12h")], ids=lambda words: words[0])
def test_a_preset_brings_its_epochs(api: Pipelines, tmp_path: Path, command: tuple[str, ...]) -> None:
    """As with `digits run`, a preset is trained for its own epochs, not for the definition's three."""
    assert invoke(api, tmp_path, *command, "--preset", "accurate").exit_code == 0
    (sent,) = [*api.runs.values(), *api.schedules.values()]
    assert sent["runtime_config"]["parameters"]["preset"] == "accurate"
    assert sent["runtime_config"]["parameters"]["epochs"] == 0


def test_upload_makes_each_version_once(api: Pipelines, tmp_path: Path) -> None:
    """The first upload makes the pipeline, the same again changes nothing, other settings make another version."""
    first = json.loads(invoke(api, tmp_path, "upload", "--json").stdout)
    again = json.loads(invoke(api, tmp_path, "upload", "--json").stdout)
    other = json.loads(invoke(api, tmp_path, "upload", "--json", DIGITS_STEPS_IMAGE="other:2").stdout)
    assert (first["made"], again["made"], other["made"]) == (True, False, True)
    assert again["version"] == first["version"] != other["version"]
    assert len(api.pipelines) == 1
    assert len(api.versions) == 2
    content = api.versions[other["version"]]["content"]
    assert "other:2" in content
    steps = next(yaml.safe_load_all(content[content.index("# PIPELINE") :]))["root"]["dag"]["tasks"]
    # Whoever starts a run on the page does not know that the world has changed.
    assert {step for step in STEPS if not steps[step]["cachingOptions"]} == {*UNCACHED_STEPS, "deploy"}


def test_a_refused_upload_leaves_no_pipeline(api: Pipelines, tmp_path: Path) -> None:
    """An upload that was cut off is as if it had not been."""
    api.fail = lambda method, path: "cut" if path.endswith("upload_version") else None
    answer = invoke(api, tmp_path, "upload")
    assert isinstance(answer.exception, MissingError)
    assert api.pipelines == {}


def test_schedules_are_made_listed_and_removed(api: Pipelines, tmp_path: Path) -> None:
    """A cron expression of five fields gets its second; steps that look at the world are never cached there."""
    made = json.loads(invoke(api, tmp_path, "schedule", "--cron", "0 3 * * *", "--epochs", "2", "--json").stdout)
    invoke(api, tmp_path, "schedule", "--every", "12h")
    sent = api.schedules[made["schedule"]]
    assert sent["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert sent["runtime_config"]["parameters"] == {"epochs": 2}
    steps = sent["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {step for step in STEPS if not steps[step]["cachingOptions"]} == {
        "fetch-mnist",
        "collect-feedback",
        "deploy",
    }
    for item in api.schedules.values():
        item["display_name"] = "digits-recognizer"
    listed = json.loads(invoke(api, tmp_path, "schedule", "--list", "--json").stdout)["schedules"]
    assert [item["when"] for item in listed] == ["0 0 3 * * *", "every 43200 s"]
    assert invoke(api, tmp_path, "schedule", "--delete", made["schedule"]).exit_code == 0
    assert len(api.schedules) == 1


@pytest.mark.parametrize(
    "arguments", [(), ("--list", "--delete", "x"), ("--cron", "3 *"), ("--every", "10s"), ("--every", "soon")]
)
def test_a_schedule_that_makes_no_sense_is_refused(api: Pipelines, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Before anything is asked of the server."""
    answer = invoke(api, tmp_path, "schedule", *arguments)
    assert isinstance(answer.exception, UsageError)
    assert api.asked == []


def test_a_run_on_kubeflow_looks_as_on_the_laptop(api: Pipelines, tmp_path: Path) -> None:
    """`digits run --backend kubeflow --json` answers with the run's facts, and with less where they are gone."""
    told = OUTPUTS["published"] | {"digest": "d", "promoted": True, "why": "first", "champion": "abc"}
    succeeded(api)
    api.logs[pod("deploy")] = api.logs[pod("deploy")].replace(json.dumps(OUTPUTS["published"]), json.dumps(told))
    answer = invoke(api, tmp_path, "run", "--backend", "kubeflow", "--json")
    assert answer.exit_code == 0, answer.output
    facts = json.loads(answer.stdout)
    assert (facts["release"], facts["accuracy"]) == ("abc", 0.99)
    assert facts["endpoint"] == OUTPUTS["deployed"]["endpoint"]
    assert facts["report"] == ""  # no server of MLflow is reached from here
    assert "on the run's page" in answer.stderr
    assert "port-forward svc/web 8000:80" in answer.stderr
    api.logs.clear()
    facts = json.loads(invoke(api, tmp_path, "run", "--backend", "kubeflow", "--json").stdout)
    assert (facts["state"], facts["steps"]["train"]["state"]) == ("SUCCEEDED", "done")

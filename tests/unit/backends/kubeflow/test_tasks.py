"""The pipeline that is compiled for Kubeflow: no secrets, and everything that Kubernetes needs for each step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineTaskSpec
from kubernetes.utils.quantity import parse_quantity

from backends.kubeflow.submit import compiled
from backends.kubeflow.tasks import RESOURCES, UNCACHED_STEPS, Resources, configure_task
from digits import attempts
from digits.errors import Unavailable, UsageError
from digits.settings import Settings
from pipeline import STEPS
from pipeline.definition import compile_to
from tests.helpers.kfp_runs import SECRETS
from tests.helpers.support import ROOT


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return (text, pipeline, platform) of a compilation with a secret in every setting that may hold one."""
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
    """Neither the value of a secret nor a folder of this machine is in the YAML."""
    text = documents[0]
    assert [secret for secret in SECRETS if secret in text] == []
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert str(Path.home()) not in text.replace("/root/.", "") or str(Path.home()) == "/root"
    assert str(ROOT) not in text


def test_every_step_has_its_limits_and_identity(documents: Any) -> None:
    """Image, pull policy, user, limits, deadline, retries and credentials are set on each step."""
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
        expected = {"MINIO_ACCESS_KEY", "MINIO_SECRET_KEY", "MINIO_SESSION_TOKEN"}
        assert expected <= {entry["envVar"] for entry in secret["keyToEnv"]}
        config_variables = {entry["envVar"] for entry in config["keyToEnv"]}
        assert {"DIGITS_STORE", "MINIO_ENDPOINT", "MINIO_REGION"} <= config_variables
        assert not expected & config_variables


def test_a_step_repeats_itself_because_argo_does_not(documents: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's environment makes it repeat itself as often as Argo replaces a lost pod."""
    # There is no field for Argo's `retryPolicy`, so Argo merges Kubeflow's default into each template: OnError, which
    # does not apply to a step that ends with an error.
    fields = {"maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration"}
    assert set(PipelineTaskSpec.RetryPolicy.DESCRIPTOR.fields_by_camelcase_name) == fields
    monkeypatch.setattr(attempts, "FIRST_WAIT", 0.0)
    for step in STEPS:
        retries = documents[1]["root"]["dag"]["tasks"][step]["retryPolicy"]["maxRetryCount"]
        for variable in documents[1]["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["env"]:
            monkeypatch.setenv(variable["name"], variable["value"])
        monkeypatch.setenv("DIGITS_EVENTS", "/dev/null")
        calls: list[str] = []

        @attempts.step(step)
        def function(step: str = step, calls: list[str] = calls) -> None:
            calls.append(step)
            raise Unavailable("gone")

        with pytest.raises(Unavailable):
            function()
        assert len(calls) == 1 + retries


@pytest.mark.parametrize("plugin", [0, 1])
def test_each_variable_has_one_source(tmp_path: Path, plugin: int) -> None:
    """Kubernetes refuses what Kubeflow merges from two sources, also from its MLflow plugin."""
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


def test_only_train_has_a_gpu_and_a_node(documents: Any) -> None:
    """GPU, node labels and the limits from the settings go to train and to no other step."""
    _, pipeline, platform = documents
    resources = {s: pipeline["deploymentSpec"]["executors"][f"exec-{s}"]["container"]["resources"] for s in STEPS}
    assert resources["train"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert (resources["train"]["resourceCpuLimit"], resources["train"]["resourceMemoryLimit"]) == ("8", "16Gi")
    assert platform["exec-train"]["nodeSelector"]["labels"] == {"pool": "gpu", "zone": "a"}
    assert [s for s in STEPS if "accelerator" in resources[s]] == ["train"]
    assert [s for s in STEPS if "nodeSelector" in platform[f"exec-{s}"]] == ["train"]


def test_a_train_step_that_waits_needs_little(tmp_path: Path) -> None:
    """If pods of a TrainJob train, the step has the settings for them instead of their GPU, node and limits."""
    settings = Settings(home=tmp_path, trainer="trainjob", workers=2, train_gpus=1, train_node="a=b", train_cpu="8")
    spec = compiled(settings)
    container = spec["pipeline_spec"]["deploymentSpec"]["executors"]["exec-train"]["container"]
    platform = spec["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    assert ("accelerator" in container["resources"], "nodeSelector" in platform) == (False, False)
    assert container["resources"]["resourceCpuLimit"] == Resources().max_cpu
    variables = {item["name"]: item["value"] for item in container["env"]}
    read = Settings.load(variables, dotenv=None)
    for name in ("trainer", "workers", "train_gpus", "train_node", "train_cpu", "train_memory_request"):
        assert getattr(read, name) == getattr(settings, name)
    names = [*variables, *(entry["envVar"] for part in platform["configMapAsEnv"] for entry in part["keyToEnv"])]
    assert (names.count("DIGITS_TRAIN_QUEUE"), len(names)) == (1, len(set(names)))


@pytest.mark.parametrize(
    "wrong", [{"pull_policy": "Sometimes"}, {"train_node": "gpu"}, {"train_node": "=a"}], ids=lambda w: str(w)
)
def test_a_wrong_setting_is_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    """A value that Kubernetes does not accept is refused before anything is compiled."""
    with pytest.raises(UsageError, match=r"DIGITS_(PULL_POLICY|TRAIN_NODE): expected"):
        configure_task(Settings(home=tmp_path, **wrong))


@pytest.mark.parametrize(
    "wrong", [{"train_cpu": "100m"}, {"train_memory": "512Mi"}, {"train_memory_request": "4Gi"}, {"train_cpu": "two"}]
)
def test_a_limit_below_the_request_is_refused(tmp_path: Path, wrong: dict[str, str]) -> None:
    """Kubernetes would refuse such a pod only when the run reaches it."""
    with pytest.raises(UsageError, match=r"DIGITS_TRAIN_(CPU|MEMORY): expected"):
        configure_task(Settings(home=tmp_path, **wrong))


def test_all_requests_fit_a_node_with_one_free_core_and_two_gibibytes(documents: Any) -> None:
    """Steps whose inputs are independent run at the same time; their requests fit a small node together."""
    requests = {step: RESOURCES.get(step, Resources()) for step in STEPS}
    concurrent = [("fetch-mnist", "collect-feedback"), *[(step,) for step in STEPS]]
    defaults = {"cpu": Settings.train_cpu_request, "memory": Settings.train_memory_request}
    for steps in concurrent:
        cpu = sum(parse_quantity(requests[step].cpu or defaults["cpu"]) for step in steps)
        memory = sum(parse_quantity(requests[step].memory or defaults["memory"]) for step in steps)
        assert (cpu <= 1, memory <= 2 * 1024**3) == (True, True), steps


def test_keys_are_mounted_where_they_are_needed(documents: Any) -> None:
    """The private key is mounted in publish only, the public ones where they are read; neither must exist."""
    platforms = documents[2].items()
    secrets = {step: platform["secretAsVolume"][0] for step, platform in platforms if "secretAsVolume" in platform}
    keys = {step: platform["configMapAsVolume"][0] for step, platform in platforms if "configMapAsVolume" in platform}
    assert (set(secrets), set(keys)) == ({"exec-publish"}, {"exec-train", "exec-publish", "exec-deploy"})
    assert secrets["exec-publish"]["mountPath"] == "/etc/digits/signing-key"
    assert {mount["mountPath"] for mount in keys.values()} == {"/etc/digits/trusted-keys"}
    assert all(mount["optional"] for mount in [*secrets.values(), *keys.values()])

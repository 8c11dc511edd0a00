"""The manifests render, fit the models of Kubernetes and KServe, and have the documented properties."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from backends.kind.namespace import KEYS, MINIO_IMAGE, PREDICTOR_IMAGE, kustomization
from backends.kserve.revision import SERVICE_ACCOUNT, Revision, inference_service, is_ours
from backends.kubeflow.tasks import SECRET_KEYS
from backends.trainer.worker_main import FAILED
from digits.serving.server import GRACE_SECONDS
from digits.settings import Settings
from digits.store import schemes
from tests.helpers.kubernetes_api import FAILURE, RELEASE, URI, live_service
from tests.helpers.openapi import build, kubernetes_models
from web_app.server import DRAIN_SECONDS

ROOT = Path(__file__).parents[2] / "manifests"
FOLDERS = ("cluster", "overlays/kind", "overlays/kubeflow", "endpoint", "endpoint-tensorflow", "acceptance", "trainer")

Json = dict[str, Any]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Json]]:
    """Return {folder: its objects}, as `kubectl apply -k` sends them."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    root = tmp_path_factory.mktemp("manifests") / "manifests"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("s3.env"))
    for example in root.rglob("s3.env.example"):
        example.rename(example.with_suffix(""))
    (root / "trainer").mkdir()
    (root / "trainer/kustomization.yaml").write_text('{"components": ["../components/trainer"]}')
    return {folder: render(root / folder) for folder in FOLDERS}


def render(folder: Path) -> list[Json]:
    process = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    return list(yaml.safe_load_all(process.stdout))


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [item for item in objects if item["kind"] == kind]


def pod_specs(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """Yield (name, pod spec) of every object that creates pods."""
    for item in objects:
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] in {"Deployment", "Job"}:
            yield name, item["spec"]["template"]["spec"]
        elif item["kind"] == "ServingRuntime":
            yield name, item["spec"]
        elif item["kind"] == "TrainingRuntime":
            yield name, job_of(item)["template"]["spec"]
        elif item["kind"] == "ClusterStorageContainer":
            yield name, {"containers": [item["spec"]["container"]]}
        elif item["kind"] == "InferenceService" and "securityContext" in item["spec"]["predictor"]["model"]:
            yield name, {"containers": [item["spec"]["predictor"]["model"]]}


def job_of(runtime: Json) -> Json:
    """Return the specification of the Job of a TrainingRuntime's workers."""
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    job: Json = node["template"]["spec"]
    return job


def workloads(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """Yield (name, labels and annotations of its pods) of every workload."""
    for item in objects:
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}:
            yield name, item["spec"]["template"]["metadata"]
        elif item["kind"] == "CronJob":
            yield name, item["spec"]["jobTemplate"]["spec"]["template"]["metadata"]
        elif item["kind"] == "Pod":
            yield name, item["metadata"]
        elif item["kind"] == "TrainingRuntime":
            yield name, job_of(item)["template"]["metadata"]
        elif item["kind"] == "InferenceService":  # KServe copies its metadata, and labels the pods with its name
            labels = item["metadata"]["labels"] | {"serving.kserve.io/inferenceservice": item["metadata"]["name"]}
            yield name, item["metadata"] | {"labels": labels}


@pytest.fixture(scope="module")
def models() -> list[ModuleType]:
    return kubernetes_models()


@pytest.mark.parametrize("folder", FOLDERS)
def test_objects_fit_their_models(rendered: dict[str, list[Json]], models: list[ModuleType], folder: str) -> None:
    """Each object has all required fields of its model, and no other fields than the model's."""
    for item in copy.deepcopy(rendered[folder]):
        if item["kind"] == "ClusterStorageContainer":  # it is applied to KServe's own object, which has these
            item["spec"]["supportedUriFormats"] = []
        if item["kind"] == "TrainingRuntime":  # of which there is no model
            build(models, "V1JobSpec", job_of(item))
            continue
        names = [f"{version}{item['kind']}" for version in ("V1", "V1alpha1", "V1beta1")]
        build(models, next(name for name in names if any(hasattr(module, name) for module in models)), item)


def test_what_is_applied_and_read_fits_kserve(models: list[ModuleType]) -> None:
    """The InferenceServices that a deployment applies, and those that it reads in tests, fit KServe's model."""
    revision = Revision.for_release(RELEASE, URI, "image:1")
    applied = inference_service("digits", revision, previous=revision.to_json(), scaling={"minReplicas": 2})
    build(models, "V1beta1InferenceService", live_service(applied, modelStatus=FAILURE))


def test_a_misspelt_field_is_rejected(models: list[ModuleType]) -> None:
    """`build` rejects a field that does not exist."""
    service = inference_service("digits", Revision("s3://b/f/"))
    build(models, "V1beta1InferenceService", service)
    service["spec"]["predictor"]["minReplica"] = 1
    with pytest.raises(AssertionError, match="minReplica"):
        build(models, "V1beta1InferenceService", service)


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_meet_the_restricted_standard(rendered: dict[str, list[Json]], folder: str) -> None:
    """Every container meets the restricted Pod Security Standard and has resource limits."""
    for name, spec in pod_specs(rendered[folder]):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert all(
            set(volume) - {"name"} <= {"emptyDir", "configMap", "secret"} for volume in spec.get("volumes", [])
        ), name
        for container in spec["containers"]:
            security = spec.get("securityContext", {}) | container["securityContext"]
            assert security["runAsNonRoot"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
            if name != "ClusterStorageContainer/default":  # KServe sets its resources
                assert set(container["resources"]) == {"requests", "limits"}, name
            if name.startswith(("Deployment", "ServingRuntime", "TrainingRuntime")):
                assert security["readOnlyRootFilesystem"] is True, name
            if name.startswith(("Deployment", "ServingRuntime")):
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), name
                assert container["imagePullPolicy"] == "IfNotPresent", name


@pytest.mark.parametrize("folder", FOLDERS)
def test_images_are_pinned(rendered: dict[str, list[Json]], folder: str) -> None:
    """Every image has a tag other than latest."""
    images = re.findall(r'"image": "([^"]+)"', json.dumps(rendered[folder]))
    assert all(re.search(r":(?!latest)[^/:]+$", image) for image in images), images


def test_no_credential_is_committed() -> None:
    """Secrets are generated from a file that git ignores; the manifests have none."""
    secrets = [path for path in ROOT.rglob("*.yaml") if re.search(r"^kind: Secret$", path.read_text(), re.MULTILINE)]
    assert secrets == []
    assert "s3.env" in (ROOT / ".gitignore").read_text().split()


@pytest.mark.parametrize("overlay", ["kind", "kubeflow"])
def test_kserve_finds_the_credentials(rendered: dict[str, list[Json]], overlay: str) -> None:
    """The InferenceService's account names the Secret, whose annotations have the address of the store."""
    objects = rendered[f"overlays/{overlay}"]
    (account,) = [a for a in of_kind(objects, "ServiceAccount") if a["metadata"]["name"] == SERVICE_ACCOUNT]
    (secret,) = of_kind(objects, "Secret")
    (settings,) = of_kind(objects, "ConfigMap")
    assert account["secrets"] == [{"name": secret["metadata"]["name"]}]
    assert set(secret["data"]) == set(KEYS)
    endpoint = secret["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"]
    assert settings["data"]["MINIO_ENDPOINT"] == f"http://{endpoint}"
    (service,) = rendered["endpoint"]
    assert service["spec"]["predictor"]["serviceAccountName"] == account["metadata"]["name"]


def test_extensions_stay_in_the_kubeflow_overlay(rendered: dict[str, list[Json]]) -> None:
    """The kubeflow overlay works without notebooks and Istio; objects of their kinds are separate files."""
    kinds = {name: {item["kind"] for item in objects} for name, objects in rendered.items()}
    assert not {"PodDefault", "ServiceEntry", "Namespace"} & kinds["overlays/kubeflow"]
    for name, kind in (("pod-default", "PodDefault"), ("service-entry", "ServiceEntry")):
        (item,) = yaml.safe_load_all((ROOT / "overlays/kubeflow" / f"{name}.yaml").read_text())
        assert item["kind"] == kind
        assert "namespace" not in item["metadata"]


def test_the_kubeflow_overlay_lists_every_image(rendered: dict[str, list[Json]]) -> None:
    """Each image of the overlay is in its list of images, where users replace it."""
    overlay = yaml.safe_load((ROOT / "overlays/kubeflow/kustomization.yaml").read_text())
    named = {f"{item['newName']}:{item['newTag']}" for item in overlay["images"]}
    assert set(re.findall(r'"image": "([^"]+)"', json.dumps(rendered["overlays/kubeflow"]))) == named


def test_the_store_of_the_kubeflow_overlay_is_a_folder_that_a_profile_may_use(rendered: dict[str, list[Json]]) -> None:
    """The address of the store has the namespace of the overlay, as the policy of a profile's keys requires."""
    (settings,) = of_kind(rendered["overlays/kubeflow"], "ConfigMap")
    namespace = settings["metadata"]["namespace"]
    assert settings["data"]["DIGITS_STORE"] == f"s3://mlpipeline/private/{namespace}/digits"


def test_deploy_creates_the_object_of_the_manifest(rendered: dict[str, list[Json]]) -> None:
    """`deploy` and `kubectl apply -k manifests/endpoint` create the same InferenceService, except for the release."""
    (manifest,) = rendered["endpoint"]
    uri = manifest["spec"]["predictor"]["model"]["storageUri"]
    service = inference_service("digits", Revision.for_release(RELEASE, uri, ""))
    annotations = service["metadata"]["annotations"]
    assert annotations["digits/digest"] == RELEASE["digest"]
    service["metadata"]["annotations"] = {k: v for k, v in annotations.items() if not k.startswith("digits/")}
    assert service == manifest
    assert uri.endswith("/")


@pytest.mark.parametrize(
    ("endpoint", "folder"),
    [
        ("endpoint", "overlays/kind"),
        ("endpoint", "overlays/kubeflow"),
        ("endpoint-tensorflow", "endpoint-tensorflow"),
    ],
)
def test_a_drain_evicts_one_replica_at_a_time(rendered: dict[str, list[Json]], endpoint: str, folder: str) -> None:
    """A disruption budget selects each endpoint's pods, protects all but one, and never blocks a drain."""
    (budget,) = of_kind(rendered[folder], "PodDisruptionBudget")
    (service,) = of_kind(rendered[endpoint], "InferenceService")
    assert budget["spec"]["selector"]["matchLabels"] == {
        "serving.kserve.io/inferenceservice": service["metadata"]["name"]
    }
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_grace_period_covers_sleep_and_drain(rendered: dict[str, list[Json]]) -> None:
    """A pod that sleeps before it stops and then finishes its requests is not killed; Kubernetes' default is 30 s."""
    (service,), objects = rendered["endpoint"], rendered["overlays/kind"]
    (runtime,) = of_kind(objects, "ServingRuntime")
    (page,) = (item for item in of_kind(objects, "Deployment") if item["metadata"]["name"] == "digits-web")
    web = page["spec"]["template"]["spec"]
    drains = [
        (service["spec"]["predictor"]["terminationGracePeriodSeconds"], runtime["spec"]["containers"], GRACE_SECONDS),
        (web.get("terminationGracePeriodSeconds", 30), web["containers"], DRAIN_SECONDS),
    ]
    for grace_period, (container,), drain in drains:
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain + 5 <= grace_period


@pytest.mark.parametrize("overlay", ["kind", "kubeflow"])
def test_services_do_not_set_our_settings(rendered: dict[str, list[Json]], overlay: str) -> None:
    """Kubernetes sets NAME_PORT in pods for each Service NAME; none of these variables is a setting."""
    names = [item["metadata"]["name"] for item in of_kind(rendered[f"overlays/{overlay}"], "Service")]
    variables = {
        f"{name.upper().replace('-', '_')}_{what}"
        for name in [*names, "digits-predictor"]
        for what in ("PORT", "SERVICE_HOST")
    }
    assert not variables & {field.metadata["name"] for field in dataclasses.fields(Settings)}


def test_the_deploy_step_has_few_permissions(rendered: dict[str, list[Json]]) -> None:
    """The deploy step's Role permits neither Secrets nor other InferenceServices."""
    (role,) = of_kind(rendered["overlays/kind"], "Role")
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]
        if "inferenceservices" in rule["resources"] and rule["verbs"] != ["create"]:
            assert rule["resourceNames"] == ["digits"]


def test_the_train_step_has_few_permissions(rendered: dict[str, list[Json]]) -> None:
    """The train step's Role permits TrainJobs and reading of pods; the workers have no Role, and no token."""
    (role,), (binding,) = (of_kind(rendered["trainer"], kind) for kind in ("Role", "RoleBinding"))
    allowed = {(resource, verb) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    reading = {("pods", "list"), ("pods/log", "get")}
    assert allowed == {("trainjobs", "create"), ("trainjobs", "get"), ("trainjobs", "delete")} | reading
    (runtime,) = of_kind(rendered["trainer"], "TrainingRuntime")
    pod = job_of(runtime)["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["serviceAccountName"] not in {subject["name"] for subject in binding["subjects"]}


def test_workers_restart_together(rendered: dict[str, list[Json]]) -> None:
    """A worker that ends is not started again alone, and none after an error that would come again."""
    (runtime,) = of_kind(rendered["trainer"], "TrainingRuntime")
    job, policy = job_of(runtime), runtime["spec"]["template"]["spec"]["failurePolicy"]
    assert (job["template"]["spec"]["restartPolicy"], job["backoffLimit"], policy["maxRestarts"]) == ("Never", 0, 3)
    (rule,), (failure,) = job["podFailurePolicy"]["rules"], policy["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [FAILED])
    assert (failure["action"], failure["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])


def test_workers_read_the_settings_of_the_store(rendered: dict[str, list[Json]]) -> None:
    """Each variable that a store reads comes from the same ConfigMap or Secret as in the steps."""
    (runtime,) = of_kind(rendered["trainer"], "TrainingRuntime")
    (container,) = job_of(runtime)["template"]["spec"]["containers"]
    sources = {item["name"]: item["valueFrom"] for item in container["env"] if "valueFrom" in item}
    keys = {name: next(iter(source.values()))["key"] for name, source in sources.items()}
    secret = {name: key for key, name in SECRET_KEYS.items()}
    names = {"DIGITS_STORE", *(name for scheme in schemes().values() for name in scheme.variables)}
    assert keys == {name: secret.get(name, name) for name in names}
    assert {key for name, source in sources.items() for key in source if name in secret} == {"secretKeyRef"}


def test_every_account_of_the_runs_may_train(tmp_path: Path) -> None:
    """With the component, Kubeflow's accounts have the rights of the train step too."""
    root = tmp_path / "manifests"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("s3.env"))
    overlay = root / "overlays/kubeflow"
    shutil.copy(overlay / "s3.env.example", overlay / "s3.env")
    text = (overlay / "kustomization.yaml").read_text()
    text, count = re.subn(r"^# (components:|  - \.\./\.\./components)", r"\1", text, flags=re.MULTILINE)
    assert count == 2
    (overlay / "kustomization.yaml").write_text(text)
    first, second = of_kind(render(overlay), "RoleBinding")
    assert first["subjects"] == second["subjects"]
    assert {subject["namespace"] for subject in first["subjects"]} == {first["metadata"]["namespace"]}


def test_no_pod_has_a_sidecar(rendered: dict[str, list[Json]]) -> None:
    """Istio adds no proxy to our pods, because the network policies block it from its control plane."""
    metadata_by_name = {name: metadata for objects in rendered.values() for name, metadata in workloads(objects)}
    assert {"Deployment/digits-web", "Deployment/minio", "InferenceService/digits"} < set(metadata_by_name)
    for name, metadata in metadata_by_name.items():
        assert metadata["annotations"]["sidecar.istio.io/inject"] == "false", name
        if name.startswith("Deployment"):
            assert metadata["labels"]["sidecar.istio.io/inject"] == "false", name


def selects(policy: Json, labels: Json) -> bool:
    """Return whether a NetworkPolicy selects pods with these labels, and not all pods."""
    selector = policy["spec"]["podSelector"]
    for expression in selector.get("matchExpressions", []):
        value = labels.get(expression["key"])
        if not (value in expression["values"] if expression["operator"] == "In" else value is not None):
            return False
    return bool(selector) and selector.get("matchLabels", {}).items() <= labels.items()


def test_every_pod_has_a_network_policy(rendered: dict[str, list[Json]]) -> None:
    """Our own namespace denies traffic by default; each workload, and the steps, have a policy."""
    policies = of_kind(rendered["overlays/kind"] + rendered["trainer"], "NetworkPolicy")
    assert any(p["spec"]["podSelector"] == {} and "ingress" not in p["spec"] for p in policies)
    metadata_by_name = dict(workloads([item for objects in rendered.values() for item in objects]))
    assert {"Deployment/digits-web", "InferenceService/digits", "InferenceService/digits-recognizer"} < set(
        metadata_by_name
    )
    for name, metadata in (metadata_by_name | {"a step": {"labels": {"pipeline/runid": "1"}}}).items():
        assert [p["metadata"]["name"] for p in policies if selects(p, metadata["labels"])], name


@pytest.mark.parametrize("overlay", ["kind", "kubeflow"])
def test_policies_permit_the_required_traffic(rendered: dict[str, list[Json]], overlay: str) -> None:
    """The page reaches each endpoint of the manifests; all reach a store in the cluster, or one by HTTPS."""
    policies = of_kind(rendered[f"overlays/{overlay}"], "NetworkPolicy")
    endpoints = dict(workloads(rendered["endpoint"] + rendered["endpoint-tensorflow"]))
    (page,) = (p for p in policies if p["metadata"]["name"] == "digits-web")
    targets = [to for rule in page["spec"]["egress"] for to in rule.get("to", [])]
    assert all(any(selects({"spec": to}, metadata["labels"]) for to in targets) for metadata in endpoints.values())
    for metadata in (*endpoints.values(), {"labels": {"app.kubernetes.io/name": "digits-web"}}):
        (policy,) = (p for p in policies if selects(p, metadata["labels"]))
        anywhere = {port["port"] for rule in policy["spec"]["egress"] if "to" not in rule for port in rule["ports"]}
        assert anywhere == {53, 443, 8333, 9000}


def test_up_uses_the_built_images(rendered: dict[str, list[Json]], tmp_path: Path) -> None:
    """`cluster up` renders the kind overlay for a namespace with the given images, and no page without its image."""
    root = tmp_path / "manifests"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("s3.env"))
    shutil.copy(root / "overlays/kind/s3.env.example", root / "overlays/kind/s3.env")
    images = {PREDICTOR_IMAGE: "localhost:5001/predictor:abc", MINIO_IMAGE: "my/minio"}
    (root / "here").mkdir()
    (root / "here/a.pub").touch()
    (root / "here/kustomization.yaml").write_text(json.dumps(kustomization("elsewhere", images, ["a.pub"])))
    objects = render(root / "here")
    assert all(map(is_ours, objects))  # else the next `up` would refuse its own objects
    text = json.dumps(objects)
    assert '"image": "localhost:5001/predictor:abc"' in text
    assert '"image": "my/minio:latest"' in text
    assert [item["metadata"]["name"] for item in of_kind(objects, "Deployment")] == ["minio"]
    assert {item["metadata"]["name"] for item in of_kind(objects, "Namespace")} == {"elsewhere"}
    assert {item["metadata"].get("namespace", "elsewhere") for item in objects} == {"elsewhere"}

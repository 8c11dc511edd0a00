"""The manifests render, are valid to the models of Kubernetes and KServe, and keep the promises made about them."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.kind.namespace import KEYS, MINIO_IMAGE, PREDICTOR_IMAGE, kustomization
from backends.kserve.revision import SERVICE_ACCOUNT, Revision, inference_service
from digits.settings import Settings
from web_app.server import DRAIN_SECONDS

ROOT = Path(__file__).parents[2] / "manifests"
FOLDERS = ("cluster", "overlays/kind", "overlays/kubeflow", "endpoint", "endpoint-tensorflow")
RELEASE = {"version": "0123456789ab", "digest": "01" * 32, "mlflow_run": "run", "data": {"source": "x"}, "code": "c"}

Json = dict[str, Any]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Json]]:
    """{folder: its objects}, as `kubectl apply -k` would send them."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on PATH")
    root = tmp_path_factory.mktemp("manifests") / "manifests"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("s3.env"))
    for example in root.rglob("s3.env.example"):
        example.rename(example.with_suffix(""))
    return {folder: render(root / folder) for folder in FOLDERS}


def render(folder: Path) -> list[Json]:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(objects: list[Json], kind: str) -> list[Json]:
    return [item for item in objects if item["kind"] == kind]


def pod_specs(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """(name, pod spec) of all that makes pods."""
    for item in objects:
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] == "Deployment":
            yield name, item["spec"]["template"]["spec"]
        elif item["kind"] == "ServingRuntime":
            yield name, item["spec"]
        elif item["kind"] == "ClusterStorageContainer":
            yield name, {"containers": [item["spec"]["container"]]}
        elif item["kind"] == "InferenceService" and "securityContext" in item["spec"]["predictor"]["model"]:
            yield name, {"containers": [item["spec"]["predictor"]["model"]]}


def workloads(objects: list[Json]) -> Iterator[tuple[str, Json]]:
    """(name, labels and annotations of its pods) of all that runs for long."""
    for item in objects:
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] in {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}:
            yield name, item["spec"]["template"]["metadata"]
        elif item["kind"] == "CronJob":
            yield name, item["spec"]["jobTemplate"]["spec"]["template"]["metadata"]
        elif item["kind"] == "Pod":
            yield name, item["metadata"]
        elif item["kind"] == "InferenceService":  # KServe hands its annotations on, and labels the pods with its name
            labels = {"serving.kserve.io/inferenceservice": item["metadata"]["name"]}
            yield name, item["metadata"] | {"labels": labels}


# The kinds of others, whose models no installed client has.
FOREIGN = {"ClusterStorageContainer"}
MODELS = {"Role": "V1Role", "RoleBinding": "V1RoleBinding", "InferenceService": "V1beta1InferenceService"}


@pytest.fixture(scope="module")
def models() -> list[Any]:
    """The modules that hold Kubernetes' and KServe's models."""
    before, sys.argv = sys.argv, sys.argv[:1]  # importing kserve reads sys.argv
    try:
        import kserve as sdk
        from kubernetes import client
    finally:
        sys.argv = before
    return [sdk, client]


def build(models: list[Any], kind: str, value: Any) -> Any:
    """An object of the model `kind`, made of JSON; an unknown field, a missing one or a wrong type is an error."""
    if inner := re.fullmatch(r"list\[(.*)\]", kind):
        assert isinstance(value, list), f"expected a list of {inner[1]}, got {value!r}"
        return [build(models, inner[1], item) for item in value]
    if inner := re.fullmatch(r"dict\(str, (.*)\)", kind):
        assert isinstance(value, dict), f"expected a mapping of {inner[1]}, got {value!r}"
        return {key: build(models, inner[1], item) for key, item in value.items()}
    plain = {"str": str, "int": int, "bool": bool, "float": (int, float)}
    if kind in plain:
        assert isinstance(value, plain[kind]), f"expected {kind}, got {value!r}"
        return value
    if kind in {"object", "datetime", "ResourceQuantity", "K8sIoApimachineryPkgApiResourceQuantity"}:
        return value
    name = re.sub(r"^K8sIoApi(Apps|Core)V1", "V1", kind)
    model = next(getattr(module, name) for module in models if hasattr(module, name))
    fields = {json_name: field for field, json_name in model.attribute_map.items()}
    assert isinstance(value, dict), f"expected {kind}, got {value!r}"
    assert set(value) <= set(fields), f"{kind} has no {set(value) - set(fields)}"
    return model(**{fields[key]: build(models, model.openapi_types[fields[key]], item) for key, item in value.items()})


@pytest.mark.parametrize("folder", FOLDERS)
def test_objects_fit_their_models(rendered: dict[str, list[Json]], models: list[Any], folder: str) -> None:
    """Each object has only fields that its model knows, and all that it needs."""
    for item in rendered[folder]:
        if item["kind"] not in FOREIGN:
            known = [f"V1{item['kind']}", f"V1alpha1{item['kind']}", MODELS.get(item["kind"], "")]
            name = next(n for n in known if any(hasattr(module, n) for module in models))
            build(models, name, item)


def test_a_misspelt_field_is_noticed(models: list[Any]) -> None:
    """The check of models rejects a field that does not exist."""
    service = inference_service("digits", Revision("s3://b/f/"))
    build(models, "V1beta1InferenceService", service)
    service["spec"]["predictor"]["minReplica"] = 1
    with pytest.raises(AssertionError, match="minReplica"):
        build(models, "V1beta1InferenceService", service)


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_meet_the_restricted_standard(rendered: dict[str, list[Json]], folder: str) -> None:
    """Every container is unprivileged as the restricted Pod Security Standard demands, and has bounds."""
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
            if name.startswith(("Deployment", "ServingRuntime")):
                assert security["readOnlyRootFilesystem"] is True, name
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), name
                assert container["imagePullPolicy"] == "IfNotPresent", name


@pytest.mark.parametrize("folder", FOLDERS)
def test_images_are_pinned(rendered: dict[str, list[Json]], folder: str) -> None:
    """No image is without a tag or has the tag latest."""
    images = re.findall(r'"image": "([^"]+)"', json.dumps(rendered[folder]))
    assert all(re.search(r":(?!latest)[^/:]+$", image) for image in images), images


def test_no_credential_is_kept() -> None:
    """Secrets are made from a file that git ignores; the manifests hold none."""
    kept = [path for path in ROOT.rglob("*.yaml") if re.search(r"^kind: Secret$", path.read_text(), re.MULTILINE)]
    assert kept == []
    assert "s3.env" in (ROOT / ".gitignore").read_text().split()


@pytest.mark.parametrize("overlay", ["kind", "kubeflow"])
def test_kserve_finds_the_credentials(rendered: dict[str, list[Json]], overlay: str) -> None:
    """The InferenceService's account names the Secret, whose annotations say where the store is."""
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
    """Kubeflow Pipelines without notebooks and Istio takes the kubeflow overlay: their kinds are files beside it."""
    kinds = {name: {item["kind"] for item in objects} for name, objects in rendered.items()}
    assert not {"PodDefault", "ServiceEntry", "Namespace"} & kinds["overlays/kubeflow"]
    for name, kind in (("pod-default", "PodDefault"), ("service-entry", "ServiceEntry")):
        (item,) = yaml.safe_load_all((ROOT / "overlays/kubeflow" / f"{name}.yaml").read_text())
        assert item["kind"] == kind
        assert "namespace" not in item["metadata"]


def test_the_kubeflow_overlay_names_every_image(rendered: dict[str, list[Json]]) -> None:
    """Each image of the overlay is listed where its user puts another one."""
    overlay = yaml.safe_load((ROOT / "overlays/kubeflow/kustomization.yaml").read_text())
    named = {f"{item['newName']}:{item['newTag']}" for item in overlay["images"]}
    assert set(re.findall(r'"image": "([^"]+)"', json.dumps(rendered["overlays/kubeflow"]))) == named


def test_the_code_deploys_what_the_manifest_says(rendered: dict[str, list[Json]]) -> None:
    """`deploy` and `kubectl apply -k manifests/endpoint` make the same InferenceService but for the release."""
    (manifest,) = rendered["endpoint"]
    uri = manifest["spec"]["predictor"]["model"]["storageUri"]
    made = inference_service("digits", Revision.for_release(RELEASE, uri, ""))
    notes = made["metadata"]["annotations"]
    assert notes["digits/digest"] == RELEASE["digest"]
    made["metadata"]["annotations"] = {k: v for k, v in notes.items() if not k.startswith("digits/")}
    assert made == manifest
    assert uri.endswith("/")


@pytest.mark.parametrize("overlay", ["kind", "kubeflow"])
def test_a_drain_takes_one_replica_at_a_time(rendered: dict[str, list[Json]], overlay: str) -> None:
    """The disruption budget is about the predictor's pods, keeps all but one of them, and blocks no drain for ever."""
    (budget,) = of_kind(rendered[f"overlays/{overlay}"], "PodDisruptionBudget")
    ((_, made),) = workloads(rendered["endpoint"])
    assert budget["spec"]["selector"] == {"matchLabels": made["labels"]}
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_pod_is_given_the_time_that_it_takes_to_end(rendered: dict[str, list[Json]]) -> None:
    """Kubernetes kills no pod that sleeps before it stops and then lets its requests finish; 30 s are its default."""
    predictor = (ROOT.parent / "digits/serving/server.py").read_text()  # whose import is kserve's: a slow one
    (grace,) = re.findall(r"^GRACE_SECONDS = (\d+)", predictor, re.MULTILINE)
    (service,), objects = rendered["endpoint"], rendered["overlays/kind"]
    (runtime,) = of_kind(objects, "ServingRuntime")
    (page,) = (item for item in of_kind(objects, "Deployment") if item["metadata"]["name"] == "digits-web")
    own = page["spec"]["template"]["spec"]
    drains = [
        (service["spec"]["predictor"]["terminationGracePeriodSeconds"], runtime["spec"]["containers"], int(grace)),
        (own.get("terminationGracePeriodSeconds", 30), own["containers"], DRAIN_SECONDS),
    ]
    for given, (container,), drain in drains:
        assert container["lifecycle"]["preStop"]["sleep"]["seconds"] + drain + 5 <= given


@pytest.mark.parametrize("overlay", ["kind", "kubeflow"])
def test_services_do_not_set_our_settings(rendered: dict[str, list[Json]], overlay: str) -> None:
    """Kubernetes gives pods NAME_PORT for each Service NAME; none of those is a setting."""
    names = [item["metadata"]["name"] for item in of_kind(rendered[f"overlays/{overlay}"], "Service")]
    given = {
        f"{name.upper().replace('-', '_')}_{what}"
        for name in [*names, "digits-predictor"]
        for what in ("PORT", "SERVICE_HOST")
    }
    assert not given & {field.metadata["name"] for field in dataclasses.fields(Settings)}


def test_deploying_needs_few_rights(rendered: dict[str, list[Json]]) -> None:
    """The deploy step's Role reaches neither Secrets nor other InferenceServices."""
    (role,) = of_kind(rendered["overlays/kind"], "Role")
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]
        if "inferenceservices" in rule["resources"] and rule["verbs"] != ["create"]:
            assert rule["resourceNames"] == ["digits"]


def test_no_pod_has_a_sidecar(rendered: dict[str, list[Json]]) -> None:
    """Istio puts no proxy into any pod of ours: the network policies would let none reach its control plane."""
    found = {name: made for objects in rendered.values() for name, made in workloads(objects)}
    assert {"Deployment/digits-web", "Deployment/minio", "InferenceService/digits"} < set(found)
    for name, made in found.items():
        assert made["annotations"]["sidecar.istio.io/inject"] == "false", name
        if name.startswith("Deployment"):
            assert made["labels"]["sidecar.istio.io/inject"] == "false", name


def selects(policy: Json, labels: Json) -> bool:
    """Whether a NetworkPolicy is about pods with these labels, and not simply about all."""
    selector = policy["spec"]["podSelector"]
    for expression in selector.get("matchExpressions", []):
        value = labels.get(expression["key"])
        if not (value in expression["values"] if expression["operator"] == "In" else value is not None):
            return False
    return bool(selector) and selector.get("matchLabels", {}).items() <= labels.items()


def test_every_pod_has_a_network_policy(rendered: dict[str, list[Json]]) -> None:
    """On our own namespace all traffic is denied but what a policy allows; each workload has one, and so have steps."""
    policies = of_kind(rendered["overlays/kind"], "NetworkPolicy")
    assert any(p["spec"]["podSelector"] == {} and "ingress" not in p["spec"] for p in policies)
    found = dict(workloads([item for objects in rendered.values() for item in objects]))
    assert {"Deployment/digits-web", "InferenceService/digits", "InferenceService/digits-recognizer"} < set(found)
    for name, made in (found | {"a step": {"labels": {"pipeline/runid": "1"}}}).items():
        assert [p["metadata"]["name"] for p in policies if selects(p, made["labels"])], name


@pytest.mark.parametrize("overlay", ["kind", "kubeflow"])
def test_policies_let_through_what_is_needed(rendered: dict[str, list[Json]], overlay: str) -> None:
    """The page reaches each endpoint that the manifests deploy; all reach a store in the cluster, or one by HTTPS."""
    policies = of_kind(rendered[f"overlays/{overlay}"], "NetworkPolicy")
    endpoints = dict(workloads(rendered["endpoint"] + rendered["endpoint-tensorflow"]))
    (page,) = (p for p in policies if p["metadata"]["name"] == "digits-web")
    targets = [to for rule in page["spec"]["egress"] for to in rule.get("to", [])]
    assert all(any(selects({"spec": to}, made["labels"]) for to in targets) for made in endpoints.values())
    for made in (*endpoints.values(), {"labels": {"app.kubernetes.io/name": "digits-web"}}):
        (policy,) = (p for p in policies if selects(p, made["labels"]))
        anywhere = {port["port"] for rule in policy["spec"]["egress"] if "to" not in rule for port in rule["ports"]}
        assert anywhere == {53, 443, 8333, 9000}


def test_up_puts_in_the_built_images(rendered: dict[str, list[Json]], tmp_path: Path) -> None:
    """`cluster up` renders the kind overlay for any namespace, with the images it was given and no page without one."""
    root = tmp_path / "manifests"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("s3.env"))
    shutil.copy(root / "overlays/kind/s3.env.example", root / "overlays/kind/s3.env")
    images = {PREDICTOR_IMAGE: "localhost:5001/predictor:abc", MINIO_IMAGE: "my/minio"}
    (root / "here").mkdir()
    (root / "here/kustomization.yaml").write_text(json.dumps(kustomization("elsewhere", images)))
    objects = render(root / "here")
    text = json.dumps(objects)
    assert '"image": "localhost:5001/predictor:abc"' in text
    assert '"image": "my/minio:latest"' in text
    assert [item["metadata"]["name"] for item in of_kind(objects, "Deployment")] == ["minio"]
    assert {item["metadata"]["name"] for item in of_kind(objects, "Namespace")} == {"elsewhere"}
    assert {item["metadata"].get("namespace", "elsewhere") for item in objects} == {"elsewhere"}

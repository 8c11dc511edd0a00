"""The table of all probes on a stand-in cluster: each sabotage fails exactly one probe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from backends.acceptance.probe import FAILED, PASSED, SKIPPED, Context, chosen, run_probes
from backends.acceptance.probes import PROBES
from digits.settings import Settings
from tests.helpers.acceptance_cluster import (
    HOOKS,
    KSERVE,
    LINES,
    MODE,
    NAMESPACE,
    RUNTIME,
    ClusterApi,
    deny_all,
)
from tests.helpers.forward_proxy import forward_proxy
from tests.helpers.kubernetes_api import container, kubernetes_api, write_kubeconfig

PODS = f"POST {NAMESPACE}/pods"
SERVICES = f"POST {KSERVE}/namespaces/digits/inferenceservices"
VIOLATES = 'pods "p" is forbidden: violates PodSecurity "restricted:latest": {container} must set securityContext'


def outcomes(settings: Settings, *names: str) -> dict[str, str]:
    """Run probes on the stand-in cluster, by default all, and return {probe: state}."""
    with kubernetes_api(ClusterApi) as server:
        settings.home.mkdir(exist_ok=True)
        write_kubeconfig(settings, server)
        probes = chosen(PROBES, frozenset(names))
        named = frozenset(probe.name for probe in probes if names)
        return {outcome.name: outcome.state for outcome in run_probes(probes, Context(settings, named))}


def refuse(request: str, status: int, message: str) -> Callable[[], None]:
    """Return a sabotage: the API server refuses a request."""
    return lambda: ClusterApi.refusals.update({request: (status, message)})


def remove(path: str) -> Callable[[], None]:
    """Return a sabotage: an object is missing."""
    return lambda: ClusterApi.objects.pop(path) and None


def label() -> None:
    ClusterApi.objects[NAMESPACE]["metadata"]["labels"]["control-plane"] = "x"


def waiting(reason: str) -> Callable[[], None]:
    """Return a sabotage: the pod's container never starts."""
    status = {"phase": "Pending", "containerStatuses": [container(waiting={"reason": reason, "message": "m"})]}
    return lambda: setattr(ClusterApi, "pod_status", status)


def line(probe: str, found: str) -> Callable[[], None]:
    """Return a sabotage: a check in the pod fails."""
    bad = [item | ({"ok": False, "found": found} if item["probe"] == probe else {}) for item in LINES]
    return lambda: setattr(ClusterApi, "log", bad)


def cordon() -> None:
    ClusterApi.objects["/api/v1/nodes"]["items"][0]["spec"]["unschedulable"] = True


def scaled_down() -> None:
    ClusterApi.objects["/apis/apps/v1/namespaces/kserve/deployments"]["items"][0]["status"] = {}


SABOTAGES = {
    "the token has expired": (refuse("GET *", 401, "Unauthorized"), "cluster"),
    "no namespace": (remove(NAMESPACE), "cluster"),
    "no usable node": (cordon, "cluster"),
    "CRD missing": (remove(KSERVE), "kserve"),
    "webhook down": (refuse(SERVICES, 500, "failed calling webhook: connection refused"), "kserve"),
    "no webhook": (lambda: ClusterApi.objects[HOOKS].update(items=[]), "kserve"),
    "controller down": (scaled_down, "kserve"),
    "label control-plane": (label, "kserve"),
    "Knative without Knative": (
        lambda: ClusterApi.objects[MODE].update(data={"deploy": '{"defaultDeploymentMode": "Knative"}'}),
        "kserve",
    ),
    "no account": (remove(f"{NAMESPACE}/serviceaccounts/sa-minio-kserve"), "kserve"),
    "Pod Security": (refuse(PODS, 403, VIOLATES.format(container="storage-initializer")), "security"),
    "quota": (refuse(PODS, 403, 'pods "p" is forbidden: exceeded quota: q, requested: pods=1'), "pods"),
    "image missing": (waiting("ImagePullBackOff"), "pods"),
    "no egress": (deny_all(), "policy"),
    "no egress to the store": (
        deny_all(podSelector={}, policyTypes=["Egress"], egress=[{"ports": [{"port": 53, "protocol": "UDP"}]}]),
        "policy",
    ),
    "packets are dropped": (line("policy", "minio:9000 does not answer within 5 s"), "policy"),
    "S3 403": (line("s3", "AccessDenied"), "s3"),
    "MLflow down": (line("mlflow", "connection refused"), "mlflow"),
    "damaged key": (line("signatures", "DIGITS_SIGNING_KEY: expected an unencrypted private key"), "signatures"),
}


@pytest.fixture(autouse=True)
def _healthy() -> None:
    ClusterApi.reset()


def test_a_healthy_cluster_passes(settings: Settings) -> None:
    """All probes pass, and those that are not asked for are skipped; the pod is removed."""
    states = outcomes(settings)
    unasked = {"kfp", "trainer", "gpu", "proxy", "run"}
    assert {name for name, state in states.items() if state != PASSED} == unasked
    assert ClusterApi.removed == [f"{NAMESPACE}/pods/digits-acceptance"]
    assert f"{NAMESPACE}/pods/digits-acceptance" not in ClusterApi.objects


def test_the_proxy_of_the_cluster_is_tried(settings: Settings) -> None:
    """The probe of proxies names the API server that is reached through one, and a proxy that does not answer."""
    found = {}
    with kubernetes_api(ClusterApi) as server, forward_proxy() as proxy:
        settings.home.mkdir(exist_ok=True)
        for name, url in (("answers", proxy.url), ("silent", "http://127.0.0.1:9")):
            write_kubeconfig(settings, server, proxy=url)
            (outcome,) = run_probes(chosen(PROBES, frozenset({"proxy"})), Context(settings, frozenset({"proxy"})))
            found[name] = [(finding.name, finding.ok) for finding in outcome.findings]
    assert found == {"answers": [("kubeconfig", True)], "silent": [("kubeconfig", False)]}


def test_only_the_port_of_the_store_must_be_allowed(settings: Settings) -> None:
    """Policies need to allow only the endpoint's port of a store with several, such as SeaweedFS on Kubeflow."""
    ports = [{"name": "s3", "port": 9000}, {"name": "filer", "port": 8888}]
    ClusterApi.objects[f"{NAMESPACE}/services/minio"] = {"spec": {"ports": ports}}
    of_pods = {"metadata": {"labels": {"kubernetes.io/service-name": "minio"}}}
    of_pods["ports"] = [{"name": "s3", "port": 8333}, {"name": "filer", "port": 8888}]
    ClusterApi.objects["/apis/discovery.k8s.io/v1/namespaces/digits/endpointslices"] = {"items": [of_pods]}
    allowed = [{"port": 53, "protocol": "UDP"}, {"port": 8333}]
    deny_all(podSelector={}, policyTypes=["Ingress", "Egress"], ingress=[{}], egress=[{"ports": allowed}])()
    assert outcomes(settings, "policy")["policy"] == PASSED


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_sabotage_fails_one_probe(name: str, settings: Settings) -> None:
    """Exactly one probe fails, and no pod is left."""
    sabotage, probe = SABOTAGES[name]
    sabotage()
    states = outcomes(settings)
    assert [probe for probe, state in states.items() if state == FAILED] == [probe]
    assert f"{NAMESPACE}/pods/digits-acceptance" not in ClusterApi.objects


def test_without_kserve_and_pipelines_no_image_is_known(settings: Settings) -> None:
    """Without a ServingRuntime the pod has no image: KServe fails, and what needs the pod is skipped."""
    remove(RUNTIME)()
    states = outcomes(settings, "s3", "kserve")
    assert states["kserve"] == FAILED
    assert {states["pods"], states["s3"]} == {SKIPPED}


@pytest.mark.parametrize("name", ["kfp", "trainer", "gpu"])
def test_a_part_that_is_named_must_be_there(name: str, settings: Settings) -> None:
    """A part that this installation does not use is skipped, but fails if `--only` names it."""
    assert outcomes(settings)[name] == SKIPPED
    assert outcomes(settings, name)[name] == FAILED


def test_without_mlflow_its_probe_is_skipped(settings: Settings) -> None:
    """Steps without MLflow are no failure, unless `--only` names that probe."""
    absent = [item | ({"ok": None} if item["probe"] == "mlflow" else {}) for item in LINES]
    ClusterApi.log = absent
    assert outcomes(settings)["mlflow"] == SKIPPED
    assert outcomes(settings, "mlflow")["mlflow"] == FAILED


def test_what_may_not_be_read_fails_nothing(settings: Settings) -> None:
    """Without the right to read nodes and webhooks all probes pass."""
    for path in ("/api/v1/nodes", HOOKS):
        refuse(f"GET {path}", 403, "forbidden")()
    assert FAILED not in outcomes(settings).values()


def test_trainer_passes_where_it_is_installed(settings: Settings) -> None:
    """The resource types and the controllers of Trainer and JobSet are looked up where their webhooks lead."""
    kinds = {
        "trainer.kubeflow.org/v1alpha1": ["trainjobs", "trainingruntimes"],
        "jobset.x-k8s.io/v1alpha2": ["jobsets"],
    }
    hooks = []
    for name, image, path in (
        ("kubeflow-trainer", "v2.3.0", "/validate-trainer-kubeflow-org-v1alpha1-trainjob"),
        ("jobset", "v0.12.0", "/validate-jobset-x-k8s-io-v1alpha2-jobset"),
    ):
        hooks.append({"clientConfig": {"service": {"namespace": name, "path": path}}})
        deployment = {
            "metadata": {"name": f"{name}-controller-manager"},
            "spec": {"template": {"spec": {"containers": [{"image": f"x:{image}"}]}}},
            "status": {"availableReplicas": 1},
        }
        ClusterApi.objects[f"/apis/apps/v1/namespaces/{name}/deployments"] = {"items": [deployment]}
    validating = HOOKS.replace("mutating", "validating")
    ClusterApi.objects[validating] = {"items": [{"webhooks": hooks}]}
    for group, names in kinds.items():
        ClusterApi.objects[f"/apis/{group}"] = {"resources": [{"name": name} for name in names]}
    namespaced = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/digits"
    ClusterApi.objects[f"{namespaced}/trainingruntimes/digits"] = {}
    assert outcomes(settings, "trainer")["trainer"] == PASSED
    refuse(f"POST {namespaced}/trainjobs", 500, "failed calling webhook")()
    assert outcomes(settings, "trainer")["trainer"] == FAILED
    ClusterApi.refusals.clear()
    del ClusterApi.objects["/apis/jobset.x-k8s.io/v1alpha2"]
    assert outcomes(settings, "trainer")["trainer"] == FAILED


def test_a_named_run_needs_the_pipelines_api(settings: Settings) -> None:
    """`--only run` fails without the address of the Pipelines API, and runs nothing."""
    states = outcomes(settings, "run")
    assert (states["kfp"], states["run"]) == (FAILED, SKIPPED)


def test_the_expired_token_of_the_pipelines_api_fails_its_probe_only(settings: Settings) -> None:
    """A token that Kubeflow Pipelines rejects fails the probe `kfp`, and the probes of the cluster pass."""
    ClusterApi.refusals["GET /apis/v2beta1/healthz"] = (401, "token expired")
    with kubernetes_api(ClusterApi) as server:
        states = outcomes(dataclasses.replace(settings, kfp_host=server))
    assert [name for name, state in states.items() if state == FAILED] == ["kfp"]

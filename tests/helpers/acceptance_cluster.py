"""A stand-in for the API server of a cluster that has everything; tests break one part of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar

from tests.helpers.kubernetes_api import Json, Quiet

NAMESPACE = "/api/v1/namespaces/digits"
POD = f"{NAMESPACE}/pods/digits-acceptance"
KSERVE, RUNTIMES = "/apis/serving.kserve.io/v1beta1", "/apis/serving.kserve.io/v1alpha1"
RUNTIME = f"{RUNTIMES}/namespaces/digits/servingruntimes/digits"
POLICIES = "/apis/networking.k8s.io/v1/namespaces/digits/networkpolicies"
HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
MODE = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config"
PROBES = {"policy": "dns", "s3": "store", "mlflow": "mlflow", "signatures": "signatures"}
LINES = [{"probe": probe, "name": name, "ok": True, "found": "fine"} for probe, name in PROBES.items()]


def healthy() -> dict[str, Json]:
    """Return the objects of a cluster in which all probes pass, by their paths."""
    selector = {"matchExpressions": [{"key": "control-plane", "operator": "DoesNotExist"}]}
    service = {"name": "kserve-webhook-server-service", "namespace": "kserve", "path": "/mutate-pods"}
    hook = {"name": "pod-mutator", "namespaceSelector": selector, "clientConfig": {"service": service}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    controller = {"containers": [{"image": "kserve/kserve-controller:v0.20.0"}]}
    return {
        "/version": {"gitVersion": "v1.34.4"},
        NAMESPACE: {"metadata": {"name": "digits", "labels": {}}, "status": {"phase": "Active"}},
        "/api/v1/nodes": {"items": [{"metadata": {"name": "n"}, "spec": {}, "status": ready}]},
        KSERVE: {"resources": [{"name": "inferenceservices"}]},
        RUNTIMES: {"resources": [{"name": "servingruntimes"}, {"name": "clusterstoragecontainers"}]},
        HOOKS: {"items": [{"webhooks": [hook]}]},
        "/apis/apps/v1/namespaces/kserve/deployments": {
            "items": [
                {
                    "metadata": {"name": "kserve-controller-manager"},
                    "spec": {"template": {"spec": controller}},
                    "status": {"availableReplicas": 1},
                }
            ]
        },
        MODE: {"data": {"deploy": '{"defaultDeploymentMode": "Standard"}'}},
        RUNTIME: {"spec": {"containers": [{"name": "kserve-container", "image": "digits-predictor:1"}]}},
        f"{NAMESPACE}/serviceaccounts/sa-minio-kserve": {"metadata": {"name": "sa-minio-kserve"}},
        f"{NAMESPACE}/configmaps/digits-settings": {"data": {"MINIO_ENDPOINT": "http://minio:9000"}},
        POLICIES: {"items": []},
    }


class ClusterApi(Quiet):
    """The API server.

    Attributes:
        objects: {path: object}.
        refusals: {method and path: (status, message)}.
        pod_status: the status of each pod that is created, and of the state of its containers.
        log: the lines of its log.
        removed: the paths that were deleted.
        stuck: whether deletions have no effect.
    """

    objects: ClassVar[dict[str, Json]] = {}
    refusals: ClassVar[dict[str, tuple[int, str]]] = {}
    pod_status: ClassVar[Json] = {}
    log: ClassVar[list[Json]] = []
    removed: ClassVar[list[str]] = []
    stuck: ClassVar[bool] = False

    @classmethod
    def reset(cls) -> None:
        """Make the cluster healthy again."""
        cls.objects, cls.refusals, cls.removed, cls.stuck = healthy(), {}, [], False
        cls.pod_status, cls.log = {"phase": "Succeeded"}, LINES

    def _handle(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path, _, query = self.path.partition("?")
        refusal = self.refusals.get(f"{self.command} {path}") or self.refusals.get(f"{self.command} *")
        if refusal:
            self.respond(refusal[0], json.dumps({"message": refusal[1]}).encode())
        elif self.command == "POST":
            if "dryRun" not in query:
                self.objects[f"{path}/{body['metadata']['name']}"] = body | {"status": self.pod_status}
            self.respond(201, json.dumps(body).encode())
        elif self.command == "DELETE":
            self.removed.append(path)
            if not self.stuck:
                self.objects.pop(path, None)
            self.respond(200, b"{}")
        elif path.endswith("/log"):
            self.respond(200, "\n".join(map(json.dumps, self.log)).encode())
        elif path in self.objects:
            self.respond(200, json.dumps(self.objects[path]).encode())
        else:
            self.respond(404, b'{"message": "not found"}')

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 # names that the library calls


def deny_all(**allowed: Any) -> Callable[[], None]:
    """Return a sabotage: a policy for all pods without any rule, and one for some pods with `allowed` as its spec."""

    def sabotage() -> None:
        every = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}
        other = {"metadata": {"name": "allow"}, "spec": allowed}
        ClusterApi.objects[POLICIES] = {"items": [every, *([other] if allowed else [])]}

    return sabotage

"""The probe of network policies: what they allow on paper, and what a pod reaches."""

from __future__ import annotations

from collections.abc import Iterator

from backends.acceptance.kserve_probe import NAME
from backends.acceptance.pod import probe_lines
from backends.acceptance.probe import Context
from backends.acceptance.selectors import forbidding
from backends.acceptance.trainer_probe import is_used
from backends.kserve.revision import LABELS
from backends.kserve.service import HTTP_PORT
from backends.trainer.trainjob import PORT as WORKER_PORT
from digits.findings import Finding
from digits.pod_checks import host_and_port

# The pods that need the network, by their labels; the last only for training jobs.
PODS = {
    "step": {**LABELS, "pipeline/runid": NAME},
    "predictor": {**LABELS, "serving.kserve.io/inferenceservice": NAME},
    "worker": {**LABELS, "app.kubernetes.io/name": "digits-worker"},
}
INGRESS = {"predictor": HTTP_PORT, "worker": WORKER_PORT}


def probe_policy(context: Context) -> Iterator[Finding]:
    """Yield what policies of the namespace forbid a step or a predictor, and what the pod could not reach."""
    policies = context.kube.request("GET", context.path("networking.k8s.io/v1", "networkpolicies"))["items"]
    needed = [("Egress", 53, "UDP"), *(("Egress", port, "TCP") for port in store_ports(context))]
    for name, labels in PODS.items():
        if name == "worker" and not is_used(context):
            continue
        ingress = [("Ingress", INGRESS[name], "TCP")] if name in INGRESS else []
        denied = [
            f"{direction} {port}/{protocol} ({names})"
            for direction, port, protocol in (*needed, *ingress)
            if (names := forbidding(policies, labels, direction, port, protocol))
        ]
        text = f"policies deny {', '.join(denied)}" if denied else f"{len(policies)} policies allow what a {name} needs"
        remedy = "kubectl apply --server-side -k manifests/overlays/kubeflow; docs/kubeflow.md, Troubleshooting"
        yield Finding(name, not denied, text, remedy)
    yield from probe_lines("policy")(context)


def store_ports(context: Context) -> list[int]:
    """Return the port of the object store's pods if it is a Service of the cluster, else the port of its address.

    Policies apply to the ports of pods. The Service has the name of the port, and its EndpointSlices the pods' port of
    that name. If the Service may not be read, all their ports are returned.
    """
    endpoint = context.steps_settings().get("MINIO_ENDPOINT", "")
    if not endpoint:
        return []
    host, port = host_and_port(endpoint)
    service, _, rest = host.partition(".")
    place = rest.partition(".")[0] or context.namespace
    listing = context.readable(f"/apis/discovery.k8s.io/v1/namespaces/{place}/endpointslices")
    slices = [
        item
        for item in (listing or {}).get("items", [])
        if (item["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == service
    ]
    found = context.readable(f"/api/v1/namespaces/{place}/services/{service}") or {"spec": {}}
    names = [item.get("name") for item in found["spec"].get("ports", []) if item["port"] == port]
    ports = [item for part in slices for item in part.get("ports") or [] if not names or item.get("name") in names]
    return sorted({item["port"] for item in ports}) or [port]

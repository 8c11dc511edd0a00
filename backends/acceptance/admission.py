"""The probe of security: whether the namespace admits the pods of a step and of a predictor. It creates no pod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backends.acceptance.cluster_probes import refused
from backends.acceptance.kserve_probe import NAME
from backends.acceptance.pod import step_pod
from backends.acceptance.probe import Context
from backends.kserve.kube import Json, RefusedError
from backends.kserve.revision import LABELS, RUNTIME, SERVICE_ACCOUNT
from digits.findings import Finding

STORAGE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"  # KServe's webhook acts on this annotation
CLUSTER_MANIFESTS = "an administrator: kubectl apply --server-side --field-manager=digits -k manifests/cluster"
ELSEWHERE = ("exceeded quota", "failed calling webhook", "secrets ")  # reasons that other probes report


def probe_security(context: Context) -> Iterator[Finding]:
    """Yield whether a pod of a step, and one of a predictor with KServe's storage initializer, are admitted."""
    labels = (context.kube.get(f"/api/v1/namespaces/{context.namespace}") or {})["metadata"].get("labels") or {}
    standard = labels.get("pod-security.kubernetes.io/enforce", "none")
    yield Finding("pod security", True, f"{context.namespace} enforces: {standard}")
    yield _check(context, "step", step_pod(context, [("main", "digits:any")]))
    runtime = context.readable(context.path("serving.kserve.io/v1alpha1", "servingruntimes", RUNTIME))
    if runtime is not None:
        yield _check(context, "predictor", predictor_pod(runtime))


def predictor_pod(runtime: Json) -> Json:
    """Return a pod as KServe makes it of a ServingRuntime, before its webhook adds the storage initializer."""
    spec: dict[str, Any] = {"serviceAccountName": SERVICE_ACCOUNT, "automountServiceAccountToken": False}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "labels": {**LABELS, "serving.kserve.io/inferenceservice": NAME},
            "annotations": {STORAGE_URI: "s3://digits/acceptance/"},
        },
        "spec": spec | {key: runtime["spec"][key] for key in ("containers", "volumes") if key in runtime["spec"]},
    }


def _check(context: Context, name: str, pod: Json) -> Finding:
    try:
        admitted = context.kube.request("POST", context.path("v1", "pods"), query={"dryRun": "All"}, body=pod)
    except RefusedError as exc:
        if any(text in exc.message for text in ELSEWHERE):
            return Finding(name, None, f"could not be judged: {exc.message}")
        initializer = "storage-initializer" in exc.message
        return refused(name, exc, "") if not initializer else Finding(name, False, exc.message, CLUSTER_MANIFESTS)
    names = [c["name"] for c in [*admitted["spec"].get("initContainers", []), *admitted["spec"]["containers"]]]
    return Finding(name, True, f"a pod with {', '.join(names)} is admitted (dry run)")

"""The reason why an InferenceService does not become ready, as its pods and KServe report it."""

from __future__ import annotations

import contextlib
from typing import Any

from backends.kserve.kube import Json, Kube
from digits.errors import DigitsError

# Reasons of a waiting container that do not resolve by themselves.
PERMANENT = {"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"}
MAX_CRASHES = 2  # restarts of a container; the first crash may be due to a store that was just starting
MAX_TEXT = 1200  # characters of a container's output


def diagnose(
    kube: Kube, pods_path: str, name: str, live: Json | None, deployment: Json | None, revision: str
) -> tuple[str, bool]:
    """Return (why InferenceService `name` does not serve a revision, whether the reason is permanent).

    `live` is the InferenceService and `deployment` the Deployment that KServe made for it; each is None if it does not
    exist. `pods_path` is the API path of the namespace's pods; `revision` is the id in their annotation.

    Raises:
        RefusedError, MissingError: as `Kube.request`.
    """
    template = deployment["spec"]["template"]["metadata"].get("annotations", {}) if deployment else {}
    if deployment is None or template.get("digits/revision") != revision:
        # KServe has not processed the revision; the InferenceService may have the reason.
        return "; ".join(_conditions(live)) or "KServe has not processed it (is its controller running?)", False
    reasons: list[str] = []
    permanent = False
    for condition in deployment.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":  # a quota, or pod security
            reasons.append(f"no pod can be created: {condition['message']}")
            permanent = True
    query = {"labelSelector": f"serving.kserve.io/inferenceservice={name}"}
    for pod in kube.request("GET", pods_path, query=query)["items"]:
        current = pod["metadata"].get("annotations", {}).get("digits/revision") == revision
        if current and "deletionTimestamp" not in pod["metadata"]:
            texts, pod_permanent = diagnose_pod(kube, pods_path, pod)
            reasons += texts
            permanent = permanent or pod_permanent
    return "\n".join(reasons) or "its pods are starting", permanent


def diagnose_pod(kube: Kube, pods_path: str, pod: Json) -> tuple[list[str], bool]:
    """Return (why a pod does not run or is not ready, whether that is permanent). Raises as `diagnose`."""
    status = pod.get("status", {})
    permanent = False
    reasons = [
        f"pod {pod['metadata']['name']} cannot be scheduled: {condition.get('message', '')}"
        for condition in status.get("conditions", [])
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        state = container.get("state", {})
        waiting = state.get("waiting", {})
        last_end = container.get("lastState", {}).get("terminated") if waiting else None
        end = state.get("terminated") or last_end or {}
        if end.get("exitCode"):
            reasons.append(f"{container['name']} {_describe_end(end)}")
            permanent = permanent or container.get("restartCount", 0) >= MAX_CRASHES
        elif waiting.get("reason") not in {None, "PodInitializing", "ContainerCreating"}:
            reasons.append(f"{container['name']}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
            permanent = permanent or waiting["reason"] in PERMANENT
        elif "running" in state and not container.get("ready"):
            reasons.append(f"{container['name']} runs but is not ready{_log(kube, pods_path, pod, container['name'])}")
    return reasons, permanent


def _describe_end(end: dict[str, Any]) -> str:
    memory = " (out of memory; raise its limit)" if end.get("reason") == "OOMKilled" else ""
    output = _without_frames(str(end.get("message", "")))[-MAX_TEXT:]
    return f"ended with {end['exitCode']}{memory}" + (f":\n{output}" if output else "")


def _without_frames(text: str) -> str:
    """Return a log without the stack frames of Python's tracebacks; the line with the error remains."""
    lines = [
        line for line in text.splitlines() if line.strip() and not line.startswith((" ", "Traceback", "The above"))
    ]
    return "\n".join(lines) or text.strip()


def _log(kube: Kube, pods_path: str, pod: Json, container: str) -> str:
    with contextlib.suppress(DigitsError):  # the rest of the reason is useful without a log too
        text = kube.text(f"{pods_path}/{pod['metadata']['name']}/log", container=container, tailLines=10)
        if text.strip():
            return f":\n{text.strip()[-MAX_TEXT:]}"
    return ""


def _conditions(live: Json | None) -> list[str]:
    status = (live or {}).get("status", {})
    failure = status.get("modelStatus", {}).get("lastFailureInfo", {}).get("message", "")
    texts = [
        f"{c['type']}: {c.get('reason', '')}: {c.get('message', '')}"
        for c in status.get("conditions", [])
        if c["status"] == "False" and c.get("message")
    ]
    return [*([failure] if failure else []), *texts]

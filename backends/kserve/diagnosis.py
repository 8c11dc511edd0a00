"""Why an InferenceService does not get ready, in the words of its pods."""

from __future__ import annotations

import contextlib
from typing import Any

from backends.kserve.kube import Json, Kube
from digits.errors import DigitsError

# States that waiting does not mend.
HOPELESS = {"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"}
CRASHES = 2  # so many restarts; the first may have met a store that was just starting
SAID = 1200


def reasons(
    kube: Kube, pods_path: str, name: str, live: Json | None, deployed: Json | None, revision: str
) -> tuple[str, bool]:
    """(what stands in the way, whether waiting is hopeless) for the pods of one revision of InferenceService `name`."""
    found: list[str] = []
    hopeless = False
    template = deployed["spec"]["template"]["metadata"].get("annotations", {}) if deployed else {}
    if deployed is None or template.get("digits/revision") != revision:
        # KServe has not taken it up: it says on the InferenceService why.
        return "; ".join(_conditions(live)) or "KServe has not taken it up (is its controller running?)", False
    for condition in deployed.get("status", {}).get("conditions", []):
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            found.append(f"no pod may be made: {condition['message']}")  # quota, pod security
            hopeless = True
    query = {"labelSelector": f"serving.kserve.io/inferenceservice={name}"}
    for pod in kube.request("GET", pods_path, query=query)["items"]:
        current = pod["metadata"].get("annotations", {}).get("digits/revision") == revision
        if current and "deletionTimestamp" not in pod["metadata"]:
            text, over = _pod(kube, pods_path, pod)
            found += text
            hopeless = hopeless or over
    return "\n".join(found) or "its pods are starting", hopeless


def _pod(kube: Kube, pods_path: str, pod: Json) -> tuple[list[str], bool]:
    status = pod.get("status", {})
    hopeless = False
    found = [
        f"pod {pod['metadata']['name']} finds no node: {condition.get('message', '')}"
        for condition in status.get("conditions", [])
        if condition["type"] == "PodScheduled" and condition["status"] == "False"
    ]
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        state = container.get("state", {})
        waiting = state.get("waiting", {})
        ended = state.get("terminated") or (container.get("lastState", {}).get("terminated") if waiting else None) or {}
        restarts = container.get("restartCount", 0)
        if ended.get("exitCode"):
            found.append(f"{container['name']} {_ended(ended)}")
            hopeless = hopeless or restarts >= CRASHES
        elif waiting.get("reason") not in {None, "PodInitializing", "ContainerCreating"}:
            found.append(f"{container['name']}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": "))
            hopeless = hopeless or waiting["reason"] in HOPELESS
        elif "running" in state and not container.get("ready"):
            found.append(f"{container['name']} runs but is not ready{_log(kube, pods_path, pod, container['name'])}")
    return found, hopeless


def _ended(ended: dict[str, Any]) -> str:
    killed = " (out of memory; raise its limit)" if ended.get("reason") == "OOMKilled" else ""
    said = _without_frames(str(ended.get("message", "")))[-SAID:]
    return f"ended with {ended['exitCode']}{killed}" + (f":\n{said}" if said else "")


def _without_frames(text: str) -> str:
    """A log's end without the frames of Python's tracebacks: what was raised is what tells the reason."""
    kept = [line for line in text.splitlines() if line.strip() and not line.startswith((" ", "Traceback", "The above"))]
    return "\n".join(kept) or text.strip()


def _log(kube: Kube, pods_path: str, pod: Json, container: str) -> str:
    with contextlib.suppress(DigitsError):  # the reason is worth having without the log too
        text = kube.text(f"{pods_path}/{pod['metadata']['name']}/log", container=container, tailLines=10)
        if text.strip():
            return f":\n{text.strip()[-SAID:]}"
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

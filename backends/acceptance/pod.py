"""The pod of an acceptance run: image, user, settings and credentials of a step; it runs `digits.pod_checks`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from backends.acceptance.kserve_probe import NAME
from backends.acceptance.probe import Context, NotAsked
from backends.acceptance.selectors import conditions_of
from backends.kserve.diagnosis import diagnose_pod
from backends.kserve.kube import TRUSTED_KEYS, Json, RefusedError
from backends.kserve.revision import LABELS, RUNTIME
from backends.kubeflow.tasks import HOME, SECRET_KEYS, SIGNING_KEY, STEPS_IMAGE, USER
from digits.errors import DigitsError, MissingError
from digits.files import parse_json
from digits.findings import Finding
from digits.settings import STEP_VARIABLES

POD_SECONDS, SCHEDULE_SECONDS, REMOVE_SECONDS, POLL_SECONDS = 180, 30.0, 60.0, 0.5
COMMAND = ["python3", "-m", "digits.pod_checks"]
ENDED = {"Succeeded", "Failed"}


def probe_pods(context: Context) -> Iterator[Finding]:
    """Run a pod with our images to its end, remove it, and yield whether it was scheduled and had its images."""
    images = _images(context)
    path = context.path("v1", "pods")
    yield from _remove_former(context)
    try:
        context.kube.request("POST", path, body=step_pod(context, images))
    except RefusedError as exc:
        quota = "exceeded quota" in exc.message
        remedy = f"raise the ResourceQuota of {context.namespace}, or remove what uses it up" if quota else exc.remedy
        yield Finding("pod", False, exc.message, remedy)
        return
    try:
        yield from _wait(context)
    finally:
        _remove(context)
    yield Finding("removed", True, f"pod {NAME} does not exist any more")


def probe_lines(name: str) -> Callable[[Context], Iterator[Finding]]:
    """Return the function of a probe whose findings the pod wrote under that name."""

    def probe(context: Context) -> Iterator[Finding]:
        lines = context.lines.get(name)
        if not lines:
            raise MissingError(f"the pod wrote no result of {name}", remedy="use images of this version of digits")
        yield from lines

    return probe


def probe_optional(name: str, what: str) -> Callable[[Context], Iterator[Finding]]:
    """Return the function of a probe of `what` the steps may lack. Then it fails only if the user named the probe."""

    def probe(context: Context) -> Iterator[Finding]:
        for finding in probe_lines(name)(context):
            if finding.ok is None and name in context.named:
                raise MissingError(finding.found, remedy=f"set {what} in the ConfigMap {context.settings.config_map}")
            if finding.ok is None:
                raise NotAsked(finding.found)
            yield finding

    return probe


def step_pod(context: Context, images: Sequence[tuple[str, str]]) -> Json:
    """Return the pod; the first of `images` [(container, image)] runs the checks, the others only start."""
    settings = context.settings
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                  "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
    variables = {"DIGITS_HOME": HOME, "DIGITS_BACKEND": "kubeflow", "K8S_NAMESPACE": context.namespace, "HOME": "/tmp"}  # noqa: S108
    others = {*variables, *SECRET_KEYS.values()}
    sources = [(name, "secretKeyRef", settings.secret_name, key) for key, name in SECRET_KEYS.items()]
    sources += [(name, "configMapKeyRef", settings.config_map, name) for name in STEP_VARIABLES if name not in others]
    environment = [
        *({"name": name, "value": value} for name, value in variables.items()),
        *({"name": n, "valueFrom": {ref: {"name": obj, "key": key, "optional": True}}} for n, ref, obj, key in sources),
    ]
    small = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}
    largest = {
        "requests": {"cpu": settings.train_cpu_request, "memory": settings.train_memory_request},
        "limits": {"cpu": settings.train_cpu, "memory": settings.train_memory},
    }
    keys = [("secret", "secretName", *SIGNING_KEY), ("configMap", "name", *TRUSTED_KEYS)]
    mounts = [{"name": name, "mountPath": path, "readOnly": True} for _, _, name, path in keys]
    containers = [
        {
            "name": name,
            "image": image,
            "imagePullPolicy": settings.pull_policy,
            "command": COMMAND if number == 0 else ["digits", "--version"],
            "env": environment,
            "resources": largest if name == "steps" else small,
            "securityContext": restricted,
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": mounts if number == 0 else [],
        }
        for number, (name, image) in enumerate(images)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "labels": {**LABELS, "pipeline/runid": NAME},  # the label of steps, for network policies
            "annotations": {"sidecar.istio.io/inject": "false"},
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": POD_SECONDS,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": [{"name": settings.pull_secret}] if settings.pull_secret else [],
            "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER},
            "containers": containers,
            "volumes": [{"name": name, kind: {key: name, "optional": True}} for kind, key, name, _ in keys],
        },
    }


def _images(context: Context) -> list[tuple[str, str]]:
    """Return (container, image) of the steps, if pipelines run here, and of the predictor. Raises NotAsked if none."""
    settings, images = context.settings, []
    if settings.kfp_host:
        images.append(("steps", settings.steps_image or STEPS_IMAGE))
    runtime = context.readable(context.path("serving.kserve.io/v1alpha1", "servingruntimes", RUNTIME))
    if runtime is not None:
        images.append(("predictor", runtime["spec"]["containers"][0]["image"]))
    if not images:
        raise NotAsked(f"no image is known: there is neither DIGITS_KFP_HOST nor a ServingRuntime {RUNTIME}")
    return images


def _wait(context: Context) -> Iterator[Finding]:
    """Wait until the pod has ended, keep what it wrote, and yield why it did not run."""
    path = context.path("v1", "pods")
    started = time.monotonic()
    while True:
        pod = context.kube.request("GET", f"{path}/{NAME}")
        reasons, permanent = diagnose_pod(context.kube, path, pod)
        waiting = time.monotonic() - started > SCHEDULE_SECONDS and any(conditions_of([pod], "PodScheduled"))
        if pod["status"].get("phase") in ENDED or permanent or waiting or time.monotonic() - started > POD_SECONDS - 20:
            break
        if context.stopped.wait(POLL_SECONDS):
            raise DigitsError("it was stopped")
    if pod["status"].get("phase") != "Succeeded":
        why = "; ".join(reasons) or f"it is {pod['status'].get('phase')} after {time.monotonic() - started:.0f} s"
        yield Finding(
            "pod", False, why, f"kubectl -n {context.namespace} get events; docs/kubeflow.md, Troubleshooting"
        )
        return
    names = [container["name"] for container in pod["spec"]["containers"]]
    for line in context.kube.text(f"{path}/{NAME}/log", container=names[0]).splitlines():
        try:
            item = parse_json(line)
            context.lines.setdefault(item.pop("probe"), []).append(Finding(**item))
        except (ValueError, TypeError, AttributeError, LookupError):
            continue  # a library's own line
    for container in pod["spec"]["containers"]:
        yield Finding(container["name"], True, f"{container['image']} runs")


def _remove_former(context: Context) -> Iterator[Finding]:
    """Remove the pod of an acceptance run that was killed; raise MissingError if it still runs, or is not ours."""
    former = context.kube.get(context.path("v1", "pods", NAME))
    if former is None:
        return
    if not LABELS.items() <= (former["metadata"].get("labels") or {}).items():
        raise MissingError(
            f"pod {NAME} in {context.namespace} belongs to another project",
            remedy="K8S_NAMESPACE=NAME, for a namespace of our own",
        )
    if former["status"].get("phase") not in ENDED:
        raise MissingError(
            f"pod {NAME} runs in {context.namespace}: another acceptance run is active, or was killed just now",
            remedy=f"wait {POD_SECONDS} s, or kubectl -n {context.namespace} delete pod {NAME}",
        )
    _remove(context)
    yield Finding("former pod", None, f"pod {NAME} of an earlier acceptance run was removed")


def _remove(context: Context) -> None:
    """Delete the pod and wait until it does not exist any more. Raises DigitsError if it stays."""
    path = context.path("v1", "pods", NAME)
    try:
        context.kube.request("DELETE", path, body={"gracePeriodSeconds": 0})
    except RefusedError as exc:
        if exc.status != 404:
            raise
    deadline = time.monotonic() + REMOVE_SECONDS
    while context.kube.get(path) is not None:
        if time.monotonic() > deadline:
            raise DigitsError(f"pod {NAME} was not removed", remedy=f"kubectl -n {context.namespace} delete pod {NAME}")
        time.sleep(POLL_SECONDS)

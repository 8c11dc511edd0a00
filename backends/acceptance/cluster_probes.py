"""The probes that only read: the cluster, Kubeflow Pipelines, GPUs and proxies."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from backends.acceptance.probe import Context, NotAsked
from backends.acceptance.selectors import conditions_of, matches
from backends.kserve.kube import Json, RefusedError, kubeconfig_path
from backends.kubeflow.tasks import parse_labels
from backends.ports import LOCAL_HOSTS
from digits.errors import DigitsError, MissingError
from digits.findings import Finding
from digits.proxies import proxy_for

# What this project was tested with, (oldest, newest); docs/kubeflow.md, Versions.
TESTED = {
    "Kubernetes": ("1.30", "1.34"),
    "KServe": ("0.20", "0.21"),
    "Trainer": ("2.3", "2.3"),
    "JobSet": ("0.12", "0.12"),
}
GPU = "nvidia.com/gpu"
CONNECT_SECONDS = 5.0


def version_finding(name: str, found: str) -> Finding:
    """Return the finding for the version of a part of TESTED: None unless it is in the tested range."""
    oldest, newest = TESTED[name]
    numbers = [int(number) for number in re.findall(r"\d+", found)[:2]]
    low, high = ([int(number) for number in text.split(".")] for text in TESTED[name])
    tested = oldest if oldest == newest else f"{oldest} to {newest}"
    if low <= numbers <= high:
        return Finding(name, True, found, tested=tested)
    return Finding(name, None, found or "unknown", "docs/kubeflow.md, Versions", tested)


def probe_cluster(context: Context) -> Iterator[Finding]:
    """Yield findings on the API server, our credentials, the namespace and the nodes."""
    settings, kube = context.settings, context.kube
    try:
        version = kube.request("GET", "/version")
        namespace = kube.get(f"/api/v1/namespaces/{context.namespace}")
    except RefusedError as exc:
        if exc.status != 401:
            raise
        place = "this pod" if kube.inside else kubeconfig_path(settings)
        raise MissingError(
            f"the cluster at {kube.server} does not accept the credentials of {place}; a token may have expired",
            remedy=f"write a new kubeconfig to {kubeconfig_path(settings)}",
        ) from exc
    yield version_finding("Kubernetes", str(version["gitVersion"]))
    state = namespace["status"]["phase"] if namespace else "absent"
    remedy = f"kubectl create namespace {context.namespace}, or set K8S_NAMESPACE; then apply the overlay"
    yield Finding("namespace", state == "Active", f"{context.namespace}: {state}", remedy)
    nodes = (context.readable("/api/v1/nodes") or {}).get("items")
    if nodes is None:
        yield Finding("nodes", None, "we may not list the nodes")
        return
    unready = [
        *conditions_of(nodes, "Ready"),
        *(n["metadata"]["name"] for n in nodes if n["spec"].get("unschedulable")),
    ]
    usable = len(nodes) - len(set(unready))
    yield Finding("nodes", usable > 0, f"{usable} of {len(nodes)} can start pods", "kubectl get nodes")


def probe_kfp(context: Context) -> Iterator[Finding]:
    """Yield findings on the Kubeflow Pipelines API and our credentials for it."""
    if not context.settings.kfp_host:
        reason = "DIGITS_KFP_HOST is not set, so no pipeline runs on this cluster"
        if "kfp" in context.named:
            raise MissingError(reason, remedy="set it to the address of the Kubeflow Pipelines API")
        raise NotAsked(reason)
    from backends.kubeflow.api import Pipelines

    with contextlib.closing(Pipelines(context.settings)) as api:
        api.check()
        yield Finding("api", True, f"{context.settings.kfp_host} answers and accepts our credentials")


def probe_gpu(context: Context) -> Iterator[Finding]:
    """Yield a finding on the GPUs of the nodes that the train step may use."""
    settings = context.settings
    if not settings.train_gpus and "gpu" not in context.named:
        raise NotAsked("DIGITS_TRAIN_GPUS is 0, so training uses no GPU")
    labels = parse_labels(settings.train_node)
    nodes = context.kube.request("GET", "/api/v1/nodes")["items"]
    fitting = [node for node in nodes if matches({"matchLabels": labels}, node["metadata"].get("labels") or {})]
    counts = [int(node["status"].get("allocatable", {}).get(GPU, 0)) for node in fitting]
    enough = max(counts, default=0) >= max(1, settings.train_gpus)
    found = f"{len(fitting)} of {len(nodes)} nodes have the labels {settings.train_node or '(none)'}; at most "
    found += f"{max(counts, default=0)} {GPU} on one of them, {max(1, settings.train_gpus)} needed"
    remedy = "install NVIDIA's device plugin, correct DIGITS_TRAIN_NODE, or set DIGITS_TRAIN_GPUS=0"
    yield Finding("gpu", enough, found, remedy)


def probe_proxy(context: Context) -> Iterator[Finding]:
    """Yield findings on the proxies that this machine's variables name for the services that it calls."""
    addresses = {"DIGITS_KFP_HOST": context.settings.kfp_host, "MLFLOW_TRACKING_URI": context.settings.tracking_uri}
    called = {
        name: (address, proxy_for(address)[0])
        for name, address in addresses.items()
        if urlsplit(address).scheme in {"http", "https"}
    }
    with contextlib.suppress(MissingError):  # which the probe of the cluster reports
        called["kubeconfig"] = context.kube.server, context.kube.proxy
    used = False
    for name, (address, proxy) in called.items():
        if not proxy:
            continue
        used, host, parts = True, urlsplit(address).hostname or "", urlsplit(proxy)
        if name != "kubeconfig" and (host in LOCAL_HOSTS or host.endswith((".svc", ".cluster.local"))):
            yield Finding(name, False, f"{host} is reached through the proxy {proxy}", f"add {host} to NO_PROXY")
            continue
        try:
            socket.create_connection((parts.hostname or "", parts.port or 80), CONNECT_SECONDS).close()
            yield Finding(name, True, f"{host} through {proxy}, which answers")
        except OSError as exc:
            yield Finding(name, False, f"{host}: the proxy {proxy} does not answer: {exc}",
                          "correct HTTP_PROXY and HTTPS_PROXY, or proxy-url in the kubeconfig")  # fmt: skip
    if not used:
        raise NotAsked("no proxy is set on this machine for what it calls")


def kinds_of(context: Context, group: str) -> set[str]:
    """Return the resource types of an API group with its version, such as serving.kserve.io/v1beta1."""
    listing = context.kube.get(f"/apis/{group}")
    return {item["name"] for item in (listing or {}).get("resources", [])}


def check_kinds(context: Context, needed: Mapping[str, set[str]], remedy: str) -> Finding:
    """Check that the cluster has the resource types `needed` of each API group."""
    missing = sorted(kind for group, kinds in needed.items() for kind in kinds - kinds_of(context, group))
    text = f"lacks {', '.join(missing)}" if missing else "present"
    return Finding("resource types", not missing, text, remedy)


def dry_run(context: Context, path: str, body: Json, remedy: str) -> Finding:
    """Check that the cluster's webhooks accept an object, which is not created."""
    try:
        context.kube.request("POST", path, query={"dryRun": "All"}, body=body)
    except RefusedError as exc:
        return refused("webhook", exc, remedy)
    return Finding("webhook", True, f"our {body['kind']} is accepted (dry run)")


def webhooks(context: Context, kind: str, path: str) -> list[Json]:
    """Return the `mutating` or `validating` webhooks that call `path`. Raises RefusedError if we may not read them."""
    listing = context.kube.request("GET", f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations")
    hooks = [hook for item in listing["items"] for hook in item.get("webhooks", [])]
    return [hook for hook in hooks if hook["clientConfig"].get("service", {}).get("path") == path]


def controllers(context: Context, hooks: list[Json], name: str, remedy: str) -> Iterator[Finding]:
    """Yield the version of the controller behind a webhook, and whether its pods are available."""
    if not hooks:
        yield Finding("webhook", False, f"{name} has registered no webhook", remedy)
        return
    place = hooks[0]["clientConfig"]["service"]["namespace"]
    items = (context.readable(f"/apis/apps/v1/namespaces/{place}/deployments") or {}).get("items", [])
    found = [item for item in items if item["metadata"]["name"].endswith("controller-manager")]
    found = [item for item in found if name.lower() in item["metadata"]["name"]]
    if not found:
        yield Finding("controller", None, f"no Deployment of {name} is visible in {place}")
        return
    image = found[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    yield version_finding(name, image.partition("@")[0].rpartition(":")[2])
    available = found[0].get("status", {}).get("availableReplicas", 0)
    text = f"{found[0]['metadata']['name']} in {place}: {available} pods available"
    yield Finding("controller", available > 0, text, f"kubectl -n {place} get pods")


def refused(name: str, exc: DigitsError, remedy: str) -> Finding:
    """Return the finding for a request that the cluster refused."""
    return Finding(name, False, exc.message, exc.remedy or remedy)

"""The probe of KServe: resource types, webhooks, mode, and what an InferenceService of ours refers to."""

from __future__ import annotations

from collections.abc import Iterator

from backends.acceptance.cluster_probes import check_kinds, controllers, dry_run, kinds_of, webhooks
from backends.acceptance.probe import Context
from backends.acceptance.selectors import matches
from backends.kserve.kube import RefusedError
from backends.kserve.revision import RUNTIME, SERVICE_ACCOUNT, Revision, inference_service
from digits.files import parse_json
from digits.findings import Finding

KINDS = {
    "serving.kserve.io/v1beta1": {"inferenceservices"},
    "serving.kserve.io/v1alpha1": {"servingruntimes", "clusterstoragecontainers"},
}
MUTATE_PODS = "/mutate-pods"
MODES = ("Standard", "RawDeployment")  # the second is the name in older versions
KNATIVE = "serving.knative.dev/v1"
OVERLAY = "kubectl apply --server-side -k manifests/overlays/kubeflow"
ADMINISTRATOR = "ask the cluster's administrator for KServe in Standard mode; docs/kubeflow.md has the versions"
NAME = "digits-acceptance"


def probe_kserve(context: Context) -> Iterator[Finding]:
    """Yield findings on KServe. It creates nothing: the InferenceService is only validated (dryRun)."""
    yield (types := check_kinds(context, KINDS, ADMINISTRATOR))
    if not types.ok:
        return
    try:
        hooks = webhooks(context, "mutating", MUTATE_PODS)
    except RefusedError as exc:
        yield Finding("webhook", None, exc.message, exc.remedy)
    else:
        yield from controllers(context, hooks, "KServe", ADMINISTRATOR)
        if hooks:
            yield _check_selector(context, hooks[0].get("namespaceSelector"))
            yield from _check_mode(context, hooks[0]["clientConfig"]["service"]["namespace"])
    services = context.path("serving.kserve.io/v1beta1", "inferenceservices")
    body = inference_service(NAME, Revision("s3://digits/acceptance/"))
    yield dry_run(context, services, body, "kubectl -n kserve get pods; the controller's webhook must answer")
    runtime = context.kube.get(context.path("serving.kserve.io/v1alpha1", "servingruntimes", RUNTIME))
    account = context.kube.get(context.path("v1", "serviceaccounts", SERVICE_ACCOUNT))
    absent = [name for name, item in ((RUNTIME, runtime), (SERVICE_ACCOUNT, account)) if item is None]
    text = f"{context.namespace} lacks {' and '.join(absent)}" if absent else "ServingRuntime and account are present"
    yield Finding("overlay", not absent, text, OVERLAY)


def _check_selector(context: Context, selector: dict[str, object] | None) -> Finding:
    """Check that KServe's webhook adds the storage initializer to pods of our namespace."""
    namespace = context.kube.get(f"/api/v1/namespaces/{context.namespace}") or {"metadata": {}}
    labels = namespace["metadata"].get("labels") or {}
    if matches(selector, labels):
        return Finding("namespace labels", True, "KServe's webhook handles the pods of this namespace")
    return Finding(
        "namespace labels",
        False,
        f"KServe's webhook leaves the pods of {context.namespace} alone, so that no release is fetched",
        f"kubectl label namespace {context.namespace} control-plane-, or deploy into another namespace",
    )


def _check_mode(context: Context, place: str) -> Iterator[Finding]:
    """Check that KServe's default mode is Standard, or Knative with Knative, which our own annotation overrides."""
    config = context.readable(f"/api/v1/namespaces/{place}/configmaps/inferenceservice-config")
    if config is None:
        yield Finding("mode", None, f"we may not read inferenceservice-config in {place}")
        return
    deploy = parse_json(config["data"].get("deploy") or "{}")
    mode = str(deploy.get("defaultDeploymentMode", "Knative"))
    knative = bool(kinds_of(context, KNATIVE))
    usable = mode in MODES or knative
    text = f"{mode}{'' if mode in MODES else ', with Knative' if knative else ', but Knative is not installed'}"
    yield Finding(
        "mode",
        usable,
        text,
        f"set defaultDeploymentMode to Standard in the ConfigMap inferenceservice-config of {place}",
    )

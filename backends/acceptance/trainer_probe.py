"""The probe of Kubeflow Trainer: resource types, controllers, and whether a TrainJob of ours is accepted."""

from __future__ import annotations

from collections.abc import Iterator

from backends.acceptance.cluster_probes import check_kinds, controllers, dry_run, webhooks
from backends.acceptance.kserve_probe import NAME
from backends.acceptance.probe import Context, NotAsked
from backends.kserve.kube import RefusedError
from backends.trainer.trainjob import RUNTIME, train_job
from digits.findings import Finding
from digits.training.trainers import LOCAL

KINDS = {
    "trainer.kubeflow.org/v1alpha1": {"trainjobs", "trainingruntimes"},
    "jobset.x-k8s.io/v1alpha2": {"jobsets"},
}
WEBHOOKS = {
    "Trainer": "/validate-trainer-kubeflow-org-v1alpha1-trainjob",
    "JobSet": "/validate-jobset-x-k8s-io-v1alpha2-jobset",
}
INSTALL = "docs/kubeflow.md, Several workers"


def is_used(context: Context) -> bool:
    """Return whether training jobs run on the cluster, or the user named this probe."""
    return context.settings.trainer != LOCAL or "trainer" in context.named


def probe_trainer(context: Context) -> Iterator[Finding]:
    """Yield findings on Trainer. It creates nothing: the TrainJob is only validated (dryRun)."""
    if not is_used(context):
        raise NotAsked("DIGITS_TRAINER is local, so no training job runs on this cluster")
    yield (types := check_kinds(context, KINDS, INSTALL))
    if not types.ok:
        return
    for name, path in WEBHOOKS.items():
        try:
            yield from controllers(context, webhooks(context, "validating", path), name, INSTALL)
        except RefusedError as exc:
            yield Finding("webhook", None, exc.message, exc.remedy)
    group = "trainer.kubeflow.org/v1alpha1"
    if context.kube.get(context.path(group, "trainingruntimes", RUNTIME)) is None:
        yield Finding("overlay", False, f"{context.namespace} lacks the TrainingRuntime {RUNTIME}", INSTALL)
        return
    owner = {"name": NAME, "uid": "00000000-0000-0000-0000-000000000000"}
    body = train_job(context.settings, NAME, ["true"], image="", owner=owner)
    remedy = "kubectl get pods -A | grep -e trainer -e jobset; their webhooks must answer"
    yield dry_run(context, context.path(group, "trainjobs"), body, remedy)

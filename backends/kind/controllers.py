"""The controllers in our own kind cluster: KServe, with cert-manager, and Kubeflow Trainer, with JobSet."""

from __future__ import annotations

from backends.base import Report
from backends.kind.kubectl import READY_SECONDS, apply, is_temporary, kubectl, wait
from backends.kind.node_images import load
from backends.programs import ProgramError
from digits.errors import DigitsError
from digits.settings import Settings

KSERVE_VERSION = "v0.20.0"
_KSERVE = f"https://github.com/kserve/kserve/releases/download/{KSERVE_VERSION}"
KSERVE_MANIFESTS = (f"{_KSERVE}/kserve.yaml", f"{_KSERVE}/kserve-cluster-resources.yaml")
TRAINER = "https://github.com/kubeflow/trainer.git/manifests/overlays/manager?ref=v2.3.0"  # with JobSet
CERT_MANAGER = "https://github.com/cert-manager/cert-manager/releases/download/v1.17.0/cert-manager.yaml"
CERT_MANAGER_DEPLOYMENTS = ("cert-manager", "cert-manager-cainjector", "cert-manager-webhook")


def install_kserve(settings: Settings, report: Report) -> None:
    """Install KServe, and wait until it is ready. Raises DigitsError if a step failed or took too long."""
    manifest = settings.kserve_manifest
    report(f"KServe from {manifest or KSERVE_VERSION}")
    if not manifest:
        apply(settings, "-f", CERT_MANAGER)
        for deployment in CERT_MANAGER_DEPLOYMENTS:
            wait(settings, deployment, "cert-manager", report)
    for source in (manifest,) if manifest else KSERVE_MANIFESTS:
        failure = None
        try:
            kubectl(settings, "apply", "--server-side", "--force-conflicts", "-f", source, seconds=READY_SECONDS)
        except ProgramError as exc:  # the manifest uses CRDs and webhooks that it installs itself
            failure = None if is_temporary(exc) else exc
        try:
            wait(settings, "kserve-controller-manager", "kserve", report)
        except DigitsError as exc:
            if failure:
                raise failure from exc
            raise
        apply(settings, "-f", source)


def install_trainer(settings: Settings, name: str, report: Report) -> None:
    """Install Kubeflow Trainer and JobSet in the cluster `name`, and wait until they are ready.

    Raises:
        MissingError: an image is missing on this machine.
        DigitsError: a step failed or took too long.
    """
    load(settings.trainer_images.split(), name, report)
    report(f"Kubeflow Trainer from {settings.trainer_manifest or TRAINER}")
    apply(settings, *(("-f", settings.trainer_manifest) if settings.trainer_manifest else ("-k", TRAINER)))
    wait(settings, "jobset-controller-manager", "jobset-system", report)
    wait(settings, "kubeflow-trainer-controller-manager", "kubeflow-system", report)

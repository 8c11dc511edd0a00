"""Our namespace in a cluster: object store, accounts, ServingRuntime and page."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from backends.base import Report
from backends.kind.kubectl import apply, as_json, kubectl, wait
from backends.kserve.kube import FIELD_MANAGER, SHAPE_ERRORS, TRUSTED_KEYS, kubeconfig_path, unknown_cluster
from backends.kserve.port_forward import forwarded
from backends.kserve.revision import LABELS, is_ours
from backends.programs import ProgramError
from digits.errors import MissingError, UsageError
from digits.release import signatures
from digits.remedies import remedy
from digits.settings import Settings

SECRET = "minio-kserve-secret"  # noqa: S105 - the name of a Secret
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
TRAINJOB = "trainjob"  # the trainer that needs manifests/components/trainer
# Names in the manifests, which `install` replaces by the built images.
PREDICTOR_IMAGE, WEB_IMAGE, MINIO_IMAGE = "digits-predictor", "digits-web", "minio"


def install(settings: Settings, images: Mapping[str, str] | None = None, report: Report = lambda _: None) -> None:
    """Create or update our namespace. It has a page if `images` has an image for it.

    The first call generates the store's credentials, which are kept only in the namespace's Secret.

    Raises:
        UsageError: the namespace, or an object in it that has the name of one of ours, belongs to another project.
        DigitsError: a step failed or took too long.
    """
    report(f"namespace {settings.namespace}")
    images = dict(images or {})
    if settings.minio_image:
        images[MINIO_IMAGE] = settings.minio_image
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "manifests")
        shutil.copytree(manifests(), root, ignore=shutil.ignore_patterns("s3.env"))
        access, secret = credentials(settings) or (f"digits-{secrets.token_hex(4)}", secrets.token_urlsafe(30))
        env = root / "overlays/kind/s3.env"
        env.touch(0o600)
        env.write_text(f"{KEYS[0]}={access}\n{KEYS[1]}={secret}\n")
        (root / "here").mkdir()
        keys = write_keys(settings, root / "here")
        overlay = kustomization(settings.namespace, images, keys)
        if settings.trainer == TRAINJOB:
            overlay["components"] = ["../components/trainer"]
        (root / "here/kustomization.yaml").write_text(json.dumps(overlay))
        _refuse_others(settings, str(root / "here"))
        for part in ("cluster", "here"):
            apply(settings, "-k", str(root / part), manager=FIELD_MANAGER)
    for deployment in ("minio", *(["digits-web"] if WEB_IMAGE in images else [])):
        wait(settings, deployment, settings.namespace, report)


def _refuse_others(settings: Settings, folder: str) -> None:
    """Raise UsageError if an object of a kustomization exists and belongs to another project: `apply` would take it."""
    found = json.loads(kubectl(settings, "get", "-k", folder, "--ignore-not-found", "--output=json") or "{}")
    for item in found.get("items", [found] if found else []):
        if not is_ours(item):
            raise _foreign(settings, f"{item['kind']} {item['metadata']['name']}")


def _foreign(settings: Settings, what: str) -> UsageError:
    label, value = next(iter(LABELS.items()))
    return UsageError(
        f"{what} belongs to another project (namespace {settings.namespace} of the cluster): "
        f"expected its label {label}={value}",
        remedy="K8S_NAMESPACE=NAME, for a namespace of our own; or set that label if it is ours",
    )


def write_keys(settings: Settings, folder: Path) -> list[str]:
    """Write the trusted keys to files in a folder, one each. Return their names."""
    keys = signatures.read_keys(settings.trusted_keys) if settings.trusted_keys else {}
    for name, key in keys.items():
        (folder / f"{name[:16]}.pub").write_bytes(signatures.pem(key))
    return [f"{name[:16]}.pub" for name in keys]


def kustomization(namespace: str, images: Mapping[str, str], keys: Sequence[str] = ()) -> dict[str, Any]:
    """Return a kustomization of the kind overlay in `namespace`, with the built images and trusted keys (files)."""
    patches = []
    if WEB_IMAGE not in images:
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "digits-web"},
            "$patch": "delete",
        }
        patches.append({"patch": json.dumps(deployment)})
    replaced = []
    for name, image in images.items():
        repository, colon, tag = image.rpartition(":")
        if not colon or "/" in tag:
            repository, tag = image, "latest"
        original = "quay.io/minio/minio" if name == MINIO_IMAGE else name  # the name that the overlay gives it
        replaced.append({"name": original, "newName": repository, "newTag": tag})
    result: dict[str, Any] = {"namespace": namespace, "resources": ["../overlays/kind"]}
    result |= {"images": replaced, "patches": patches}
    if keys:
        name, place = TRUSTED_KEYS
        result["generatorOptions"] = {"disableNameSuffixHash": True, "labels": LABELS}
        result["configMapGenerator"] = [
            {"name": name, "files": list(keys)},
            {"name": "digits-settings", "behavior": "merge", "literals": [f"DIGITS_TRUSTED_KEYS={place}"]},
        ]
    return result


def manifests() -> Path:
    """Return the folder of manifests. Raises MissingError outside a checkout."""
    folder = Path(__file__).resolve().parents[2] / "manifests"
    if not (folder / "base").is_dir():
        raise MissingError(
            f"the manifests are only in a checkout of digits, and {folder.parent} is none", remedy="git clone"
        )
    return folder


def credentials(settings: Settings) -> tuple[str, str] | None:
    """Return the access and secret key of the namespace's object store, or None if there are none yet.

    Raises:
        MissingError: the cluster does not answer, or the Secret does not have them.
        UsageError: the Secret belongs to another project.
    """
    try:
        live = as_json(settings, "get", "secret", SECRET, "-n", settings.namespace)
    except ProgramError as exc:
        if "NotFound" in str(exc):
            return None
        raise MissingError(
            f"namespace {settings.namespace} of the cluster cannot be read: {exc.message}",
            remedy=remedy("no answer of the cluster", settings.backend),
        ) from exc
    try:
        access, secret = (base64.b64decode(live["data"][key]).decode() for key in KEYS)
    except SHAPE_ERRORS as exc:
        raise MissingError(
            f"Secret {SECRET} in namespace {settings.namespace} does not have the keys {' and '.join(KEYS)}",
            remedy=f"correct it, or set K8S_NAMESPACE to another namespace; kubectl -n {settings.namespace} get secret "
            f"{SECRET} -o yaml shows it",
        ) from exc
    if not is_ours(live):
        raise _foreign(settings, f"Secret {SECRET}")
    return access, secret


@contextlib.contextmanager
def store(settings: Settings) -> Iterator[Settings]:
    """Forward a port to the cluster's object store while the block runs; yield settings that use that store.

    Raises:
        MissingError: there is no cluster, or no object store in it.
    """
    if not kubeconfig_path(settings).is_file():
        raise unknown_cluster(settings)
    keys = credentials(settings)
    if keys is None:
        raise MissingError(
            f"namespace {settings.namespace} has no object store",
            remedy=remedy("no object store in the cluster", settings.backend),
        )
    with forwarded(kubeconfig_path(settings), settings.namespace, "service/minio", 9000) as (port,):
        yield settings.with_minio(f"http://127.0.0.1:{port}", *keys)

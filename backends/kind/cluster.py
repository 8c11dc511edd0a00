"""The kind cluster of our own: KServe, a namespace with MinIO and what a release needs there, and no trace afterwards.

`up` is safe to repeat: it makes only what is missing, and mends a cluster that an interrupted `up` left half made.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.kind.kubectl import READY_SECONDS, Report, answers, apply, as_json, kubectl, wait
from backends.kind.namespace import install
from backends.kserve.kube import is_ready, kubeconfig_path
from backends.locks import locked
from backends.programs import ProgramError, need, program
from digits.errors import DigitsError, MissingError
from digits.files import sha256_of
from digits.settings import Settings

NAME = "digits"
KSERVE_VERSION = "v0.20.0"
_KSERVE = f"https://github.com/kserve/kserve/releases/download/{KSERVE_VERSION}"
KSERVE_MANIFESTS = (f"{_KSERVE}/kserve.yaml", f"{_KSERVE}/kserve-cluster-resources.yaml")
CERT_MANAGER = "https://github.com/cert-manager/cert-manager/releases/download/v1.17.0/cert-manager.yaml"
CERT_MANAGER_DEPLOYMENTS = ("cert-manager", "cert-manager-cainjector", "cert-manager-webhook")

CREATE_SECONDS = 300
API_SECONDS = 60
LOAD_SECONDS = 300
DELETE_SECONDS = 120
LOADED = "/var/lib/digits-images"  # in the node: one empty file for each image copied into it


def up(
    settings: Settings, report: Report = lambda _: None, *, name: str = NAME, images: Mapping[str, str] | None = None
) -> None:
    """Make the cluster `name`, or what is missing of it, and wait until all of it is ready.

    Args:
        settings: DIGITS_KIND_NODE_IMAGE, DIGITS_KIND_CONFIG, DIGITS_KSERVE_MANIFEST, DIGITS_KSERVE_IMAGES and
            DIGITS_MINIO_IMAGE, K8S_NAMESPACE, and DIGITS_HOME, which gets the file `kubeconfig`.
        report: told each step, one sentence a call.
        name: the kind cluster's name.
        images: {PREDICTOR_IMAGE or WEB_IMAGE: the built image's name}. Without a web image there is no page.

    Raises:
        MissingError: Docker, kind, kubectl or an image is not there; says how to get it.
        DigitsError: a step failed or took too long; carries what the program and the pods said.
    """
    for tool in ("docker", "kind", "kubectl"):
        need(tool)
    images = dict(images or {})
    settings.home.mkdir(parents=True, exist_ok=True)
    with _alone(settings):
        _create(settings, name, report)
        needed = [*settings.kserve_images.split(), settings.minio_image, *images.values()]
        load(needed, name=name, report=report)
        _install_kserve(settings, report)
        install(settings, images, report)
    report(f"ready: cluster {name}, namespace {settings.namespace}, kubeconfig {kubeconfig_path(settings)}")


def down(settings: Settings, report: Report = lambda _: None, *, name: str = NAME) -> bool:
    """Remove the cluster and all that `up` made for it. Returns whether there was one.

    Raises:
        MissingError: Docker or kind is not there.
        DigitsError: something of it is still there.
    """
    for tool in ("docker", "kind"):
        need(tool)
    with _alone(settings):
        there = name in _clusters()
        nodes = program("docker", "ps", "-aq", "--filter", f"label=io.x-k8s.kind.cluster={name}").split()
        if there or nodes:
            report(f"removing cluster {name}")
            program("kind", "delete", "cluster", "--name", name, f"--kubeconfig={kubeconfig_path(settings)}",
                    seconds=DELETE_SECONDS)  # fmt: skip
        kubeconfig_path(settings).unlink(missing_ok=True)
        left = program("docker", "ps", "-aq", "--filter", f"label=io.x-k8s.kind.cluster={name}").split()
        if left:
            raise DigitsError(
                f"cluster {name} left containers: {' '.join(left)}", remedy=f"docker rm -fv {' '.join(left)}"
            )
        if not _clusters():
            with contextlib.suppress(ProgramError):  # kind's network, which it leaves behind; in use, it stays
                program("docker", "network", "rm", "kind")
    return there


def status(settings: Settings, *, name: str = NAME) -> dict[str, Any]:
    """What there is: {cluster, exists, answers, kserve, namespace, pods: [{name, phase, ready}], endpoints: [...]}.

    Raises:
        MissingError: Docker or kind is not there.
    """
    for tool in ("docker", "kind", "kubectl"):
        need(tool)
    found: dict[str, Any] = {"cluster": name, "exists": name in _clusters(), "answers": False, "kserve": "absent"}
    found |= {"namespace": settings.namespace, "pods": [], "endpoints": []}
    if not found["exists"] or not kubeconfig_path(settings).is_file() or not answers(settings):
        return found
    found["answers"] = True
    with contextlib.suppress(ProgramError):
        controller = as_json(settings, "get", "deployment", "kserve-controller-manager", "-n", "kserve")
        image = controller["spec"]["template"]["spec"]["containers"][0]["image"]
        found["kserve"] = image.rpartition(":")[2] if controller["status"].get("availableReplicas") else "starting"
    with contextlib.suppress(ProgramError):
        for pod in as_json(settings, "get", "pods", "-n", settings.namespace)["items"]:
            ready, phase = is_ready(pod), pod["status"]["phase"]
            if "deletionTimestamp" in pod["metadata"]:
                ready, phase = False, "ending"
            found["pods"].append({"name": pod["metadata"]["name"], "phase": phase, "ready": ready})
        for item in as_json(settings, "get", "inferenceservices", "-n", settings.namespace)["items"]:
            release = item["metadata"].get("annotations", {}).get("digits/release", "")
            found["endpoints"].append({"name": item["metadata"]["name"], "ready": is_ready(item), "release": release})
    return found


def load(images: list[str], *, name: str = NAME, report: Report = lambda _: None) -> None:
    """Copy local images into the cluster's node; those already there are left.

    What was copied is noted in the node itself, by the image's digest: kind's own look-up needs a program that not
    every node image has.

    Raises:
        MissingError: an image is not on this machine.
    """
    for image in filter(None, dict.fromkeys(images)):
        try:
            digest = program("docker", "image", "inspect", "--format={{.Id}}", image).strip()
        except ProgramError as exc:
            raise MissingError(f"the image {image} is not here", remedy=f"docker pull {image}, or build it") from exc
        note = f"{LOADED}/{sha256_of(f'{image} {digest}'.encode())}"
        if _in_node(name, "test", "-e", note):
            continue
        report(f"image {image}")
        try:
            program("kind", "load", "docker-image", image, "--name", name, seconds=LOAD_SECONDS)
        except (
            ProgramError
        ):  # Docker's containerd image store (engine 29) saves in a way that kind cannot load directly
            with tempfile.TemporaryDirectory() as folder:
                archive = f"{folder}/image.tar"
                program("docker", "save", "-o", archive, image, seconds=LOAD_SECONDS)
                program("kind", "load", "image-archive", archive, "--name", name, seconds=LOAD_SECONDS)
        _in_node(name, "mkdir", "-p", LOADED)
        _in_node(name, "touch", note)


def _create(settings: Settings, name: str, report: Report) -> None:
    """Make the kind cluster, or take up the one that is there."""
    path = kubeconfig_path(settings)
    if name in _clusters():
        whole = path.is_file()  # the last thing that making a cluster writes
        if not whole:
            _fetch_kubeconfig(path, name)
        program("docker", "start", f"{name}-control-plane")
        if answers(settings, within=API_SECONDS):
            report(f"cluster {name} is there")
            return
        if whole:
            raise DigitsError(
                f"cluster {name} does not answer:\n{_node_log(name)}",
                remedy="digits cluster up once more; or digits cluster down --yes, which gives up its corrections",
            )
        path.unlink(missing_ok=True)
        report(f"cluster {name} was left half made; making it again")
        program("kind", "delete", "cluster", "--name", name, seconds=DELETE_SECONDS)
    report(f"cluster {name}")
    image = [f"--image={settings.kind_node_image}"] if settings.kind_node_image else []
    config = [f"--config={settings.kind_config}"] if settings.kind_config else []
    part = path.with_name(".kubeconfig.part")
    part.unlink(missing_ok=True)
    program("kind", "create", "cluster", "--name", name, *image, *config, f"--kubeconfig={part}", "--wait=120s",
            seconds=CREATE_SECONDS)  # fmt: skip
    part.chmod(0o600)
    part.replace(path)


def _fetch_kubeconfig(path: Path, name: str) -> None:
    with contextlib.suppress(ProgramError):  # half made, it has none
        program("kind", "export", "kubeconfig", "--name", name, f"--kubeconfig={path}")
        path.chmod(0o600)


def _install_kserve(settings: Settings, report: Report) -> None:
    own = settings.kserve_manifest
    report(f"KServe from {own or KSERVE_VERSION}")
    if not own:
        apply(settings, "-f", CERT_MANAGER)
        for deployment in CERT_MANAGER_DEPLOYMENTS:
            wait(settings, deployment, "cert-manager", report)
    for source in (own,) if own else KSERVE_MANIFESTS:
        # The manifest holds objects of kinds, and for webhooks, that it only creates: the first pass may fail on them.
        with contextlib.suppress(ProgramError):
            kubectl(settings, "apply", "--server-side", "--force-conflicts", "-f", source, seconds=READY_SECONDS)
        wait(settings, "kserve-controller-manager", "kserve", report)
        apply(settings, "-f", source)


def _node_log(name: str) -> str:
    try:
        return program("docker", "logs", "--tail=20", f"{name}-control-plane")
    except ProgramError as exc:
        return str(exc)


def _in_node(name: str, *command: str) -> bool:
    try:
        program("docker", "exec", f"{name}-control-plane", *command)
    except ProgramError:
        return False
    return True


def _clusters() -> list[str]:
    return program("kind", "get", "clusters").split()


def _alone(settings: Settings) -> contextlib.AbstractContextManager[None]:
    return locked(settings.home / "cluster.lock", CREATE_SECONDS + READY_SECONDS, "change the cluster")

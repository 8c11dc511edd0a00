"""Our own kind cluster, with KServe and a namespace for releases.

`up` can be repeated: it creates only what is missing, and repairs a cluster that an interrupted `up` left incomplete.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from backends.base import Report
from backends.kind.controllers import install_kserve, install_trainer
from backends.kind.kubectl import READY_SECONDS, answers, as_json
from backends.kind.namespace import TRAINJOB, install, manifests
from backends.kind.node_images import find, load
from backends.kserve.kube import Kube, is_ready, kubeconfig_path
from backends.kserve.service import Service
from backends.locks import locked
from backends.programs import ProgramError, need, program
from digits import homes
from digits.errors import DigitsError, MissingError, UsageError
from digits.release import signatures
from digits.settings import Settings

NAME = "digits"
LABEL = "org.digits.role"  # of the nodes

CREATE_SECONDS = 300
API_SECONDS = 60
DELETE_SECONDS = 120


def up(
    settings: Settings, report: Report = lambda _: None, *, name: str = NAME, images: Mapping[str, str] | None = None
) -> None:
    """Create the cluster `name`, or what is missing of it, and wait until all of it is ready.

    `report` is called with a sentence before each step. `images` is {PREDICTOR_IMAGE or WEB_IMAGE: name of the built
    image}; without a web image there is no page. The kubeconfig is written to DIGITS_HOME.

    Raises:
        MissingError: Docker, kind, kubectl, an image or a file is missing.
        UsageError: digits did not create the existing cluster `name`, or the kubeconfig is of another cluster.
        DigitsError: a step failed or took too long; the message has the program's output and the state of the pods.
    """
    images = dict(images or {})
    check(settings, name=name, images=images)
    homes.claim(settings.home)
    with _lock(settings):
        _check_kubeconfig(settings, name)
        _create(settings, name, report)
        load(settings.kserve_images.split(), name, report)
        with ThreadPoolExecutor(1) as pool:  # KServe's controller becomes ready after half a minute at the earliest
            loaded = pool.submit(load, [settings.minio_image, *images.values()], name, report)
            install_kserve(settings, report)
            loaded.result()
        if settings.trainer == TRAINJOB:
            install_trainer(settings, name, report)
        install(settings, images, report)
    report(f"ready: cluster {name}, namespace {settings.namespace}, kubeconfig {kubeconfig_path(settings)}")


def check(settings: Settings, *, name: str = NAME, images: Mapping[str, str] | None = None) -> None:
    """Check what `up` needs, before images are built and a cluster is created. Raises MissingError and UsageError."""
    for tool in ("docker", "kind", "kubectl"):
        need(tool)
    homes.check(settings.home)
    _check_kubeconfig(settings, name)
    _check_inputs(settings, images or {})
    if name in _clusters():
        check_ours(settings, name)


def down(settings: Settings, report: Report = lambda _: None, *, name: str = NAME) -> bool:
    """Remove the cluster and everything that `up` created for it. Returns whether it existed.

    Raises:
        MissingError: Docker or kind is missing.
        UsageError: digits did not create the cluster, or the kubeconfig is of another one.
        DigitsError: one of its containers still exists.
    """
    for tool in ("docker", "kind"):
        need(tool)
    with _lock(settings):
        existed, nodes = name in _clusters(), _nodes(name)
        if existed or nodes:
            check_ours(settings, name)
            report(f"removing cluster {name}")
            program("kind", "delete", "cluster", "--name", name, f"--kubeconfig={kubeconfig_path(settings)}",
                    seconds=DELETE_SECONDS)  # fmt: skip
        if not _other_context(settings, name):
            kubeconfig_path(settings).unlink(missing_ok=True)
        _mark(settings, name).unlink(missing_ok=True)
        if remaining := _nodes(name):
            raise DigitsError(
                f"cluster {name} left containers: {' '.join(remaining)}", remedy=f"docker rm -fv {' '.join(remaining)}"
            )
        if (existed or nodes) and not _clusters():
            with contextlib.suppress(ProgramError):
                # kind does not remove its network. A container of others may use it, also one that is stopped now.
                if not program("docker", "ps", "-aq", "--filter", "network=kind"):
                    program("docker", "network", "rm", "kind")
    return existed


def check_ours(settings: Settings, name: str = NAME) -> None:
    """Raise UsageError unless digits created the cluster: this home has its mark, or its nodes have our label.

    Raises UsageError also if the kubeconfig is of another cluster.
    """
    _check_kubeconfig(settings, name)
    with contextlib.suppress(OSError):
        marked = _mark(settings, name).read_text().split()
        if not marked or set(marked) & set(_nodes(name)):
            return
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ProgramError):
        program("kind", "export", "kubeconfig", "--name", name, f"--kubeconfig={folder}/kubeconfig")
        if _is_labelled(Path(folder, "kubeconfig")):
            return
    raise UsageError(
        f"digits did not create the kind cluster {name}",
        remedy=f"if it is no longer needed: kind delete cluster --name {name}; then digits cluster up",
    )


def status(settings: Settings, *, name: str = NAME) -> dict[str, Any]:
    """Return {cluster, exists, answers, kserve, namespace, pods: [{name, phase, ready}], endpoints: [...]}.

    An endpoint is {name, ready, release, why}; `why` is the reason why it does not serve that release, '' if it does.

    Raises:
        MissingError: Docker, kind or kubectl is missing.
    """
    for tool in ("docker", "kind", "kubectl"):
        need(tool)
    state: dict[str, Any] = {"cluster": name, "exists": name in _clusters(), "answers": False, "kserve": "absent"}
    state |= {"namespace": settings.namespace, "pods": [], "endpoints": []}
    known = kubeconfig_path(settings).is_file() and not _other_context(settings, name)
    if not state["exists"] or not known or not answers(settings):
        return state
    state["answers"] = True
    with contextlib.suppress(ProgramError):
        controller = as_json(settings, "get", "deployment", "kserve-controller-manager", "-n", "kserve")
        image = controller["spec"]["template"]["spec"]["containers"][0]["image"]
        state["kserve"] = image.rpartition(":")[2] if controller["status"].get("availableReplicas") else "starting"
    with contextlib.suppress(ProgramError):
        for pod in as_json(settings, "get", "pods", "-n", settings.namespace)["items"]:
            ready, phase = is_ready(pod), pod["status"]["phase"]
            if "deletionTimestamp" in pod["metadata"]:
                ready, phase = False, "ending"
            state["pods"].append({"name": pod["metadata"]["name"], "phase": phase, "ready": ready})
        for item in as_json(settings, "get", "inferenceservices", "-n", settings.namespace)["items"]:
            release = item["metadata"].get("annotations", {}).get("digits/release", "")
            endpoint = {"name": item["metadata"]["name"], "ready": is_ready(item), "release": release, "why": ""}
            with contextlib.suppress(DigitsError):
                endpoint["why"] = Service(Kube.connect(settings), settings.namespace, endpoint["name"]).problem()
            state["endpoints"].append(endpoint)
    return state


def _check_kubeconfig(settings: Settings, name: str) -> None:
    """Raise UsageError if the kubeconfig is of another cluster, in which `up` would install KServe."""
    if context := _other_context(settings, name):
        raise UsageError(
            f"{kubeconfig_path(settings)} is of another cluster ({context}), not of kind's cluster {name}",
            remedy="set DIGITS_HOME to another folder for the kind cluster, or move that file away",
        )


def _other_context(settings: Settings, name: str) -> str:
    """Return the context of a kubeconfig that the user put into the home for another cluster, '' if it is none."""
    with contextlib.suppress(OSError, ValueError, AttributeError, yaml.YAMLError):  # absent or damaged
        content = yaml.safe_load(kubeconfig_path(settings).read_text())
        context = content.get("current-context") or "no current context"
        if content.get("clusters") and context != f"kind-{name}":
            return str(context)
    return ""


def _check_inputs(settings: Settings, images: Mapping[str, str]) -> None:
    """Check what is needed after the creation of the cluster, which takes minutes. Raises an error of digits."""
    manifests()
    if settings.trusted_keys:
        signatures.read_keys(settings.trusted_keys)
    names = [*settings.kserve_images.split(), settings.minio_image, *images.values()]
    files = {"DIGITS_KIND_CONFIG": settings.kind_config, "DIGITS_KSERVE_MANIFEST": settings.kserve_manifest}
    if settings.trainer == TRAINJOB:
        names += settings.trainer_images.split()
        files["DIGITS_TRAINER_MANIFEST"] = settings.trainer_manifest
    for image in filter(None, names):
        find(image)
    for variable, file in files.items():
        if file and "://" not in file and not Path(file).exists():
            raise MissingError(f"{variable}: there is no file {file}", remedy=f"correct {variable}, or unset it")


def _create(settings: Settings, name: str, report: Report) -> None:
    """Create the kind cluster, or start the existing one."""
    path = kubeconfig_path(settings)
    part = path.with_name(".kubeconfig.part")
    part.unlink(missing_ok=True)
    if name in _clusters():
        check_ours(settings, name)
        complete = path.is_file()  # the kubeconfig is written last
        program("docker", "start", *_nodes(name))
        with contextlib.suppress(ProgramError):  # an incomplete cluster has none; another home may have made a new one
            program("kind", "export", "kubeconfig", "--name", name, f"--kubeconfig={part}")
            part.chmod(0o600)
            part.replace(path)
        ready = answers(settings, within=API_SECONDS)
        # An empty mark: the creation was interrupted, maybe between the API server and what else a node needs.
        if ready and (not _is_begun(settings, name) or _is_labelled(path)):
            _mark(settings, name).write_text("\n".join(_nodes(name)))
            report(f"cluster {name} exists")
            return
        if complete and not ready:
            raise DigitsError(
                f"cluster {name} does not answer:\n{_node_log(name)}",
                remedy="digits cluster up again; or digits cluster down --yes, which deletes its corrections",
            )
        path.unlink(missing_ok=True)
        report(f"cluster {name} is incomplete; creating it again")
        program("kind", "delete", "cluster", "--name", name, seconds=DELETE_SECONDS)
    report(f"cluster {name}")
    image = [f"--image={settings.kind_node_image}"] if settings.kind_node_image else []
    config = [f"--config={settings.kind_config}"] if settings.kind_config else []
    part.unlink(missing_ok=True)
    _mark(settings, name).write_text("")
    program("kind", "create", "cluster", "--name", name, *image, *config, f"--kubeconfig={part}", "--wait=120s",
            seconds=CREATE_SECONDS)  # fmt: skip
    program("kubectl", f"--kubeconfig={part}", "label", "nodes", "--all", "--overwrite", f"{LABEL}=cluster")
    _mark(settings, name).write_text("\n".join(_nodes(name)))
    part.chmod(0o600)
    part.replace(path)


def _mark(settings: Settings, name: str) -> Path:
    """Return the file in DIGITS_HOME that shows that digits created the cluster.

    It is empty from the moment before the creation, and then has the ids of the nodes, because someone else may remove
    the cluster and create another one of its name.
    """
    return settings.home / f"kind-{name}"


def _is_begun(settings: Settings, name: str) -> bool:
    """Return whether this home began to create the cluster, and did not record the end of that."""
    with contextlib.suppress(OSError):
        return not _mark(settings, name).read_text()
    return False


def _is_labelled(kubeconfig: Path) -> bool:
    """Return whether a node has our label, which it gets at the end of the creation. Raises ProgramError."""
    selector = (f"--selector={LABEL}", "--output=name", "--request-timeout=10s")
    return bool(program("kubectl", f"--kubeconfig={kubeconfig}", "get", "nodes", *selector))


def _node_log(name: str) -> str:
    try:
        return program("docker", "logs", "--tail=20", f"{name}-control-plane")
    except ProgramError as exc:
        return str(exc)


def _nodes(name: str) -> list[str]:
    """Return the ids of the containers of a kind cluster, in any state."""
    return program("docker", "ps", "-aq", "--no-trunc", "--filter", f"label=io.x-k8s.kind.cluster={name}").split()


def _clusters() -> list[str]:
    return program("kind", "get", "clusters").split()


def _lock(settings: Settings) -> contextlib.AbstractContextManager[None]:
    return locked(settings.home / "cluster.lock", CREATE_SECONDS + READY_SECONDS, "change the cluster")

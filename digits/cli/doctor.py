"""What `digits doctor` looks at. Each check says what it found; one that fails says how to get what is missing."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from digits.data.catalog import AUTO, FALLBACK, SOURCES
from digits.errors import DigitsError, UsageError, mask_url
from digits.settings import Settings, unknown

PYTHONS = ((3, 11), (3, 12))
LEAST_GIGABYTES = 2
# Files of these names in the working directory would be imported in place of the libraries.
SHADOWED = (
    "kfp",
    "kserve",
    "mlflow",
    "keras",
    "tensorflow",
    "onnx",
    "numpy",
    "docker",
    "minio",
    "click",
    "types",
    "random",
)


@dataclass(frozen=True)
class Finding:
    """One check's outcome. `ok` is None where something is absent or odd that the chosen backend can do without."""

    name: str
    ok: bool | None
    found: str
    remedy: str = ""


def findings(settings: Settings) -> Iterator[Finding]:
    """All findings, one by one as they are made; none takes longer than some seconds."""
    docker = settings.backend == "docker"
    yield _python()
    yield from _shadows(Path.cwd())
    yield _home(settings)
    for name, meant in unknown().items():
        yield Finding("unknown setting", None, f"{name}, which nothing reads", meant or "docs/configuration.md has all")
    yield _guarded("data", True, lambda: _data(settings))
    yield _guarded("docker engine", docker, _engine)
    yield _guarded("images", docker, lambda: _images(settings))
    yield _guarded("object store", not docker, lambda: _store(settings))
    yield _guarded("mlflow", True, lambda: _mlflow(settings))
    yield _guarded("endpoint", False, lambda: _endpoint(settings))
    yield _guarded("kubeflow api", settings.backend == "kubeflow", lambda: _kubeflow(settings))
    for program, use in (("kind", "digits cluster"), ("kubectl", "digits cluster and the kubeflow backend")):
        path = shutil.which(program)
        yield Finding(program, True if path else None, path or f"not on PATH; only {use} needs it")
    yield _guarded("cluster", False, lambda: _cluster(settings))
    yield _guarded("leftovers", False, lambda: _leftovers(settings))


def _guarded(name: str, needed: bool, look: Callable[[], str | Finding]) -> Finding:
    """The finding of `look`, or what it found; its error means that the thing is missing."""
    try:
        found = look()
        return found if isinstance(found, Finding) else Finding(name, True, mask_url(found))
    except DigitsError as exc:
        wrong = needed or isinstance(exc, UsageError)  # what makes no sense is never done without
        return Finding(name, False if wrong else None, exc.message, exc.remedy)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = sys.version_info[:2] in PYTHONS
    return Finding("python", fits, f"{version} in {sys.prefix}", "" if fits else "use Python 3.11 or 3.12")


def _shadows(folder: Path) -> Iterator[Finding]:
    found = [
        name for name in SHADOWED if (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
    ]
    for name in found:
        yield Finding(
            "shadowed module",
            False,
            f"{folder / name} would be imported in place of the library {name}",
            "rename it, or run digits from another folder",
        )


def _home(settings: Settings) -> Finding:
    import os

    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    if not os.access(place, os.W_OK):
        return Finding("home", False, f"{settings.home} cannot be written", "set DIGITS_HOME to another folder")
    return Finding(
        "home",
        free >= LEAST_GIGABYTES,
        f"{settings.home}, {free:.0f} GB free",
        "" if free >= LEAST_GIGABYTES else "free some space, or set DIGITS_HOME to another disk",
    )


def _data(settings: Settings) -> str | Finding:
    from digits.data import fetch

    if settings.data:
        if urlsplit(settings.data).scheme not in {"", "file"}:
            return Finding("data", None, f"{mask_url(settings.data)}, which was not asked")
        problems = []
        for name in SOURCES:
            try:
                fetch.check_place(name, settings.data)
            except DigitsError as exc:
                problems.append(exc)
            else:
                return f"{name} in {settings.data}"
        raise problems[0]
    if fetch.resolve(AUTO, "", settings.home / "data") == FALLBACK:
        found = "no MNIST, for no mirror answers: a run would use scikit-learn's 1,797 digits"
        return Finding("data", None, found, "set DIGITS_DATA to a folder with MNIST's four files")
    return "MNIST from the cache or a public mirror"


def _engine() -> str:
    from backends.docker import containers

    client = containers.connect()
    try:
        about = client.version()
        return f"{about['Version']} at {containers.place()}"
    finally:
        client.close()


def _images(settings: Settings) -> str | Finding:
    from backends.docker import containers, images

    client = containers.connect()
    try:
        names = [images.reference(client, settings, which) for which in ("steps", "predictor")]
        absent = [name for name in names if not images.present(client, name)]
    finally:
        client.close()
    if absent:
        hint = "digits images build; or the first run with --backend docker builds them"
        return Finding("images", None, f"not built yet: {', '.join(absent)}", hint)
    return ", ".join(names)


def _store(settings: Settings) -> str:
    from backends import open_backend
    from digits.store import open_store

    backend = open_backend(settings)
    try:
        store = open_store(backend.here())
        store.keys("promotions/digits/none/")  # a server of another kind may say of any object that it is there
        return store.uri
    finally:
        backend.close()


def _mlflow(settings: Settings) -> str:
    from digits.release import mlflow_log

    file = Path(settings.tracking_uri.removeprefix("sqlite:///").split("?")[0])
    if settings.tracking_uri.startswith("sqlite:") and not file.exists():
        return f"{settings.tracking_uri} (made by the first run)"
    mlflow_log.check(settings)
    return settings.tracking_uri


def _endpoint(settings: Settings) -> str:
    from backends import open_backend
    from digits.errors import MissingError
    from digits.release import deploy

    backend = open_backend(settings)
    try:
        address = backend.endpoint()
    finally:
        backend.close()
    if not address:
        raise MissingError("nothing is served", remedy="digits run")
    if address.endswith(".svc.cluster.local"):
        return f"{address} is ready, says KServe; only the cluster reaches it"
    try:
        release = deploy.request(f"{address}/v2/models/digits")["parameters"]["release"]
    except OSError as exc:
        raise MissingError(f"{address} does not answer: {exc}", remedy="digits clean, then digits run") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise MissingError(f"what answers at {address} is no predictor of ours", remedy="digits run") from exc
    return f"{address} serves release {release or '(none yet)'}{_ports(settings, address)}"


def _ports(settings: Settings, address: str) -> str:
    """Why the predictor process is not at the port of the settings; '' where it is, or nothing is recorded of it."""
    from backends.process import predictor

    state = predictor.running(settings) if settings.backend == "process" else None
    if not state or not state.port:
        return ""
    if state.port != settings.port:
        return f"; it was started for port {state.port}, the next run moves it to {settings.port} (DIGITS_PORT)"
    return "" if urlsplit(address).port == state.port else f"; port {state.port} was taken when it started"


def _kubeflow(settings: Settings) -> str:
    from backends.kubeflow.backend import KubeflowBackend
    from digits.errors import MissingError

    if not settings.kfp_host and settings.backend != "kubeflow":
        raise MissingError(
            "DIGITS_KFP_HOST is not set; only the kubeflow backend needs it",
            remedy="set it to the address of the Kubeflow Pipelines API",
        )
    backend = KubeflowBackend(settings)
    try:
        backend.check()
    finally:
        backend.close()
    return settings.kfp_host


def _cluster(settings: Settings) -> str:
    from backends.kind import cluster
    from backends.kserve.kube import kubeconfig_path
    from digits.errors import MissingError

    if not kubeconfig_path(settings).is_file():
        return "none of ours"
    found = cluster.status(settings)
    if not found["answers"]:
        raise MissingError(f"{found['cluster']} does not answer", remedy="digits cluster up, or digits cluster down")
    served = ", ".join(f"{item['name']} serves {item['release']}" for item in found["endpoints"])
    return f"{found['cluster']}, KServe {found['kserve']}; {served or 'nothing is served'}"


def _leftovers(settings: Settings) -> str:
    from backends import runs
    from digits.errors import MissingError

    found = []
    for run in runs.all_runs(settings.home):
        record = run.record()
        if record["state"] == runs.RUNNING and not runs.alive(record["pid"], record["started"]):
            found.append(f"run {run.id}")
    with contextlib.suppress(DigitsError):  # no engine, no containers
        found += _step_containers(settings)
    if found:
        raise MissingError(f"of programs that were killed: {', '.join(found)}", remedy="digits run or digits clean")
    return "none"


def _step_containers(settings: Settings) -> list[str]:
    """The step containers whose run is over."""
    from backends import runs
    from backends.docker import containers

    client = containers.connect()
    try:
        over = {run.id for run in runs.all_runs(settings.home) if run.record()["state"] != runs.RUNNING}
        going = {run.id for run in runs.all_runs(settings.home)} - over
        return [
            f"container {found.name}"
            for found in containers.ours(client, settings, "step")
            if found.labels.get(containers.RUN_LABEL) not in going
        ]
    finally:
        client.close()

"""The checks of `digits doctor` that need an engine: Docker, an endpoint, Kubeflow, a kind cluster."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from urllib.parse import urlsplit

from digits.errors import DigitsError, MissingError
from digits.findings import Finding
from digits.settings import Settings

NAMES = {"cluster": "api server", "kfp": "kubeflow api"}  # of findings that are not named like their probe


def check_docker() -> str:
    """Check that a Docker engine answers. Return its version and address."""
    from backends.docker import containers

    with contextlib.closing(containers.connect()) as client, containers.errors("asking for its version"):
        return f"{client.version()['Version']} at {containers.address()}"


def check_images(settings: Settings) -> str | Finding:
    """Check that the images of a run on Docker are built."""
    from backends.docker import containers, images

    with contextlib.closing(containers.connect()) as client:
        names = [images.reference(client, settings, which) for which in ("steps", "predictor")]
        absent = [name for name in names if not images.present(client, name)]
    if absent:
        hint = "digits images build; or the first run with --backend docker builds them"
        return Finding("images", None, f"not built yet: {', '.join(absent)}", hint)
    return ", ".join(names)


def check_endpoint(settings: Settings) -> str:
    """Check that the backend's endpoint answers. Return its address and its release."""
    from backends import open_backend
    from digits.http import request_json

    with contextlib.closing(open_backend(settings)) as backend:
        address = backend.endpoint()
    if not address:
        raise MissingError("nothing is served", remedy="digits run")
    if address.endswith(".svc.cluster.local"):
        return f"{address} is ready according to KServe; only the cluster can reach it"
    try:
        release = request_json(f"{address}/v2/models/{settings.declaration.name}")["parameters"]["release"]
    except OSError as exc:
        raise MissingError(f"{address} does not answer: {exc}", remedy="digits clean, then digits run") from exc
    except (KeyError, TypeError, ValueError) as exc:
        raise MissingError(f"the server at {address} is not a predictor of digits", remedy="digits run") from exc
    return f"{address} serves release {release or '(none yet)'}{_explain_port(settings, address)}"


def _explain_port(settings: Settings, address: str) -> str:
    """Return why the predictor process does not use the settings' port; '' if it does, or if there is no record."""
    from backends.process import predictor

    state = predictor.running(settings) if settings.backend == "process" else None
    if not state or not state.port:
        return ""
    if state.port != settings.port:
        return f"; it was started for port {state.port}, the next run moves it to {settings.port} (DIGITS_PORT)"
    return "" if urlsplit(address).port == state.port else f"; port {state.port} was in use when it started"


def check_cluster(settings: Settings) -> Iterator[Finding]:
    """Yield one finding for each probe of `digits acceptance` that creates nothing, unless that part is not used."""
    from backends.acceptance.probe import SKIPPED, Context, run_probes
    from backends.acceptance.probes import READING

    required = settings.backend == "kubeflow"
    context, probes = Context(settings, frozenset({"kfp"} if required else ())), list(READING)
    try:
        yield Finding("cluster", True, context.kube.server)
    except DigitsError as exc:  # it is optional: the deploy step uses that of its pod
        yield Finding("cluster", None, exc.message, exc.remedy)
        probes = [probe for probe in READING if probe.name != "cluster" and not probe.needs]
    for outcome in run_probes(probes, context):
        if outcome.state != SKIPPED or outcome.name == "kfp":
            finding = outcome.summary()
            ok = None if finding.ok is False and not required else finding.ok
            yield dataclasses.replace(finding, name=NAMES.get(outcome.name, outcome.name), ok=ok)


def check_leftovers(settings: Settings) -> str:
    """Check that no killed run left a record in state RUNNING or a step's container."""
    from backends import runs

    leftovers = []
    for run in runs.all_runs(settings.home):
        leftovers += [f"run {run.id}"] * (run.record()["state"] == runs.RUNNING and not run.is_running())
    with contextlib.suppress(DigitsError):  # no engine, no containers
        leftovers += _list_orphaned_containers(settings)
    if leftovers:
        raise MissingError(f"left by killed programs: {', '.join(leftovers)}", remedy="digits run or digits clean")
    return "none"


def _list_orphaned_containers(settings: Settings) -> list[str]:
    """Return the step containers whose run's record does not have the state RUNNING."""
    from backends import runs
    from backends.docker import containers

    running = {run.id for run in runs.all_runs(settings.home) if run.record()["state"] == runs.RUNNING}
    with contextlib.closing(containers.connect()) as client:
        return [
            f"container {container.name}"
            for container in containers.list_containers(client, settings, "step")
            if container.labels.get(containers.RUN_LABEL) not in running
        ]

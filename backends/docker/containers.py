"""The Docker engine: reaching it (contexts included), its errors in our words, the labels of what is ours."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from digits.errors import DigitsError, MissingError
from digits.settings import Settings

RUN_LABEL, INSTALLATION_LABEL, ROLE_LABEL = "org.digits.run", "org.digits.installation", "org.digits.role"
SECONDS = 60
REMEDY = "start Docker (systemctl start docker, or Docker Desktop), or run with --backend process"


def place() -> str:
    """The address of the engine, as `docker` itself would take it."""
    return _address() or "unix:///var/run/docker.sock"


def connect() -> Any:
    """A client of the engine that `docker` itself would use.

    Raises:
        MissingError: the Python package is missing, or no engine answers; says where it was looked for.
    """
    try:
        import docker
        from docker.errors import DockerException
    except ImportError as exc:
        raise MissingError("the docker backend needs the Python package docker", remedy="pip install docker") from exc
    address = _address()
    try:
        client = docker.DockerClient(base_url=address, timeout=SECONDS) if address else docker.from_env(timeout=SECONDS)
        client.ping()
    except (DockerException, OSError) as exc:
        shown = place()
        if "Permission denied" in str(exc):
            raise MissingError(
                f"this user may not use the Docker engine at {shown}",
                remedy="add the user to the group docker, or use rootless Docker",
            ) from exc
        raise MissingError(f"no Docker engine answers at {shown}", remedy=REMEDY) from exc
    return client


def _address() -> str:
    """The engine's address: DOCKER_HOST, else that of the chosen context; '' for the default one.

    docker-py knows nothing of contexts, and neither do kfp and testcontainers: for them it is put into DOCKER_HOST.
    """
    if given := os.environ.get("DOCKER_HOST"):
        return given
    from docker.context import ContextAPI

    try:
        context: Any = ContextAPI.get_current_context()
    except Exception as exc:
        raise MissingError(f"Docker's context cannot be read: {exc}", remedy="docker context use default") from exc
    host = context.Host if context and context.Name != "default" else None
    if not host:
        return ""
    if not host.startswith(("unix://", "npipe://")):
        raise MissingError(
            f"Docker's context {context.Name!r} is on another machine ({host}); its containers cannot see our files",
            remedy="docker context use default, or run with --backend kubeflow",
        )
    os.environ["DOCKER_HOST"] = host
    return str(host)


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """Turn the engine's errors into ours. `doing`: what was being done, "starting MinIO", for the message."""
    import requests
    from docker.errors import DockerException

    try:
        yield
    except (DockerException, requests.exceptions.RequestException, OSError) as exc:
        raise translate(doing, exc) from exc


def translate(doing: str, exc: Exception) -> DigitsError:
    """One of the engine's errors as ours, with the remedy where one is known."""
    text = str(getattr(exc, "explanation", None) or exc)
    if "no space left" in text.lower() or getattr(exc, "errno", None) == errno.ENOSPC:
        return MissingError(f"{doing}: the disk of the Docker engine is full", remedy="docker system prune")
    if "address already in use" in text or "port is already allocated" in text:
        return MissingError(f"{doing}: {text}", remedy="set DIGITS_PORT and DIGITS_GRPC_PORT to free ports")
    if "Connection refused" in text or "Connection aborted" in text or "No such file" in text:
        return MissingError(f"{doing}: the Docker engine went away", remedy=REMEDY)
    return MissingError(f"{doing}: {text.strip() or type(exc).__name__}", remedy="digits doctor")


def installation(settings: Settings) -> str:
    """What marks the containers of this DIGITS_HOME: two homes on one machine don't touch each other's."""
    return hashlib.sha256(str(settings.home).encode()).hexdigest()[:12]


def labels(settings: Settings, role: str, **more: str) -> dict[str, str]:
    """The labels of something of ours."""
    return {INSTALLATION_LABEL: installation(settings), ROLE_LABEL: role} | more


def ours(client: Any, settings: Settings, role: str = "", run: str = "") -> list[Any]:
    """The containers of this installation, of all states; only those of a role or a run if one is given."""
    wanted = [f"{INSTALLATION_LABEL}={installation(settings)}"]
    wanted += [f"{ROLE_LABEL}={role}"] * bool(role) + [f"{RUN_LABEL}={run}"] * bool(run)
    with errors("listing containers"):
        found: list[Any] = client.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)
    return found


def remove(container: Any, *, grace_seconds: int = 0) -> None:
    """End and remove a container; nothing happens if it is gone already."""
    import requests
    from docker.errors import APIError, NotFound

    try:
        if grace_seconds:
            container.stop(timeout=grace_seconds)
        container.remove(force=True, v=True)
    except NotFound:
        return
    except APIError as exc:
        if exc.status_code != 409:  # its removal is under way
            raise translate("removing a container", exc) from exc
    except requests.exceptions.RequestException as exc:
        raise translate("removing a container", exc) from exc


def network(client: Any, settings: Settings) -> str:
    """The name of our network, made if there is none."""
    name = f"digits-{installation(settings)}"
    with errors("making a network"):
        if not client.networks.list(names=[name]):
            client.networks.create(name, driver="bridge", labels=labels(settings, "network"), check_duplicate=True)
    return name


def published(container: Any, port: int) -> int:
    """The port of 127.0.0.1 behind which a container's `port` is found; 0 where it is not (any more)."""
    bindings = container.attrs["NetworkSettings"]["Ports"].get(f"{port}/tcp") or []
    return int(bindings[0]["HostPort"]) if bindings else 0


def clean(client: Any, settings: Settings, *, volumes: bool = True) -> list[str]:
    """Remove the containers, networks and volumes of this installation. Returns what was removed, in words."""
    removed = []
    for container in ours(client, settings):
        remove(container, grace_seconds=5 if container.status == "running" else 0)
        removed.append(f"container {container.name}")
    wanted = {"label": f"{INSTALLATION_LABEL}={installation(settings)}"}
    with errors("removing networks and volumes"):
        for found in client.networks.list(filters=wanted):
            found.remove()
            removed.append(f"network {found.name}")
        for found in client.volumes.list(filters=wanted) if volumes else []:
            found.remove()
            removed.append(f"volume {found.name}")
    return removed

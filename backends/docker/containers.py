"""The Docker engine: the connection to it, its errors, and our containers, which are found by their labels."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from backends.ports import LOCAL_HOSTS
from digits import homes
from digits.answers import limit_requests
from digits.errors import DigitsError, MissingError
from digits.settings import Settings

RUN_LABEL, INSTALLATION_LABEL, ROLE_LABEL = "org.digits.run", "org.digits.installation", "org.digits.role"
SECONDS = 60
# Options of each container: its files cannot be changed, and its processes get no privileges.
RESTRICTED: dict[str, Any] = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges"]}
REMEDY = "start Docker (systemctl start docker, or Docker Desktop), or run with --backend process"


def address() -> str:
    """Return the engine's address as the command `docker` determines it: DOCKER_HOST, the context, or the default.

    The context is that of DOCKER_CONTEXT, else the current one.

    Raises:
        MissingError: the context does not exist, cannot be read, or is on another machine.
    """
    if host := os.environ.get("DOCKER_HOST"):
        return host
    from docker.context import ContextAPI
    from docker.context.config import get_current_context_name

    try:
        name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
        context: Any = ContextAPI.get_context(name)
    except Exception as exc:
        raise MissingError(f"Docker's context cannot be read: {exc}", remedy="docker context use default") from exc
    if context is None:
        raise MissingError(
            f"there is no Docker context {name!r} (DOCKER_CONTEXT, or docker context use)",
            remedy="docker context ls lists them; unset DOCKER_CONTEXT, or docker context use default",
        )
    host = context.Host if context.Name != "default" else ""
    if host and not host.startswith(("unix://", "npipe://")):
        raise MissingError(
            f"Docker's context {context.Name!r} is on another machine ({host}); its containers cannot see our files",
            remedy="docker context use default, or run with --backend kubeflow",
        )
    return host or "unix:///var/run/docker.sock"


def check_here() -> None:
    """Raise MissingError if DOCKER_HOST is on another machine, as `address` does for a context."""
    host = os.environ.get("DOCKER_HOST", "")
    try:
        parts = urlsplit(host if "://" in host else f"//{host}")
    except ValueError:  # not an address; `connect` reports it
        return
    if parts.scheme in {"", "tcp", "ssh", "http", "https"} and parts.hostname not in {None, *LOCAL_HOSTS}:
        raise MissingError(
            f"DOCKER_HOST is on another machine ({parts.hostname}); its containers cannot see our files",
            remedy="unset DOCKER_HOST, or run with --backend process",
        )


def connect() -> Any:
    """Return a client of the engine that the command `docker` uses.

    Raises:
        MissingError: the Python package is missing, or no engine answers at `address`.
    """
    try:
        import docker
    except ImportError as exc:
        raise MissingError("the docker backend needs the Python package docker", remedy="pip install docker") from exc
    limit_requests()
    host = address()
    try:
        if os.environ.get("DOCKER_HOST"):  # with its TLS settings
            client = docker.from_env(timeout=SECONDS)
        else:
            client = docker.DockerClient(base_url=host, timeout=SECONDS)
        client.ping()
    except Exception as exc:  # among them KeyError and TypeError for an answer that is not Docker's
        if "Permission denied" in str(exc):
            raise MissingError(
                f"this user may not use the Docker engine at {host}",
                remedy="add the user to the group docker, or use rootless Docker",
            ) from exc
        raise MissingError(f"no Docker engine answers at {host}", remedy=REMEDY) from exc
    return client


@contextmanager
def errors(doing: str) -> Iterator[None]:
    """Raise the engine's errors as `digits.errors`. `doing` is the action ("starting MinIO"), for the message."""
    try:
        yield
    except DigitsError:
        raise
    except Exception as exc:  # among them KeyError and TypeError for an answer that is not Docker's
        raise translate(doing, exc) from exc


def translate(doing: str, exc: Exception) -> DigitsError:
    """Return the error of `digits.errors` for an error of the engine."""
    text = " ".join(str(getattr(exc, "explanation", None) or exc).split())[:500]
    engine = f"the Docker engine at {address()}"
    if "no space left" in text.lower() or getattr(exc, "errno", None) == errno.ENOSPC:
        return MissingError(f"{doing}: the disk of {engine} is full", remedy="docker system prune")
    if "address already in use" in text or "port is already allocated" in text:
        return MissingError(f"{doing}: {engine}: {text}", remedy="set DIGITS_PORT and DIGITS_GRPC_PORT to free ports")
    if "No such image" in text:
        return MissingError(
            f"{doing}: {text}", remedy="run again, with --resume if a step failed, which restores the image"
        )
    if "Connection refused" in text or "Connection aborted" in text or "No such file" in text:
        return MissingError(f"{doing}: {engine} no longer answers", remedy=REMEDY)
    if isinstance(exc, LookupError | TypeError | AttributeError | ValueError):
        text = f"its answer is not that of a Docker engine: {type(exc).__name__}: {text}"
    return MissingError(f"{doing}: {engine}: {text or type(exc).__name__}", remedy="digits doctor")


def installation(settings: Settings) -> str:
    """Return the label of this DIGITS_HOME, which keeps the containers of several installations apart."""
    return hashlib.sha256(homes.identity(settings.home).encode()).hexdigest()[:12]


def labels(settings: Settings, role: str, **more: str) -> dict[str, str]:
    """Return the labels of a container, network, volume or image of this installation."""
    return {INSTALLATION_LABEL: installation(settings), ROLE_LABEL: role} | more


def list_containers(client: Any, settings: Settings, role: str = "", run: str = "") -> list[Any]:
    """Return the containers of this installation in any state; if given, only those of a role or a run."""
    required = [f"{INSTALLATION_LABEL}={installation(settings)}"]
    required += [f"{ROLE_LABEL}={role}"] * bool(role) + [f"{RUN_LABEL}={run}"] * bool(run)
    with errors("listing containers"):
        found = list(client.containers.list(all=True, filters={"label": required}, ignore_removed=True))
        for container in found:  # here, so that an answer that lacks one of these is an error of the engine
            _ = container.status, container.name, container.labels.keys()
        return found


def remove(container: Any, *, grace_seconds: int = 0) -> None:
    """Stop and remove a container, if it still exists."""
    from docker.errors import APIError, NotFound

    with errors("removing a container"):
        try:
            if grace_seconds:
                container.stop(timeout=grace_seconds)
            container.remove(force=True, v=True)
        except NotFound:
            return
        except APIError as exc:
            if exc.status_code != 409:  # it is being removed already
                raise


def ensure_network(client: Any, settings: Settings) -> str:
    """Return the name of our network; create it if it does not exist."""
    name = _network_name(settings)
    with errors("creating a network"):
        if not client.networks.list(names=[name]):
            client.networks.create(name, driver="bridge", labels=labels(settings, "network"), check_duplicate=True)
    return name


def is_attached(client: Any, settings: Settings, container: Any, alias: str) -> bool:
    """Return whether a container is on our network by the name `alias`, by which the steps find it.

    It is not if someone has disconnected it or removed the network, and then its ports are not published either.
    """
    name = _network_name(settings)
    with errors("looking for a network"):
        networks = [network.id for network in client.networks.list(names=[name])]
        entry = container.attrs["NetworkSettings"]["Networks"].get(name, {})
        return entry.get("NetworkID") in networks and alias in (entry.get("Aliases") or [])


def _network_name(settings: Settings) -> str:
    return f"digits-{installation(settings)}"


def published(container: Any, port: int) -> int:
    """Return the port of 127.0.0.1 that forwards to a container's `port`; 0 if there is none."""
    with errors("looking for a published port"):
        bindings = container.attrs["NetworkSettings"]["Ports"].get(f"{port}/tcp") or []
        return int(bindings[0]["HostPort"]) if bindings else 0


def security_options(client: Any) -> str:
    """Return the engine's security options, separated by spaces, such as name=selinux and name=rootless."""
    with errors("asking for the engine's options"):
        return " ".join(client.info().get("SecurityOptions") or [])


def relabel(options: str) -> str:
    """Return what to append to the mode of a mount, so that SELinux lets containers use it; see `security_options`."""
    return ",z" if "name=selinux" in options else ""


def clean(client: Any, settings: Settings) -> list[str]:
    """Remove the containers, networks and volumes of this installation. Returns a description of each."""
    removed = []
    for container in list_containers(client, settings):
        remove(container, grace_seconds=5 if container.status == "running" else 0)
        removed.append(f"container {container.name}")
    ours = {"label": f"{INSTALLATION_LABEL}={installation(settings)}"}
    with errors("removing networks and volumes"):
        for network in client.networks.list(filters=ours):
            network.remove()
            removed.append(f"network {network.name}")
        for volume in client.volumes.list(filters=ours):
            volume.remove()
            removed.append(f"volume {volume.name}")
    return removed

"""The MinIO container: the object store of the docker backend. Like the predictor, it keeps running between runs.

Its objects are in a named volume. Its credentials, random for each installation, are in a private file. If that is
lost, new ones are made, and MinIO starts again with them and with the same objects.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from typing import Any

from backends.base import Report
from backends.docker import containers, images
from digits.errors import MissingError, UsageError, mask_address
from digits.files import parse_json, read_own, whole_file
from digits.http import request
from digits.settings import Settings
from digits.store import get_scheme

ALIAS, PORT = "minio", 9000
START_SECONDS = 30.0


def is_ours(settings: Settings) -> bool:
    """Return whether runs use our MinIO container, and not a store of the user."""
    return not get_scheme(settings.store).remote


def check(settings: Settings) -> None:
    """Raise UsageError if the settings name a store that our MinIO would silently replace."""
    if not is_ours(settings):
        return
    if settings.store != Settings(home=settings.home).store:
        raise UsageError(
            f"DIGITS_STORE: expected s3://bucket with the docker backend, got {mask_address(settings.store)!r}",
            remedy="unset it: then MinIO in a container is the store; or run with --backend process",
        )
    if settings.minio_endpoint:
        raise UsageError(
            "MINIO_ENDPOINT is set, but DIGITS_STORE names no bucket there, which the docker backend needs",
            remedy="DIGITS_STORE=s3://bucket; or unset MINIO_ENDPOINT: then MinIO in a container is the store",
        )


def ensure_image(client: Any, settings: Settings, report: Report) -> str:
    """Return MinIO's image, from the settings or our own; pull or build it if the engine lacks it."""
    if not settings.minio_image:
        return images.ensure_image(client, settings, "minio", report)
    images.pull(client, settings.minio_image, "DIGITS_MINIO_IMAGE", report)
    return settings.minio_image


def ensure(client: Any, settings: Settings, report: Report) -> Any:
    """Return the running MinIO container; start it if there is none, and wait until it answers."""
    image = ensure_image(client, settings, report)
    container = _running(client, settings, image) or _start(client, settings, image)
    _wait(container)
    return container


def container_settings(settings: Settings) -> Settings:
    """Return the settings by which a container on our network reaches the store."""
    return settings.with_minio(f"{ALIAS}:{PORT}", *credentials(settings)) if is_ours(settings) else settings


def host_settings(client: Any, settings: Settings) -> Settings:
    """Return the settings by which this machine reaches the store of `settings`, which may be a container's.

    Raises:
        MissingError: our MinIO is not running.
    """
    if not is_ours(settings) and settings.minio_endpoint != f"{ALIAS}:{PORT}":
        return settings
    for container in containers.list_containers(client, settings, "minio"):
        if container.status == "running" and (port := containers.published(container, PORT)):
            return settings.with_minio(f"127.0.0.1:{port}", *credentials(settings))
    raise MissingError("the docker backend's MinIO is not running", remedy="digits run --backend docker")


def credentials(settings: Settings) -> tuple[str, str]:
    """Return (access key, secret key) of this installation, generated at the first call."""
    path = settings.home / "minio.json"
    if not path.exists():
        created = {"access_key": secrets.token_hex(8), "secret_key": secrets.token_hex(20)}
        # If another program has created them meanwhile, those are used.
        with contextlib.suppress(FileExistsError), whole_file(path, replace=False, mode=0o600) as file:
            file.write(json.dumps(created).encode())
    try:
        content = parse_json(read_own(path))
        return str(content["access_key"]), str(content["secret_key"])
    except (OSError, ValueError, LookupError, TypeError) as exc:
        raise MissingError(
            f"{path} is damaged; expected the keys of MinIO: {exc}",
            remedy=f"remove {path}, then digits run --backend docker makes new keys and keeps the releases",
        ) from exc


def volume(settings: Settings) -> str:
    """Return the name of the volume with the objects."""
    return f"digits-{containers.installation(settings)}"


def _root(settings: Settings) -> dict[str, str]:
    """Return the variables that give MinIO its credentials."""
    access, secret = credentials(settings)
    return {"MINIO_ROOT_USER": access, "MINIO_ROOT_PASSWORD": secret}


def _running(client: Any, settings: Settings, name: str) -> Any | None:
    """Return our running container of the image `name` that steps reach; remove all other MinIO containers of ours."""
    expected = {f"{variable}={value}" for variable, value in _root(settings).items()}
    for container in containers.list_containers(client, settings, "minio"):
        with containers.errors("looking for MinIO"):
            config = container.attrs["Config"]
            current = container.status == "running" and config["Image"] == name and expected <= set(config["Env"])
        if current and containers.is_attached(client, settings, container, ALIAS):
            return container
        containers.remove(container, grace_seconds=5)
    return None


def _start(client: Any, settings: Settings, name: str) -> Any:
    from docker.types import EndpointConfig

    container_class = _container_class()
    network = containers.ensure_network(client, settings)
    with containers.errors("starting MinIO"):
        client.volumes.create(volume(settings), labels=containers.labels(settings, "store"))
        server = container_class(name).with_command(["server", "/data", "--address", f":{PORT}"])
        server.with_envs(**_root(settings), MINIO_BROWSER="off", MINIO_UPDATE="off")
        server.with_volume_mapping(volume(settings), "/data", "rw").with_tmpfs_mount("/tmp")  # noqa: S108 # of the container
        server.ports[f"{PORT}/tcp"] = ("127.0.0.1", None)
        server.with_kwargs(
            network=network,
            networking_config={network: EndpointConfig(client.api.api_version, aliases=[ALIAS])},
            labels=containers.labels(settings, "minio"),
            **containers.RESTRICTED,
        )
        try:
            server.start()
        except Exception:
            for container in containers.list_containers(client, settings, "minio"):
                containers.remove(container)
            raise
        return client.containers.get(server.get_wrapped_container().id)


def _container_class() -> Any:
    """Return testcontainers' class of containers, without the settings that the user has for other projects.

    They name another engine, a registry to log in to, or a prefix for images.
    """
    for variable in os.environ:
        if variable.startswith(("TESTCONTAINERS_", "TC_")) or variable == "DOCKER_AUTH_CONFIG":
            del os.environ[variable]
    os.environ["DOCKER_HOST"] = containers.address()  # testcontainers ignores DOCKER_CONTEXT

    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    testcontainers_config.tc_properties = {}  # of ~/.testcontainers.properties
    # Ryuk would end the container with this process, and its image may be unavailable. Our labels replace it.
    testcontainers_config.ryuk_disabled = True
    return DockerContainer


def _wait(container: Any) -> None:
    """Wait until MinIO answers on its published port. Raises MissingError with the end of its log."""
    deadline, last_error = time.monotonic() + START_SECONDS, "no answer"
    while time.monotonic() < deadline:
        with containers.errors("starting MinIO"):
            container.reload()
            status = container.status
        if status not in {"created", "running"}:
            break
        try:
            url = f"http://127.0.0.1:{containers.published(container, PORT)}/minio/health/live"
            if request(url, seconds=1.0).status == 200:
                return
        except OSError as exc:
            last_error = str(exc)
        time.sleep(0.05)
    with containers.errors("reading MinIO's log"):
        log = container.logs(tail=5).decode(errors="replace").strip()
    containers.remove(container)
    raise MissingError(
        f"MinIO is not ready: {last_error}; its log ends with: {log}",
        remedy="check the free space of the Docker engine (docker system df), then run again",
    )

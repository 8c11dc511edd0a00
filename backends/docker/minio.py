"""The MinIO container: the object store of the docker backend. It goes on running between runs, as the endpoint does.

Its data lie in a named volume, its credentials, random for each installation, in a file that only its user may read.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
import time
from typing import Any

from backends.docker import containers, images
from digits.errors import MissingError, UsageError
from digits.files import part_of
from digits.http import request
from digits.settings import Settings
from digits.store import get_scheme

ALIAS, PORT, BUCKET = "minio", 9000, "digits"
START_SECONDS = 30.0


def is_ours(settings: Settings) -> bool:
    """Whether runs use our MinIO; not if the user has named another store."""
    return not get_scheme(settings.store).remote


def check(settings: Settings) -> None:
    """Refuse a store that our MinIO would silently take the place of. Raises UsageError."""
    if not is_ours(settings):
        return
    if settings.store != Settings(home=settings.home).store:
        raise UsageError(
            f"DIGITS_STORE: expected s3://bucket with the docker backend, got {settings.store!r}",
            remedy="unset it: then MinIO in a container is the store; or run with --backend process",
        )
    if settings.minio_endpoint:
        raise UsageError(
            "MINIO_ENDPOINT is set, but DIGITS_STORE names no bucket there, which the docker backend needs",
            remedy="DIGITS_STORE=s3://bucket; or unset MINIO_ENDPOINT: then MinIO in a container is the store",
        )


def image(client: Any, settings: Settings, tell: images.Tell) -> str:
    """The image to start: that of the settings, pulled if need be, else ours, built if need be."""
    if not settings.minio_image:
        return images.ensure(client, settings, "minio", tell)
    images.pull(client, settings.minio_image, "DIGITS_MINIO_IMAGE", tell)
    return settings.minio_image


def ensure(client: Any, settings: Settings, tell: images.Tell) -> Any:
    """The running MinIO container, started if there is none. It answers when this returns."""
    name = image(client, settings, tell)
    found = _running(client, settings, name)
    if found is None:
        found = _start(client, settings, name)
    _wait(found)
    return found


def inside(settings: Settings) -> Settings:
    """The settings by which a container on our network reaches the store."""
    return _reached(settings, f"{ALIAS}:{PORT}") if is_ours(settings) else settings


def here(client: Any, settings: Settings) -> Settings:
    """The settings by which this machine reaches the store. Raises MissingError if it is not running."""
    if not is_ours(settings):
        return settings
    for found in containers.ours(client, settings, "minio"):
        if port := containers.published(found, PORT):
            return _reached(settings, f"127.0.0.1:{port}")
    raise MissingError("the docker backend's MinIO is not running", remedy="digits run --backend docker")


def _reached(settings: Settings, endpoint: str) -> Settings:
    access, secret = credentials(settings)
    return dataclasses.replace(
        settings,
        store=f"s3://{BUCKET}",
        minio_endpoint=endpoint,
        minio_access_key=access,
        minio_secret_key=secret,
        minio_region="",
        minio_session_token="",
    )


def credentials(settings: Settings) -> tuple[str, str]:
    """(access key, secret key) of this installation, made up once."""
    path = settings.home / "minio.json"
    if not path.exists():
        settings.home.mkdir(parents=True, exist_ok=True)
        made = {"access_key": secrets.token_hex(8), "secret_key": secrets.token_hex(20)}
        part = part_of(path)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(made, file)
        try:
            os.link(part, path)  # of two that start at once, the first one's are kept
        except FileExistsError:
            pass
        finally:
            part.unlink()
    kept = json.loads(path.read_text())
    return kept["access_key"], kept["secret_key"]


def volume(settings: Settings) -> str:
    """The name of the volume that holds the objects."""
    return f"digits-{containers.installation(settings)}"


def _running(client: Any, settings: Settings, name: str) -> Any | None:
    """Our running container of that image; one that stopped, or of another image, is removed."""
    for found in containers.ours(client, settings, "minio"):
        if found.status == "running" and found.attrs["Config"]["Image"] == name:
            return found
        containers.remove(found, grace_seconds=5)
    return None


def _start(client: Any, settings: Settings, name: str) -> Any:
    from docker.types import EndpointConfig
    from testcontainers.core.config import testcontainers_config
    from testcontainers.core.container import DockerContainer

    # Ryuk would end the container with this process, and its image may not be had. Our label does its work.
    testcontainers_config.ryuk_disabled = True
    network = containers.network(client, settings)
    access, secret = credentials(settings)
    with containers.errors("starting MinIO"):
        client.volumes.create(volume(settings), labels=containers.labels(settings, "store"))
        server = DockerContainer(name).with_command(["server", "/data", "--address", f":{PORT}"])
        server.with_envs(MINIO_ROOT_USER=access, MINIO_ROOT_PASSWORD=secret, MINIO_BROWSER="off", MINIO_UPDATE="off")
        server.with_volume_mapping(volume(settings), "/data", "rw").with_tmpfs_mount("/tmp")  # noqa: S108 # in there
        server.ports[f"{PORT}/tcp"] = ("127.0.0.1", None)
        server.with_kwargs(
            network=network,
            networking_config={network: EndpointConfig(client.api.api_version, aliases=[ALIAS])},
            labels=containers.labels(settings, "minio"),
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
        )
        try:
            server.start()
        except Exception:
            for left in containers.ours(client, settings, "minio"):
                containers.remove(left)
            raise
        found = server.get_wrapped_container()
        found.reload()
        return client.containers.get(found.id)


def _wait(container: Any) -> None:
    """Wait until MinIO answers on its published port. Raises MissingError with its last words."""
    deadline, seen = time.monotonic() + START_SECONDS, "no answer"
    while time.monotonic() < deadline:
        container.reload()
        if container.status not in {"created", "running"}:
            break
        try:
            url = f"http://127.0.0.1:{containers.published(container, PORT)}/minio/health/live"
            if request(url, seconds=1.0).status == 200:
                return
        except OSError as exc:
            seen = str(exc)
        time.sleep(0.05)
    words = container.logs(tail=5).decode(errors="replace").strip()
    containers.remove(container)
    raise MissingError(
        f"MinIO is not ready: {seen}; its last words: {words}", remedy="digits clean --all, then run again"
    )

"""The predictor container: it follows the ledger, serves on between runs, and listens on this machine only."""

from __future__ import annotations

import json
from typing import Any

from backends.docker import containers, images, minio
from backends.process.predictor import free_port
from digits.files import sha256_of
from digits.settings import Settings
from digits.store import get_scheme

ALIAS, HTTP, GRPC = "predictor", 8080, 8081
INSIDE = f"http://{ALIAS}:{HTTP}"
STOP_SECONDS = 35  # a little more than the predictor's own grace
_WORLD_LABEL = "org.digits.world"
_ATTEMPTS = 3


def running(client: Any, settings: Settings) -> Any | None:
    """The predictor container of this installation, if it runs."""
    return next((c for c in containers.ours(client, settings, "predictor") if c.status == "running"), None)


def url(container: Any) -> str:
    """The address at which this machine reaches the predictor."""
    return f"http://127.0.0.1:{containers.published(container, HTTP)}"


def ensure(client: Any, settings: Settings, tell: images.Tell) -> Any:
    """The running predictor on the present image, store and ports, started if there is none. It may not be ready yet.

    Of a port that was taken when it started, another one does, for as long as the same is asked for.
    """
    image = images.ensure(client, settings, "predictor", tell)
    environment = _environment(settings)
    ports = (settings.port, settings.grpc_port)
    world = sha256_of(json.dumps([image, environment, ports], sort_keys=True).encode())[:12]
    for found in containers.ours(client, settings, "predictor"):
        if found.status == "running" and found.labels.get(_WORLD_LABEL) == world:
            return found
        containers.remove(found, grace_seconds=STOP_SECONDS if found.status == "running" else 0)
    return _start(client, settings, image, environment, world)


def _environment(settings: Settings) -> dict[str, str]:
    """What the predictor is told: how to reach the store, and nothing else."""
    reached = minio.inside(settings)
    wanted = ("DIGITS_STORE", *get_scheme(reached.store).variables)
    everything = reached.environ()
    return {name: everything[name] for name in wanted} | {"DIGITS_HOME": "/tmp/digits"}  # noqa: S108 # in there


def _start(client: Any, settings: Settings, image: str, environment: dict[str, str], world: str) -> Any:
    from docker.errors import APIError

    network = containers.network(client, settings)
    wanted = {HTTP: settings.port, GRPC: settings.grpc_port}
    for attempt in range(_ATTEMPTS):
        ports = {f"{inner}/tcp": ("127.0.0.1", free_port(outer)) for inner, outer in wanted.items()}
        with containers.errors("starting the predictor"):
            made = client.containers.create(
                image,
                environment=environment,
                labels=containers.labels(settings, "predictor", **{_WORLD_LABEL: world}),
                ports=ports,
                network=network,
                networking_config={network: client.api.create_endpoint_config(aliases=[ALIAS])},
                read_only=True,
                tmpfs={"/tmp": "mode=1777,size=512m"},  # noqa: S108 # in there
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
            )
            try:
                made.start()
            except APIError as exc:
                containers.remove(made)
                # Somebody was faster at the port that was free a moment ago.
                if ("allocated" not in str(exc) and "in use" not in str(exc)) or attempt == _ATTEMPTS - 1:
                    raise
                continue
            made.reload()
            return made
    raise AssertionError("unreachable")

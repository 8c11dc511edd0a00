"""The predictor container. It follows the ledger, keeps running between runs, and listens on 127.0.0.1 only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backends.base import Report, report_replaced
from backends.docker import containers, images, minio
from backends.ports import free_port
from digits.errors import mask_address
from digits.files import canonical_json, sha256_of
from digits.settings import Settings
from digits.store import SEEN, get_scheme
from digits.tasks.task import BUILT_IN

ALIAS, HTTP, GRPC = "predictor", 8080, 8081
HOME, KEYS = "/tmp/digits", "/etc/digits/trusted-keys"  # noqa: S108 # of the container
STOP_SECONDS = 35  # a little more than the predictor takes to answer the requests in flight
MAX_ATTEMPTS = 3
_FINGERPRINT_LABEL, _STORE_LABEL = "org.digits.fingerprint", "org.digits.store"


def role(settings: Settings) -> str:
    """Return the role of the predictor of the settings' task, which is also its name on our network."""
    name = settings.declaration.name
    return ALIAS if name == BUILT_IN else f"{ALIAS}-{name}"


def container_url(settings: Settings) -> str:
    """Return the predictor's address for containers on our network."""
    return f"http://{role(settings)}:{HTTP}"


def running(client: Any, settings: Settings) -> Any | None:
    """Return the predictor container of this installation, if it runs."""
    return next(
        (c for c in containers.list_containers(client, settings, role(settings)) if c.status == "running"), None
    )


def url(container: Any) -> str:
    """Return the address at which this machine reaches the predictor."""
    return f"http://127.0.0.1:{containers.published(container, HTTP)}"


def ensure(client: Any, settings: Settings, report: Report) -> Any:
    """Return the predictor container; start it if there is none for the current image, store and ports.

    It may not be ready yet. If a requested port is in use at the start, another one is used until the settings change.
    """
    image = images.ensure_image(client, settings, "predictor", report)
    environment = _environment(settings)
    ports = (settings.port, settings.grpc_port)
    fingerprint = sha256_of(canonical_json([image, environment, ports, settings.trusted_keys]))[:12]
    for container in containers.list_containers(client, settings, role(settings)):
        if container.status == "running":
            report_replaced(report, settings, container.labels.get(_STORE_LABEL, ""))
        current = container.status == "running" and container.labels.get(_FINGERPRINT_LABEL) == fingerprint
        if current and containers.is_attached(client, settings, container, role(settings)):
            return container
        containers.remove(container, grace_seconds=STOP_SECONDS if container.status == "running" else 0)
    return _start(client, settings, image, environment, fingerprint)


def _environment(settings: Settings) -> dict[str, str]:
    """Return the variables of the container: the store's, the task, and the place of the trusted keys."""
    inside = minio.container_settings(settings)
    values = inside.environ()
    names = ("DIGITS_STORE", *get_scheme(inside.store).variables)
    task = settings.declaration.of_model().text()  # a run's parameters do not concern the predictor
    variables = {name: values[name] for name in names} | {"DIGITS_HOME": HOME, "DIGITS_TASK": task}
    return variables | ({"DIGITS_TRUSTED_KEYS": KEYS} if settings.trusted_keys else {})


def _volumes(client: Any, settings: Settings) -> dict[str, dict[str, str]]:
    """Return the mounts: the trusted keys, and the newest ledger entry that this machine has seen."""
    if not settings.trusted_keys:
        return {}
    seen = (settings.home / SEEN).parent
    seen.mkdir(parents=True, exist_ok=True)  # else the engine would create it, as root
    mode = f"ro{containers.relabel(containers.security_options(client))}"
    places = {settings.trusted_keys: KEYS, str(seen): str(Path(HOME, SEEN).parent)}
    return {outside: {"bind": inside, "mode": mode} for outside, inside in places.items()}


def _start(client: Any, settings: Settings, image: str, environment: dict[str, str], fingerprint: str) -> Any:
    from docker.errors import APIError

    network = containers.ensure_network(client, settings)
    requested = {HTTP: settings.port, GRPC: settings.grpc_port}
    for attempt in range(MAX_ATTEMPTS):
        ports = {f"{inner}/tcp": ("127.0.0.1", free_port(outer)) for inner, outer in requested.items()}
        with containers.errors("starting the predictor"):
            container = client.containers.create(
                image,
                environment=environment,
                labels=containers.labels(
                    settings,
                    role(settings),
                    **{_FINGERPRINT_LABEL: fingerprint, _STORE_LABEL: mask_address(settings.store)},
                ),
                ports=ports,
                network=network,
                volumes=_volumes(client, settings),
                networking_config={network: client.api.create_endpoint_config(aliases=[role(settings)])},
                tmpfs={"/tmp": "mode=1777,size=512m"},  # noqa: S108 # of the container
                **containers.RESTRICTED,
            )
            try:
                container.start()
            except APIError as exc:
                containers.remove(container)
                # Another program may have taken the port since `free_port` found it free.
                if ("allocated" not in str(exc) and "in use" not in str(exc)) or attempt == MAX_ATTEMPTS - 1:
                    raise
                continue
            container.reload()
            return container
    raise AssertionError("unreachable")

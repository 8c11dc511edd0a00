"""The checks that `digits acceptance` makes in a pod, which has image, settings, credentials and network of a step.

`digits doctor` checks MLflow and the keys by the same functions on this machine. `python -m digits.pod_checks` writes
one JSON object per line: {"probe", and the fields of a Finding}.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import click

from digits.errors import MissingError
from digits.findings import Finding, start_check
from digits.http import request
from digits.settings import Settings
from digits.store import get_scheme, open_store
from digits.store.trial import try_store
from digits.variables import sqlite_file

CONNECT_SECONDS = 5.0
CLUSTER_NAME = "kubernetes.default.svc"  # resolved by each cluster's DNS
PORTS = {"http": 80, "https": 443}
POLICY = "allow the egress in a NetworkPolicy of the namespace: manifests/base/network-policies.yaml"


def check_dns() -> str:
    """Check that the cluster's DNS answers."""
    try:
        return f"{CLUSTER_NAME} is {socket.gethostbyname(CLUSTER_NAME)}"
    except OSError as exc:
        raise MissingError(f"the cluster's DNS does not resolve {CLUSTER_NAME}: {exc}", remedy=POLICY) from exc


def host_and_port(address: str) -> tuple[str, int]:
    """Return the host of an address, whose scheme is http if it has none, and its port, by default the scheme's."""
    parts = urlsplit(address if "://" in address else f"http://{address}")
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, 80)


def check_connection(address: str) -> str:
    """Check that packets to the host of an address are answered; a refused connection is an answer.

    A name that does not resolve is reported by the check that uses it.
    """
    host, port = host_and_port(address)
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except TimeoutError as exc:
        raise MissingError(f"{host}:{port} does not answer within {CONNECT_SECONDS:.0f} s", remedy=POLICY) from exc
    except OSError as exc:
        return f"{host}:{port}: {exc.strerror or exc}"
    return f"{host}:{port} answers"


def check_store(settings: Settings) -> Finding:
    """Check that the steps' store accepts, lists, returns and deletes an object."""
    if not get_scheme(settings.store).remote:
        raise MissingError(
            f"the steps' store is {settings.store}, which no other pod reaches",
            remedy="set DIGITS_STORE=s3://… in the ConfigMap of the namespace; see manifests/overlays/kubeflow",
        )
    return try_store(open_store(settings))


def check_mlflow(settings: Settings) -> str | Finding:
    """Check that MLflow answers if its database exists already, with credentials if MLflow's client is installed."""
    if not settings.tracking_uri:
        return Finding("mlflow", None, "MLFLOW_TRACKING_URI is not set, so that no MLflow run is recorded")
    file = sqlite_file(settings.tracking_uri)
    if file and not file.exists():
        return f"{settings.tracking_uri} (the first run creates it)"
    if importlib.util.find_spec("mlflow"):
        from digits.release import mlflow_client

        mlflow_client.check_connection(settings)
        return settings.tracking_uri
    try:
        answer = request(f"{settings.tracking_uri.rstrip('/')}/health")
    except OSError as exc:
        raise MissingError(f"MLflow at {settings.tracking_uri}: {exc}", remedy="check MLFLOW_TRACKING_URI") from exc
    if answer.status != 200:
        raise MissingError(
            f"MLflow at {settings.tracking_uri}: HTTP {answer.status}", remedy="check MLFLOW_TRACKING_URI"
        )
    return f"{settings.tracking_uri} answers; credentials are not checked, because this image has no MLflow"


def check_signatures(settings: Settings) -> str | Finding:
    """Check the keys that sign and that are trusted. Return them, or that releases are unsigned."""
    from digits.release import signatures
    from digits.store import Trust

    if not settings.signing_key and not settings.trusted_keys:
        return Finding("signatures", None, "releases are unsigned", "digits keys new NAME")
    if settings.signing_key:
        own = signatures.signing_key(Trust(settings.trusted_keys, settings.signing_key))
        assert own is not None  # noqa: S101 # DIGITS_SIGNING_KEY is set
        signer = f"signed by key {signatures.fingerprint(own.public_key())[: signatures.SHOWN]}"
    else:
        signer = "nothing is signed here (DIGITS_SIGNING_KEY)"
    if not settings.trusted_keys:
        return f"{signer}; accepted: all, also unsigned (DIGITS_TRUSTED_KEYS)"
    accepted = [key[: signatures.SHOWN] for key in signatures.read_keys(settings.trusted_keys)]
    return f"{signer}; accepted: {', '.join(accepted)}"


def main() -> None:
    """Make all checks, each with a deadline, and write their findings."""
    settings = Settings.load(dotenv=None)
    connections = [address for address in (settings.minio_endpoint, settings.tracking_uri) if address]
    checks: list[tuple[str, str, Callable[[], str | Finding]]] = [
        ("policy", "dns", check_dns),
        *(("policy", "connection", lambda address=address: check_connection(address)) for address in connections),
        ("s3", "store", lambda: check_store(settings)),
        ("mlflow", "mlflow", lambda: check_mlflow(settings)),
        ("signatures", "signatures", lambda: check_signatures(settings)),
    ]
    for probe, name, check in checks:
        click.echo(json.dumps({"probe": probe, **dataclasses.asdict(start_check(name, True, check)())}))


if __name__ == "__main__":
    main()

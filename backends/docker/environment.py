"""The environment of a step's container: its variables, and the addresses and folders that it can reach.

A step gets only the variables that it reads, because other settings may be credentials.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from backends.docker import minio, predictor
from backends.ports import LOCAL_HOSTS
from digits import events
from digits.errors import UsageError
from digits.files import folder_from_url, real_path
from digits.release import mlflow_client
from digits.settings import ENDPOINT_VARIABLE, STEP_VARIABLES, Settings
from digits.store import get_scheme, schemes
from digits.variables import sqlite_file

# Variables that are passed from the environment of the engine's process.
PASSED = (events.VARIABLE, *mlflow_client.CREDENTIALS, ENDPOINT_VARIABLE, "TF_CPP_MIN_LOG_LEVEL", "PYTHONUNBUFFERED")
LINKED = ("cache", "data", "mlartifacts", "mlflow.db", "pipeline", "runs")  # in DIGITS_HOME; steps use them
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def local_host(address: str) -> str:
    """Return the host of an address if it means the local machine (localhost), else ''. A scheme is optional."""
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:  # not an address; reported where it is used
        return ""
    return host if host in LOCAL_HOSTS else ""


def check_reachable(settings: Settings, name: str) -> None:
    """Raise UsageError if a setting names an address of this machine, which a container would take for its own."""
    value = getattr(settings, name)
    if (name != "data" or "://" in value) and (host := local_host(value)):
        variable = next(f.metadata["name"] for f in dataclasses.fields(Settings) if f.name == name)
        raise UsageError(
            f"{variable}={value}: inside a container {host} is the container, not this machine",
            remedy=f"set {variable} to an address that both reach, or unset it",
        )


def check_mountable(settings: Settings) -> None:
    """Raise UsageError if a path that containers mount has a colon, at which the engine would divide it."""
    paths = {
        "DIGITS_HOME": settings.home,
        "DIGITS_DATA": data_folder(settings.data),
        "MLFLOW_TRACKING_URI": sqlite_file(settings.tracking_uri),
        "DIGITS_TRUSTED_KEYS": settings.trusted_keys,
        "DIGITS_SIGNING_KEY": settings.signing_key,
    }
    linked = [("a link in DIGITS_HOME", folder) for folder in step_folders(settings)]
    for variable, path in [*paths.items(), *linked]:
        if ":" in str(path):
            raise UsageError(
                f"{variable}: {path} has a colon, so a container cannot mount it",
                remedy="use another path, or --backend process",
            )


def data_folder(data: str) -> str:
    """Return the folder that DIGITS_DATA names, '' if it names none.

    It has no `..` and no links, because a container sees only the folder itself.
    """
    is_folder = data and urlsplit(data).scheme in {"", "file"}
    return str(real_path(folder_from_url(data, "DIGITS_DATA"))) if is_folder else ""


def step_folders(settings: Settings) -> list[Path]:
    """Return the folders that steps write in, which their containers mount: the home, and others that it refers to.

    Folders in the home may be links to another disk, and MLflow's database may be elsewhere.
    """
    database = sqlite_file(settings.tracking_uri)
    places = [settings.home / name for name in LINKED] + ([database] if database else [])
    real = [place if place.is_dir() else place.parent for place in map(real_path, places)]
    outside = {place for place in real if place.is_dir() and not place.is_relative_to(settings.home)}
    return [settings.home, *sorted(outside)]


def step_environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a step's container, from the steps' settings and the engine's environment."""
    values = settings.environ()
    used = get_scheme(settings.store).variables
    other_stores = {name for scheme in schemes().values() for name in scheme.variables if name not in used}
    return {
        **{name: values[name] for name in STEP_VARIABLES if name not in other_stores},
        **{name: environ[name] for name in PASSED if name in environ},
        **_proxies(settings, environ),
        "PYTHONSAFEPATH": "1",
        "HOME": "/tmp",  # noqa: S108 # of the container
    }


def _proxies(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy variables that also work in a container, with our own containers exempt from the proxies."""
    proxies = {name: environ[name] for name in PROXIES if environ.get(name) and not local_host(environ[name])}
    if not proxies:
        return {}  # then Docker's own configuration applies
    direct = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    hosts = ",".join(filter(None, [direct, minio.ALIAS, predictor.role(settings)]))
    return proxies | {"NO_PROXY": hosts, "no_proxy": hosts}

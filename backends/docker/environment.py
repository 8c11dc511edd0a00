"""What a step's container is told: what steps read, and no more. Other settings may hold secrets."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from backends.docker import minio, predictor
from digits import events
from digits.files import WRITER_VARIABLE
from digits.release import mlflow_log
from digits.settings import ENDPOINT_VARIABLE, STEP_VARIABLES, Settings
from digits.store import get_scheme, schemes

# Of the engine's environment.
PASSED = (
    events.VARIABLE,
    WRITER_VARIABLE,
    mlflow_log.RUN_VARIABLE,
    *mlflow_log.CREDENTIALS,
    ENDPOINT_VARIABLE,
    "TF_CPP_MIN_LOG_LEVEL",
    "PYTHONUNBUFFERED",
)
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")


def local_host(address: str) -> str:
    """The name by which an address, with or without a scheme, means each machine itself; '' where it does not."""
    try:
        host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:  # no address: refused where it is asked
        return ""
    return host if host in {"localhost", "127.0.0.1", "::1"} else ""


def of_step(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a step's container, from the steps' settings and the environment of the engine."""
    everything = settings.environ()
    used = get_scheme(settings.store).variables
    other_stores = {name for scheme in schemes().values() for name in scheme.variables if name not in used}
    return {
        **{name: everything[name] for name in STEP_VARIABLES if name not in other_stores},
        **{name: environ[name] for name in PASSED if name in environ},
        **_proxies(environ),
        "HOME": "/tmp",  # noqa: S108 # in there
    }


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies of this machine that a container reaches too, and what is asked without them."""
    found = {name: environ[name] for name in PROXIES if environ.get(name) and not local_host(environ[name])}
    if not found:
        return {}  # then those of Docker's own configuration hold
    direct = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    inside = ",".join(filter(None, [direct, minio.ALIAS, predictor.ALIAS]))
    return found | {"NO_PROXY": inside, "no_proxy": inside}

"""What a step's container is told: what steps read, and no more. Other settings may hold secrets."""

from __future__ import annotations

from collections.abc import Mapping

from digits import deployment, events, tracking
from digits.settings import Settings

SETTINGS = (
    "DIGITS_HOME",
    "DIGITS_DATA",
    "DIGITS_STORE",
    "DIGITS_DEPLOYER",
    "MINIO_ENDPOINT",
    "MINIO_ACCESS_KEY",
    "MINIO_SECRET_KEY",
    "MLFLOW_TRACKING_URI",
    "K8S_NAMESPACE",
)
# Of the engine's environment.
PASSED = (
    events.VARIABLE,
    tracking.RUN_VARIABLE,
    *tracking.CREDENTIALS,
    deployment.ENDPOINT_VARIABLE,
    "TF_CPP_MIN_LOG_LEVEL",
    "PYTHONUNBUFFERED",
)


def of_step(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a step's container, from the steps' settings and the environment of the engine."""
    everything = settings.environ()
    return {
        **{name: everything[name] for name in SETTINGS},
        **{name: environ[name] for name in PASSED if name in environ},
        "HOME": "/tmp",  # noqa: S108 # in there
    }

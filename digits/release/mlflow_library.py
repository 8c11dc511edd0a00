"""MLflow, configured: import `mlflow` from here. The import takes seconds."""

from __future__ import annotations

import logging
import os

from digits.answers import limit_requests

__all__ = ["configure", "mlflow"]

DEFAULTS = {
    # Requests to a server fail early. SQLite connections are not kept; MLflow waits 20 s for a locked database.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # it could make a run wait for hours
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def configure() -> None:
    """Set MLflow's variables and loggers. Variables of the user stay, except the one for printed addresses."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    # At the end of a run MLflow prints the server's address, with its password, into the step's log.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for library in ("alembic", "mlflow"):
        logging.getLogger(library).setLevel(logging.WARNING)
    limit_requests()


configure()

import mlflow  # noqa: E402 # it reads the variables

"""MLflow, configured: import `mlflow` from here. The import takes seconds, and sets variables of this process."""

from __future__ import annotations

import logging
import os

from digits.answers import limit_requests

__all__ = ["mlflow"]

DEFAULTS = {
    # Requests to a server fail early. SQLite connections are not kept; MLflow waits 20 s for a locked database.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",  # it could make a run wait for hours
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
# At the end of a run MLflow prints the server's address, with its password, into the step's log.
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
for _library in ("alembic", "mlflow"):
    logging.getLogger(_library).setLevel(logging.WARNING)
limit_requests()

import mlflow  # noqa: E402 # it reads the variables

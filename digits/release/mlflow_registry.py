"""MLflow's model registry: a registered version for each release, and aliases that mirror the promotion ledger.

All functions raise MissingError as `mlflow_client.connect`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits.errors import ReleaseError
from digits.release import ledger
from digits.release.mlflow_client import connect
from digits.signature import IMAGE, PROBABILITIES, Tensor

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from digits.settings import Settings
    from digits.store import ObjectStore

MODEL = "digits"
ALIAS_ATTEMPTS = 3


def register(settings: Settings, run_id: str, onnx: Path, manifest: dict[str, Any]) -> str:
    """Log the model with its signature to a run and register it. Return the number of the registered version."""
    import mlflow
    import numpy as np
    import onnx as onnx_library
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(tensor: Tensor) -> Any:
        return Schema([TensorSpec(np.dtype(tensor.dtype), tensor.shape, tensor.name)])

    model = onnx_library.load(onnx)
    with connect(settings) as client:
        with mlflow.start_run(run_id=run_id):
            info = mlflow.onnx.log_model(
                model,
                name="model",
                signature=ModelSignature(schema(IMAGE), schema(PROBABILITIES)),
                registered_model_name=MODEL,
                pip_requirements=["onnxruntime", "onnx", "numpy"],
            )
        number = str(info.registered_model_version)
        for key in ("version", "digest", "code"):
            client.set_model_version_tag(MODEL, number, key, manifest[key])
    return number


def find_registered(settings: Settings, release: str) -> str:
    """Return the number under which a release is registered, '' if it is not."""
    with connect(settings) as client:
        versions = client.search_model_versions(f"name = '{MODEL}' and tag.version = '{release}'")
    return str(versions[0].version) if versions else ""


def logged_manifest(settings: Settings, run_id: str, number: str) -> dict[str, Any]:
    """Return the manifest that `run_id` logged, or else the one of the run that registered version `number`.

    Raises:
        ReleaseError: there is none, or it is damaged.
    """
    with tempfile.TemporaryDirectory() as folder, connect(settings) as client:
        for run in (run_id, client.get_model_version(MODEL, number).run_id):
            if "manifest.json" in {file.path for file in client.list_artifacts(run)}:
                content = Path(client.download_artifacts(run, "manifest.json", folder)).read_bytes()
                break
        else:
            raise ReleaseError(f"MLflow's run {run} has no manifest.json; expected the one of the registered release")
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as exc:
        raise ReleaseError(
            f"manifest.json of MLflow's run {run} is damaged; expected the release's manifest: {exc}"
        ) from exc


def mirror_ledger(settings: Settings, store: ObjectStore) -> None:
    """Set the aliases `champion` and `previous` as in the ledger. Skip releases that are not in this registry."""
    for alias, release in (("champion", ledger.champion(store)), ("previous", ledger.previous(store))):
        number = find_registered(settings, release) if release else ""
        with connect(settings) as client:
            if number:
                _set_alias(client, alias, number)
            elif not release:
                client.delete_registered_model_alias(MODEL, alias)


def _set_alias(client: MlflowClient, alias: str, number: str) -> None:
    """Set an alias. MLflow reads, then inserts, which fails if another run inserts in between: then retry."""
    from mlflow.exceptions import MlflowException

    for attempt in range(1, ALIAS_ATTEMPTS + 1):
        try:
            client.set_registered_model_alias(MODEL, alias, number)
        except MlflowException as exc:
            if attempt == ALIAS_ATTEMPTS or "unique constraint" not in str(exc).lower():
                raise
        else:
            return

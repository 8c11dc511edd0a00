"""MLflow's model registry: a registered version for each release, and aliases that mirror the promotion ledger.

All functions raise MissingError as `mlflow_client.connect`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits import events
from digits.errors import MissingError, UsageError
from digits.release import ledger, releases
from digits.release.mlflow_client import MISSING, OWNER, NoDatabase, connect, if_recorded
from digits.settings import Settings
from digits.signature import image_tensor, probabilities_tensor

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.types.schema import Schema

    from digits.store import ObjectStore

ALIAS_ATTEMPTS = 3
# Entries of a manifest that are tags of its registered version. The last one is that by which others find the version.
VERSION_TAGS = ("digest", "code", "version")


@if_recorded
def ensure_model(settings: Settings) -> None:
    """Create the registered model if there is none.

    Raises:
        UsageError: that name belongs to another project.
        MissingError: MLflow has neither the model nor room for one of its name, because its database is damaged.
    """
    from mlflow.exceptions import MlflowException

    with connect(settings, create=True) as client:
        try:
            client.create_registered_model(settings.mlflow_model, tags={OWNER: "digits"})
        except MlflowException as exc:
            if exc.error_code not in {"RESOURCE_ALREADY_EXISTS", MISSING}:  # MISSING: of a model that is there in parts
                raise
        if _own_model(client, settings) is None:
            raise MissingError(
                f"MLflow's database is damaged: it has only parts of the registered model {settings.mlflow_model!r}",
                remedy="restore it from a backup, or move it away; digits run then makes another",
            )


@if_recorded
def check_model(settings: Settings) -> None:
    """Raise UsageError if the registered model belongs to another project."""
    with connect(settings) as client:
        _own_model(client, settings)


def _own_model(client: MlflowClient, settings: Settings) -> RegisteredModel | None:
    """Return our registered model, None if there is none. Raises UsageError if it belongs to another project."""
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(settings.mlflow_model)
    except MlflowException as exc:
        if exc.error_code != MISSING:
            raise
        return None
    if OWNER not in model.tags:
        raise UsageError(
            f"the registered model {settings.mlflow_model!r} in MLflow belongs to another project: "
            f"expected its tag {OWNER}",
            remedy="DIGITS_MLFLOW_MODEL=NAME, with a name that is not in use there",
        )
    return model


def register(settings: Settings, run_id: str, onnx: Path, manifest: dict[str, Any]) -> str:
    """Log the model with its signature to a run and register it. Return the number of the registered version.

    The registered model exists already (`ensure_model`). The run is not ended.
    """
    import mlflow
    import onnx as onnx_library
    from mlflow.utils import requirements_utils

    # MLflow would read the file lists of all installed packages, to warn about versions. We require no versions.
    requirements_utils._MODULES_TO_PACKAGES = {}  # noqa: SLF001 # there is no setting for it

    with connect(settings) as client:
        mlflow.start_run(run_id=run_id)
        try:
            info = mlflow.onnx.log_model(
                onnx_library.load(onnx),
                name="model",
                signature=mlflow.models.ModelSignature(**schemas_of(manifest)),
                registered_model_name=settings.mlflow_model,
                pip_requirements=["onnxruntime", "onnx", "numpy"],
                save_as_external_data=False,  # then the file has the same content as the release's
            )
        finally:
            mlflow.end_run("RUNNING")  # its creator sets the last status
        number = str(info.registered_model_version)
        for key in VERSION_TAGS:
            client.set_model_version_tag(settings.mlflow_model, number, key, manifest[key])
    return number


def schemas_of(manifest: dict[str, Any]) -> dict[str, Schema]:
    """Return the inputs and outputs of a release's model in MLflow's types."""
    import numpy as np
    from mlflow.types.schema import Schema, TensorSpec

    task = releases.task_of(manifest)
    tensors = {"inputs": image_tensor(task), "outputs": probabilities_tensor(task)}
    return {
        name: Schema([TensorSpec(np.dtype(tensor.dtype), tensor.shape, tensor.name)])
        for name, tensor in tensors.items()
    }


def find_registered(settings: Settings, release: str) -> str:
    """Return the number under which a release is registered, '' if it is not."""
    with contextlib.suppress(NoDatabase), connect(settings) as client:
        return next((str(version.version) for version in registered_versions(client, settings, release)), "")
    return ""


def registered_versions(client: MlflowClient, settings: Settings, release: str) -> list[ModelVersion]:
    """Return the registered versions of a release, the newest first."""
    found = client.search_model_versions(f"name = '{settings.mlflow_model}' and tag.version = '{release}'")
    return sorted(found, key=lambda version: -int(version.version))


@if_recorded
def mirror_ledger(settings: Settings, store: ObjectStore) -> bool:
    """Set the aliases `champion` and `previous` as in the ledger. Return whether one was different.

    Releases that are not in this registry are skipped; without a database all are. An alias that names a release of
    another store stays, because it belongs to another installation.
    """
    with contextlib.suppress(NoDatabase), connect(settings) as client:
        model = _own_model(client, settings)
        if model is None:
            return False
        changed = False
        for alias, release in (("champion", ledger.champion(store)), ("previous", ledger.previous(store))):
            if (number := model.aliases.get(alias)) and not _is_in(store, client, model.name, str(number)):
                text = f"MLflow's alias {alias} names a release of another store and stays; DIGITS_MLFLOW_MODEL=NAME"
                events.emit("progress", "publish", text=f"{text} gives this store a registered model of its own")
            elif versions := registered_versions(client, settings, release) if release else []:
                if number is None or str(number) != str(versions[0].version):
                    _set_alias(client, model.name, alias, str(versions[0].version))
                    changed = True
            elif not release and number:
                client.delete_registered_model_alias(model.name, alias)
                changed = True
        return changed
    return False


def _is_in(store: ObjectStore, client: MlflowClient, model: str, number: str) -> bool:
    """Return whether a registered version is of a release that a store has, or had: its ledger has an entry for it.

    Also if the version does not exist any more.
    """
    from mlflow.exceptions import MlflowException

    try:
        release = client.get_model_version(model, number).tags.get("version", "")
    except MlflowException as exc:
        if exc.error_code != MISSING:
            raise
        return True
    return bool(release) and (
        store.exists(releases.release_prefix(store, release) + releases.MANIFEST)
        or any(entry.version == release for entry in ledger.entries(store))
    )


def _set_alias(client: MlflowClient, model: str, alias: str, number: str) -> None:
    """Set an alias. MLflow reads, then inserts, which fails if another run inserts in between: then retry."""
    from mlflow.exceptions import MlflowException

    for attempt in range(1, ALIAS_ATTEMPTS + 1):
        try:
            client.set_registered_model_alias(model, alias, number)
        except MlflowException as exc:
            if attempt == ALIAS_ATTEMPTS or "unique constraint" not in str(exc).lower():
                raise
        else:
            return

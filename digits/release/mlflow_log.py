"""MLflow: one run for each pipeline run, and a registered model whose aliases mirror the promotion ledger."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits.errors import DigitsError, MissingError, ReleaseError, mask_url
from digits.files import whole_file
from digits.release import ledger
from digits.signature import IMAGE, PROBABILITIES

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from digits.settings import Settings
    from digits.store import ObjectStore

MODEL = "digits"
RUN_VARIABLE = "MLFLOW_RUN_ID"  # set by our backends and by Kubeflow Pipelines' own MLflow integration
# What a server that asks for a name or a token is shown; MLflow's own client reads them.
CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
KILLED, FAILED, FINISHED = "KILLED", "FAILED", "FINISHED"


def client(settings: Settings) -> MlflowClient:
    """A client of the configured store.

    Raises:
        MissingError: the server does not answer, or the database is of another MLflow version or locked.
    """
    # Half a minute for another writer of the SQLite file; few and short tries for a server.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    # At the end of a run MLflow prints the server's address, with its password, into the step's log.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    for library in ("alembic", "mlflow"):
        logging.getLogger(library).setLevel(logging.WARNING)
    import mlflow

    with _usable(settings):
        if settings.tracking_uri.startswith("sqlite:"):
            _make_database(Path(settings.tracking_uri.removeprefix("sqlite:///").split("?")[0]))
        mlflow.set_tracking_uri(settings.tracking_uri)
        return mlflow.MlflowClient(settings.tracking_uri)


def _make_database(path: Path) -> None:
    """Make MLflow's database whole or not at all: of one that was killed half-way, MLflow never recovers."""
    if path.exists():
        return
    import mlflow

    # If another program has created it meanwhile, that one is used.
    with contextlib.suppress(FileExistsError), whole_file(path, replace=False) as part:
        try:
            mlflow.MlflowClient(f"sqlite:///{part.name}").search_experiments(max_results=1)
        finally:
            Path(f"{part.name}-journal").unlink(missing_ok=True)


@contextlib.contextmanager
def _usable(settings: Settings) -> Iterator[None]:
    """Turn MLflow's and its database's errors into MissingError; a full disk, which its artifacts find, stays one."""
    try:
        yield
    except DigitsError:
        raise
    except Exception as exc:
        if isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise
        # Not chained: MLflow's own words hold the password, and whoever prints this would print its cause too.
        raise _unusable(settings, exc) from None


def start_run(settings: Settings, experiment: str, name: str, tags: dict[str, str]) -> str:
    """Start an MLflow run in `experiment` (made if there is none); returns its id. Raises MissingError as `client`."""
    with _usable(settings):
        mlflow_client = client(settings)
        found = mlflow_client.get_experiment_by_name(experiment)
        if found is None:
            # Artifacts lie beside the database, not in whichever folder a step happens to run in.
            place = (settings.home / "mlartifacts").as_uri() if settings.tracking_uri.startswith("sqlite:") else None
            experiment_id = mlflow_client.create_experiment(experiment, artifact_location=place)
        elif found.lifecycle_stage == "deleted":
            mlflow_client.restore_experiment(found.experiment_id)
            experiment_id = found.experiment_id
        else:
            experiment_id = found.experiment_id
        return str(mlflow_client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)


def check(settings: Settings) -> None:
    """Ask the configured store for something. Raises MissingError as `client`."""
    with _usable(settings):
        client(settings).search_experiments(max_results=1)


@contextlib.contextmanager
def run_of(settings: Settings, experiment: str, name: str) -> Iterator[str]:
    """The MLflow run to log to: MLFLOW_RUN_ID, which whoever made it ends, else one as long as this block."""
    if given := os.environ.get(RUN_VARIABLE):
        yield given
        return
    run_id = start_run(settings, experiment, name, {})
    try:
        yield run_id
    except BaseException:
        end_run(settings, run_id, FAILED)
        raise
    end_run(settings, run_id, FINISHED)


def end_run(settings: Settings, run_id: str, status: str) -> None:
    """Give an MLflow run its last status: FINISHED, FAILED or KILLED. Raises MissingError as `client`."""
    with _usable(settings):
        client(settings).set_terminated(run_id, status)


def name_release(settings: Settings, run_id: str, version: str, digest: str) -> None:
    """Note on a run which release it makes. Raises MissingError as `client`."""
    with _usable(settings):
        mlflow_client = client(settings)
        mlflow_client.set_tag(run_id, "release", version)
        mlflow_client.set_tag(run_id, "release_digest", digest)


def log_training(
    settings: Settings,
    run_id: str,
    *,
    parameters: dict[str, Any],
    history: list[dict[str, float]],
    metrics: dict[str, float],
    tags: dict[str, str],
    folder: Path,
) -> None:
    """Log parameters, per-epoch metrics, final metrics, tags and the files of `folder`."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    points = [
        Metric(key, float(value), now, int(row["epoch"]))
        for row in history
        for key, value in row.items()
        if key != "epoch"
    ]
    points += [Metric(key, float(value), now, 0) for key, value in metrics.items()]
    with _usable(settings):
        mlflow_client = client(settings)
        mlflow_client.log_batch(
            run_id,
            metrics=points,
            params=[Param(key, str(value)) for key, value in parameters.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        mlflow_client.log_artifacts(run_id, str(folder))


def log_decision(settings: Settings, run_id: str, *, promoted: bool, why: str, report: str) -> None:
    """Note on a run what the gate decided, and keep the report, which shows it. Raises MissingError as `client`."""
    with _usable(settings):
        mlflow_client = client(settings)
        mlflow_client.set_tag(run_id, "promoted", str(promoted))
        mlflow_client.set_tag(run_id, "decision", why)
        mlflow_client.log_text(run_id, report, "report.html")


def register(settings: Settings, run_id: str, onnx: Path, manifest: dict[str, Any]) -> str:
    """Log the model with its signature to the run and register it. Returns the registered version's number."""
    import mlflow
    import numpy as np
    import onnx as onnx_library
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    client(settings)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype(IMAGE.dtype), IMAGE.shape, IMAGE.name)]),
        Schema([TensorSpec(np.dtype(PROBABILITIES.dtype), PROBABILITIES.shape, PROBABILITIES.name)]),
    )
    model = onnx_library.load(onnx)
    with _usable(settings):
        with mlflow.start_run(run_id=run_id):
            info = mlflow.onnx.log_model(
                model,
                name="model",
                signature=signature,
                registered_model_name=MODEL,
                pip_requirements=["onnxruntime", "onnx", "numpy"],
            )
        version = str(info.registered_model_version)
        mlflow_client = client(settings)
        for key in ("version", "digest", "code"):
            mlflow_client.set_model_version_tag(MODEL, version, key, manifest[key])
    return version


def registered(settings: Settings, release: str) -> str:
    """The number under which a release is registered, '' where it is not."""
    with _usable(settings):
        found = client(settings).search_model_versions(f"name = '{MODEL}' and tag.version = '{release}'")
    return str(found[0].version) if found else ""


def logged_manifest(settings: Settings, run_id: str, number: str) -> dict[str, Any]:
    """The release's manifest as `run_id` logged it; where that run ended before, as the one that registered `number`.

    Raises:
        ReleaseError: there is none, or it is damaged.
        MissingError: as `client`, or its artifacts cannot be had.
    """
    with tempfile.TemporaryDirectory() as folder, _usable(settings):
        mlflow_client = client(settings)
        for keeper in (run_id, mlflow_client.get_model_version(MODEL, number).run_id):
            if "manifest.json" in {file.path for file in mlflow_client.list_artifacts(keeper)}:
                content = Path(mlflow_client.download_artifacts(keeper, "manifest.json", folder)).read_bytes()
                break
        else:
            raise ReleaseError(
                f"MLflow's run {keeper} has no manifest.json; expected the one of the registered release"
            )
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError) as exc:
        raise ReleaseError(
            f"manifest.json of MLflow's run {keeper} is damaged; expected the release's manifest: {exc}"
        ) from exc


def mirror(settings: Settings, store: ObjectStore) -> None:
    """Set the aliases `champion` and `previous` as the ledger has them. Releases of another MLflow are passed over."""
    mlflow_client = client(settings)
    for alias, release in (("champion", ledger.champion(store)), ("previous", ledger.previous(store))):
        number = registered(settings, release) if release else ""
        with _usable(settings):
            if number:
                _set_alias(mlflow_client, alias, number)
            elif not release:
                mlflow_client.delete_registered_model_alias(MODEL, alias)


def _set_alias(mlflow_client: MlflowClient, alias: str, number: str) -> None:
    """MLflow looks whether there is the alias, then writes; another run that writes in between makes it fail."""
    from mlflow.exceptions import MlflowException

    for tries_left in (2, 1, 0):
        try:
            mlflow_client.set_registered_model_alias(MODEL, alias, number)
        except MlflowException as exc:
            if not tries_left or "unique constraint" not in str(exc).lower():
                raise
        else:
            return


def link(settings: Settings, run_id: str) -> str:
    """How to look at a run: an address for a server, a command for SQLite. Raises MissingError as `client`."""
    if settings.tracking_uri.startswith("http"):
        with _usable(settings):
            experiment = client(settings).get_run(run_id).info.experiment_id
        return f"{mask_url(settings.tracking_uri).rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"
    return f"mlflow ui --backend-store-uri {mask_url(settings.tracking_uri)}"


def _unusable(settings: Settings, exc: Exception) -> DigitsError:
    place = settings.tracking_uri
    text = mask_url(str(exc))  # before it is cut: half a password is one too
    if "out-of-date database schema" in text or "Can't locate revision" in text:
        return MissingError(
            f"the MLflow database {place} was made by another version of MLflow",
            remedy=f"copy the file, then: mlflow db upgrade {place}",
        )
    if "database is locked" in text:
        return MissingError(
            f"the MLflow database {place} is locked by another program", remedy="close it, then digits run --resume"
        )
    if "database or disk is full" in text:
        return MissingError(f"no space is left for the MLflow database {place}", remedy="free some space")
    reason = text.splitlines()[0][:200] if text else type(exc).__name__
    return MissingError(f"MLflow at {place} cannot be used: {reason}", remedy="check MLFLOW_TRACKING_URI")

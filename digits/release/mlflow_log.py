"""MLflow runs: one for each pipeline run, with parameters, metrics, files and the gate's decision.

All functions raise MissingError as `mlflow_client.connect`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from digits.errors import UsageError, mask_address
from digits.files import canonical_json, find_unwritable, real_path, sha256_of
from digits.release.mlflow_client import OWNER, artifact_folders, artifacts_address, connect, if_recorded

if TYPE_CHECKING:
    from mlflow.entities import Metric

    from digits.settings import Settings

CONFUSION, REPORT = "confusion_matrix.json", "report.html"  # logged files
LOGGED, REPORT_LOGGED = "logged_digest", "report_digest"  # tags with digests of what was logged, for `mlflow_check`
RUN_VARIABLE = "MLFLOW_RUN_ID"  # set by our backends and by Kubeflow Pipelines' own MLflow integration
DATABASES = {"sqlite", "mysql", "mssql", "postgresql"}  # schemes of MLFLOW_TRACKING_URI without a server
KILLED, FAILED, FINISHED = "KILLED", "FAILED", "FINISHED"


def start_run(
    settings: Settings, experiment: str, name: str, tags: dict[str, str], *, folders: list[Path] | None = None
) -> str:
    """Start an MLflow run in `experiment`, which is created if needed. Return the run's id.

    A deleted experiment is restored if it is one that we created, else refused by UsageError, as is an experiment whose
    files cannot be written from here: only by a server, if MLFLOW_TRACKING_URI is its database, or in another folder.
    `folders` are those in which the steps can write, None for all; a container would lose what it writes elsewhere.
    """
    is_database = urlsplit(settings.tracking_uri).scheme.partition("+")[0] in DATABASES
    with connect(settings, create=True) as client:
        existing = client.get_experiment_by_name(experiment)
        if existing is None:
            location = artifacts_address(settings) if is_database else None
            experiment_id = client.create_experiment(experiment, artifact_location=location, tags={OWNER: "digits"})
        else:
            if is_database and existing.artifact_location.startswith("mlflow-artifacts:"):
                raise UsageError(
                    f"the files of the MLflow experiment {experiment!r} are kept by a server (mlflow ui), not here",
                    remedy="--experiment NAME, with another name; or the server's address as MLFLOW_TRACKING_URI",
                )
            experiment_id = existing.experiment_id
            if existing.lifecycle_stage == "deleted":
                if OWNER not in existing.tags:
                    raise UsageError(
                        f"the MLflow experiment {experiment!r} was deleted and belongs to another project",
                        remedy="--experiment NAME, with another name",
                    )
                client.restore_experiment(experiment_id)
        for folder in artifact_folders(client.get_experiment(experiment_id).artifact_location):
            if problem := find_unwritable(folder):
                raise UsageError(
                    f"the files of the MLflow experiment {experiment!r} would be in {folder}, but {problem}",
                    remedy="correct that; or --experiment NAME, with another name",
                )
            if folders is not None and not any(real_path(folder).is_relative_to(real_path(each)) for each in folders):
                raise UsageError(
                    f"the files of the MLflow experiment {experiment!r} would be in {folder}, which the containers of "
                    "steps do not see",
                    remedy="--experiment NAME, with another name; or --backend process",
                )
        return str(client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)


def end_run(settings: Settings, run_id: str, status: str) -> None:
    """Set the final status of a run: FINISHED, FAILED or KILLED."""
    with connect(settings) as client:
        client.set_terminated(run_id, status)


@contextlib.contextmanager
def current_run(settings: Settings, experiment: str, name: str) -> Iterator[str]:
    """Yield the id of the run to log to: the one in MLFLOW_RUN_ID, or a new one; '' if there is no MLflow.

    A new run ends with the block, as FINISHED or FAILED. The run in MLFLOW_RUN_ID is ended by its creator.
    """
    run_id = os.environ.get(RUN_VARIABLE, "") if settings.tracking_uri else ""
    if run_id or not settings.tracking_uri:
        yield run_id
        return
    run_id = start_run(settings, experiment, name, {})
    try:
        yield run_id
    except BaseException:
        end_run(settings, run_id, FAILED)
        raise
    end_run(settings, run_id, FINISHED)


@if_recorded
def name_release(settings: Settings, run_id: str, version: str, digest: str) -> None:
    """Tag a run with the release that it publishes."""
    with connect(settings) as client:
        client.set_tag(run_id, "release", version)
        client.set_tag(run_id, "release_digest", digest)


@if_recorded
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
    """Log parameters, the metrics of each epoch, the final metrics, tags and the files of `folder`, with a digest."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    points = [
        Metric(key, float(value), now, int(row["epoch"]))
        for row in history
        for key, value in row.items()
        if key != "epoch"
    ]
    points += [Metric(key, float(value), now, 0) for key, value in metrics.items()]
    tags = tags | {LOGGED: digest_of(points, (folder / CONFUSION).read_bytes())}
    with connect(settings) as client:
        client.log_batch(
            run_id,
            metrics=points,
            params=[Param(key, str(value)) for key, value in parameters.items()],
            tags=[RunTag(key, value) for key, value in tags.items()],
        )
        client.log_artifacts(run_id, str(folder))


def digest_of(points: Iterable[Metric], confusion: bytes) -> str:
    """Return a digest of metrics and of the file of the confusion matrix, which a release's manifest does not have."""
    # A database returns 0.0 for -0.0.
    values = sorted({(point.key, point.step, repr(float(point.value) + 0.0)) for point in points})
    return sha256_of(canonical_json([values, sha256_of(confusion)]))


@if_recorded
def log_decision(settings: Settings, run_id: str, *, promoted: bool, why: str, report: str) -> None:
    """Tag a run with the gate's decision, and log the report, as HTML."""
    with connect(settings) as client:
        client.set_tag(run_id, "promoted", str(promoted))
        client.set_tag(run_id, "decision", why)
        client.set_tag(run_id, REPORT_LOGGED, sha256_of(report.encode()))
        client.log_text(run_id, report, REPORT)


def link(settings: Settings, run_id: str) -> str:
    """Return how to view a run: its address on a server, or the command `mlflow ui` for SQLite; '' without MLflow."""
    address = mask_address(settings.tracking_uri)
    if not address:
        return ""
    if not address.startswith("http"):
        return f"mlflow ui --backend-store-uri {address}"
    with connect(settings) as client:
        experiment = client.get_run(run_id).info.experiment_id
    return f"{address.rstrip('/')}/#/experiments/{experiment}/runs/{run_id}"

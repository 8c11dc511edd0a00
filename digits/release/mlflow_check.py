"""The check of a release in MLflow: the run that logged its training, and the registered version with its model.

All functions raise MissingError as `mlflow_client.connect`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits.errors import ReleaseError
from digits.files import parse_json, sha256_of
from digits.release.mlflow_client import MISSING, connect, first_line, if_recorded
from digits.release.mlflow_log import CONFUSION, LOGGED, REPORT, REPORT_LOGGED, digest_of
from digits.release.mlflow_registry import VERSION_TAGS, registered_versions, schemas_of
from digits.release.releases import task_of
from digits.settings import Settings

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy", "seconds")  # metrics with a value for each epoch
ARCHITECTURE = "architecture.json"
UNLOGGED = {"count", "interval"}  # entries of a manifest's metrics that are not logged

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run
    from mlflow.entities.model_registry import ModelVersion


def check_logged(settings: Settings, manifest: dict[str, Any], *, decided: bool = True) -> str:
    """Check that MLflow has a release: a run with what `publish` logs, and a registered version with its model.

    Return a sentence, also if there is no MLflow. Raises ReleaseError if something is missing or differs. Unless
    `decided`, the gate's decision and the report, which are logged last, may be missing.
    """
    if not settings.tracking_uri:
        return f"not checked: MLFLOW_TRACKING_URI is not set; the run is {manifest['mlflow_run'] or 'not recorded'}"
    with connect(settings) as client:
        versions = registered_versions(client, settings, manifest["version"])
        if not versions:
            raise ReleaseError("it is not registered in MLflow")
        newest = versions[0]
        problem: ReleaseError | None = None
        # Another store's run of the same release may have registered it, or it was registered again.
        for run_id in dict.fromkeys([manifest["mlflow_run"], *(version.run_id for version in versions)]):
            try:
                _check_run(client, run_id, manifest, decided=decided)
            except ReleaseError as exc:
                problem = problem or exc
            else:
                _check_version(client, newest, manifest)
                return f"MLflow run {run_id[:12]}, registered version {newest.version}"
        assert problem  # noqa: S101 # there is at least one run
        raise problem


@if_recorded
def logged_manifest(settings: Settings, release: str, run_id: str) -> dict[str, Any] | None:
    """Return the manifest that `run_id` logged, or else one that a run that registered the release did; else None."""
    with connect(settings) as client:
        for run in [run_id, *(version.run_id for version in registered_versions(client, settings, release))]:
            with contextlib.suppress(ReleaseError):
                if (manifest := _read_manifest(client, run)[0]).get("version") == release:
                    return manifest
    return None


def _check_run(client: MlflowClient, run_id: str, manifest: dict[str, Any], *, decided: bool) -> None:
    logged, run, files = _read_manifest(client, run_id)
    data = run.data
    if differing := [name for name in manifest if logged.get(name) != manifest[name]]:
        raise ReleaseError(f"the manifest in MLflow differs in: {', '.join(differing)}")
    parameters, epochs = manifest["parameters"], set(range(1, manifest["parameters"].get("epochs", 0) + 1))
    found: dict[str, object] = {f"parameter {name}": value for name, value in data.params.items()}
    found |= {f"metric {name}": value for name, value in data.metrics.items()}
    curves = {name: client.get_metric_history(run_id, name) for name in CURVES}
    found |= {f"curve {name}": {point.step for point in points} & epochs for name, points in curves.items()}
    found |= {f"tag {name}": value for name, value in data.tags.items()}
    found |= {f"file {name}": True for name in files}
    promised: dict[str, object] = {f"parameter {name}": str(value) for name, value in parameters.items()}
    promised |= {f"metric test_{name}": value for name, value in manifest["metrics"].items() if name not in UNLOGGED}
    promised |= {f"curve {name}": epochs for name in CURVES}
    promised |= {"tag release": manifest["version"], "tag release_digest": manifest["digest"]}
    promised |= {"tag dataset": manifest["data"]["dataset"], "tag data_digest": manifest["data"]["source"]}
    promised |= {"tag code_digest": manifest["code"]}
    names = {
        f"metric test_{kind}_{n}" for n in range(len(task_of(manifest).labels)) for kind in ("precision", "recall")
    }
    names |= {f"file {ARCHITECTURE}", f"file {CONFUSION}"}
    names |= {"tag promoted", "tag decision", f"file {REPORT}"} if decided else set()
    lost = {name for name, value in promised.items() if found.get(name) != value} | (names - found.keys())
    if lost:
        raise ReleaseError(f"MLflow's run {run_id} lacks these, or has others: {', '.join(sorted(lost))}")
    _check_values(run, curves, manifest, decided=decided)


def _check_values(run: Run, curves: dict[str, list[Metric]], manifest: dict[str, Any], *, decided: bool) -> None:
    """Check the contents of a run's files, and the metrics that the manifest does not have, by the logged digests.

    A run of an earlier version of digits has no digests.
    """
    from mlflow.entities import Metric

    points = [Metric(name, value, 0, 0) for name, value in run.data.metrics.items() if name.startswith("test_")]
    points += [point for curve in curves.values() for point in curve]
    contents = {name: _read(run, name) for name in (ARCHITECTURE, CONFUSION, *([REPORT] if decided else []))}
    found = {
        ARCHITECTURE: (sha256_of(contents[ARCHITECTURE]), manifest["files"].get(ARCHITECTURE)),
        f"metrics or {CONFUSION}": (digest_of(points, contents[CONFUSION]), run.data.tags.get(LOGGED)),
        REPORT: (sha256_of(contents.get(REPORT, b"")), run.data.tags.get(REPORT_LOGGED) if decided else None),
    }
    if damaged := [name for name, (digest, expected) in found.items() if expected not in {None, digest}]:
        raise ReleaseError(f"MLflow's run {run.info.run_id} has other {', '.join(damaged)} than were logged")


def _check_version(client: MlflowClient, version: ModelVersion, manifest: dict[str, Any]) -> None:
    """Check the status of a registered version, its tags, and the files of its model."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from yaml import YAMLError, safe_load

    name = f"registered version {version.version} in MLflow"
    if version.status != "READY":
        raise ReleaseError(f"{name} has the status {version.status}; expected READY")
    if differing := [tag for tag in VERSION_TAGS if version.tags.get(tag) != manifest[tag]]:
        raise ReleaseError(f"{name} has other tags {', '.join(differing)}")
    if not str(version.source).startswith("models:/"):  # not a model that MLflow keeps, as `register` logs it
        return
    with tempfile.TemporaryDirectory() as temporary:
        address = client.get_model_version_download_uri(version.name, version.version)
        try:
            folder = Path(download_artifacts(address, dst_path=temporary))
            model = safe_load((folder / "MLmodel").read_bytes())  # MLflow's own reader needs pandas
            for file in ("requirements.txt", *model["flavors"]["python_function"]["env"].values()):
                (folder / file).read_bytes()
            signature = {schema: parse_json(model["signature"][schema]) for schema in ("inputs", "outputs")}
            found = sha256_of(folder / "model.onnx")
        except (OSError, MlflowException, YAMLError, ValueError, KeyError, TypeError, AttributeError) as exc:
            if os.strerror(errno.ENOSPC) in str(exc):  # for the copy in TMPDIR
                raise
            raise ReleaseError(f"{name} lacks its model: {first_line(exc)}") from exc
    if signature != {schema: parse_json(value.to_json()) for schema, value in schemas_of(manifest).items()}:
        raise ReleaseError(f"the model of {name} has another signature: {signature}")
    if found != manifest["files"]["model.onnx"]:
        raise ReleaseError(f"the model of {name} is damaged: SHA-256 {found}")


def _read_manifest(client: MlflowClient, run_id: str) -> tuple[dict[str, Any], Run, set[str]]:
    """Return the manifest that a run logged, the run, and the names of its files that are not empty.

    Raises ReleaseError if the run or its manifest is missing or damaged.
    """
    from mlflow.artifacts import list_artifacts
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as exc:
        if exc.error_code not in {MISSING, "INVALID_PARAMETER_VALUE"}:
            raise
        raise ReleaseError(f"MLflow has no run {run_id}") from exc
    experiment = client.get_experiment(run.info.experiment_id)
    if {run.info.lifecycle_stage, experiment.lifecycle_stage} != {"active"}:
        raise ReleaseError(f"MLflow's run {run_id} or its experiment {experiment.name!r} was deleted")
    # By its address, because the client's method asks for the run again. A named pipe is listed with the size 0.
    listed = list_artifacts(run.info.artifact_uri)
    files = {Path(file.path).name for file in listed if not file.is_dir and file.file_size != 0}
    if "manifest.json" not in files:
        raise ReleaseError(f"MLflow's run {run_id} has no manifest.json; expected the one of the registered release")
    content = _read(run, "manifest.json")
    try:
        return dict(parse_json(content)), run, files
    except (ValueError, TypeError) as exc:
        raise ReleaseError(
            f"manifest.json of MLflow's run {run_id} is damaged; expected the release's manifest: {exc}"
        ) from exc


def _read(run: Run, name: str) -> bytes:
    """Return the content of a file that a run logged."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as folder:
        # Not by the client's method, which asks for the run again.
        return Path(download_artifacts(f"{run.info.artifact_uri}/{name}", dst_path=folder)).read_bytes()

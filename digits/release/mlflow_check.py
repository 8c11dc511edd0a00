"""The check of a release in MLflow: the run that logged its manifest, and the registered version with its model.

All functions raise MissingError as `mlflow_client.connect`.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits.errors import ReleaseError
from digits.files import parse_json, sha256_of
from digits.release.mlflow_client import connect, first_line, if_recorded
from digits.release.mlflow_registry import MISSING, registered_versions
from digits.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def check_logged(settings: Settings, manifest: dict[str, Any]) -> str:
    """Check that MLflow has a release: a run with its digest and manifest, and a registered version with its model.

    Return a sentence, also if there is no MLflow. Raises ReleaseError if something is missing or differs.
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
                _check_run(client, run_id, manifest)
            except ReleaseError as exc:
                problem = problem or exc
            else:
                if str(newest.source).startswith("models:/"):  # a model that MLflow keeps, as `register` logs it
                    _check_model(client, newest, manifest["files"]["model.onnx"])
                return f"MLflow run {run_id[:12]}, registered version {newest.version}"
        assert problem  # noqa: S101 # there is at least one run
        raise problem


@if_recorded
def logged_manifest(settings: Settings, release: str, run_id: str) -> dict[str, Any] | None:
    """Return the manifest that `run_id` logged, or else one that a run that registered the release did; else None."""
    with connect(settings) as client:
        for run in [run_id, *(version.run_id for version in registered_versions(client, settings, release))]:
            with contextlib.suppress(ReleaseError):
                if (manifest := _read_manifest(client, run)).get("version") == release:
                    return manifest
    return None


def _check_run(client: MlflowClient, run_id: str, manifest: dict[str, Any]) -> None:
    logged = _read_manifest(client, run_id)
    digest = client.get_run(run_id).data.tags.get("release_digest")
    if digest != manifest["digest"]:
        raise ReleaseError(f"MLflow's run names release digest {digest}")
    if differing := [name for name in manifest if logged.get(name) != manifest[name]]:
        raise ReleaseError(f"the manifest in MLflow differs in: {', '.join(differing)}")


def _check_model(client: MlflowClient, version: ModelVersion, digest: str) -> None:
    """Check the digest of the ONNX file of a registered version."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        address = client.get_model_version_download_uri(version.name, version.version)
        try:
            found = sha256_of(Path(download_artifacts(f"{address}/model.onnx", dst_path=folder)))
        except (OSError, MlflowException) as exc:
            raise ReleaseError(
                f"registered version {version.version} in MLflow lacks its model: {first_line(exc)}"
            ) from exc
    if found != digest:
        raise ReleaseError(f"the model of registered version {version.version} in MLflow is damaged: SHA-256 {found}")


def _read_manifest(client: MlflowClient, run_id: str) -> dict[str, Any]:
    """Return the manifest that a run logged. Raises ReleaseError if the run or its manifest is missing or damaged."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as exc:
        if exc.error_code not in {MISSING, "INVALID_PARAMETER_VALUE"}:
            raise
        raise ReleaseError(f"MLflow has no run {run_id}") from exc
    if run.info.lifecycle_stage != "active":
        raise ReleaseError(f"MLflow's run {run_id} was deleted")
    if "manifest.json" not in {file.path for file in client.list_artifacts(run_id)}:
        raise ReleaseError(f"MLflow's run {run_id} has no manifest.json; expected the one of the registered release")
    with tempfile.TemporaryDirectory() as folder:
        try:
            return dict(parse_json(Path(client.download_artifacts(run_id, "manifest.json", folder)).read_bytes()))
        except (ValueError, TypeError) as exc:
            raise ReleaseError(
                f"manifest.json of MLflow's run {run_id} is damaged; expected the release's manifest: {exc}"
            ) from exc

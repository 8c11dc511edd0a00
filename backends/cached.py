"""Checks of cached results: a step is taken from the cache only if all that it made is still there, unchanged."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from digits.data import block_index
from digits.errors import DigitsError
from digits.files import read_own, real_path, sha256_of, sha256_of_folder, write_whole
from digits.release import attachments, ledger, mlflow_check, mlflow_client, mlflow_registry, releases
from digits.release.verify import verify
from digits.settings import Settings
from digits.store import open_store
from digits.variables import sqlite_file

Json = dict[str, Any]

_RECORD = Path("cache", "mlflow")  # in the home: the state of MLflow's files


def fingerprint(outputs: Json, artifacts: Iterable[str]) -> str:
    """Return a digest over the recorded outputs of a step and the contents of its artifacts, which are local paths.

    Raises:
        OSError: an artifact is missing or is neither a file nor a folder.
    """
    contents = {path: _digest(Path(path)) for path in artifacts}
    return sha256_of(json.dumps([outputs, contents], sort_keys=True).encode())


def _digest(path: Path) -> str:
    if path.is_dir():
        return sha256_of_folder(path)
    if not path.is_file():  # reading a named pipe would block
        raise FileNotFoundError(path)
    return sha256_of(path)


def is_usable(settings: Settings, outputs: Json, artifacts: Iterable[str], recorded: str) -> bool:
    """Return whether a step's outputs and artifacts have the `recorded` fingerprint, and what it published is there."""
    try:
        intact = fingerprint(outputs, artifacts) == recorded
    except OSError:
        return False
    return (
        intact
        and ("published" not in outputs or is_published(settings, outputs["published"]))
        and ("prepared" not in outputs or _is_prepared(settings, map(Path, artifacts)))
    )


def _is_prepared(settings: Settings, artifacts: Iterable[Path]) -> bool:
    """Return whether the blocks of a training set that are in the object store are still there."""
    keys = [key for path in artifacts if path.is_dir() for key in block_index.read(path).stored]
    try:
        return not keys or all(map(open_store(settings).exists, keys))
    except DigitsError:  # `prepare` runs again and reports it
        return False


def is_published(settings: Settings, published: Json) -> bool:
    """Return whether store, ledger and MLflow have what a run of `publish` left. MLflow's aliases are set again."""
    try:
        store = open_store(settings)
        champions = [entry.version for entry in ledger.entries(store)]
        promoted = {published["champion"], published["version"] if published["promoted"] else ""} - {""}
        # Importing MLflow takes longer than the rest of a cached run.
        state = _mlflow_state(settings, champions[-1], published["version"]) if champions else ""
        unchanged = state != "" and state == _recorded_state(settings)
        checks = verify(settings, store, published["version"], mlflow=not unchanged)
        if not promoted <= set(champions) or not all(check.passed for check in checks):
            return False
        if not attachments.are_whole(store, published["version"]):  # also if another version of digits wrote them
            return False
        if not unchanged:
            mlflow_registry.mirror_ledger(settings, store)
    except DigitsError:  # `publish` runs again and reports it
        return False
    return True


def record_mlflow(settings: Settings, champion: str, release: str) -> None:
    """Record the state of MLflow's files at the end of a run that succeeded, for `is_published` of the next run.

    MLflow is checked after its state was read, because something may have been lost since the run's own checks.
    """
    state = _mlflow_state(settings, champion, release)
    if state in {"", _recorded_state(settings)}:
        return
    with contextlib.suppress(DigitsError):  # the next run then asks MLflow
        store = open_store(settings)
        manifest = releases.load(store, release)
        mlflow_check.check_logged(settings, manifest)
        if not mlflow_registry.mirror_ledger(settings, store) and _has_its_files_here(settings, manifest):
            write_whole(settings.home / _RECORD, state)


def _has_its_files_here(settings: Settings, manifest: Json) -> bool:
    """Return whether the files that MLflow has of a release are in the folder that `_mlflow_state` examines.

    An experiment that another program made may have them elsewhere.
    """
    with mlflow_client.connect(settings) as client:
        versions = mlflow_registry.registered_versions(client, settings, manifest["version"])
        places = [client.get_run(run).info.artifact_uri for run in {version.run_id for version in versions}]
    return all(place.startswith(f"{mlflow_client.artifacts_address(settings)}/") for place in places)


def _recorded_state(settings: Settings) -> str:
    try:
        return read_own(settings.home / _RECORD)
    except (OSError, ValueError):
        return ""


def _mlflow_state(settings: Settings, champion: str, release: str) -> str:
    """Return a digest that any change to MLflow's local files, or to what is compared with them, changes.

    It is over names, sizes and the times of the last change of each inode, which programs cannot set, and over
    champion, release, store and the name of the registered model. It is '' for a server.
    """
    database = sqlite_file(settings.tracking_uri)
    if not database:
        return ""
    files = [real_path(database), *sorted((settings.home / "mlartifacts").rglob("*"))]
    stats = [(str(file), stat.st_ino, stat.st_size, stat.st_ctime_ns) for file in files if (stat := _lstat(file))]
    compared = [champion, release, settings.mlflow_model, settings.store, settings.minio_endpoint]
    return sha256_of(json.dumps([compared, stats]).encode())


def _lstat(file: Path) -> os.stat_result | None:
    try:
        return file.lstat()
    except OSError:
        return None

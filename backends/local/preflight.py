"""The checks before a run: whatever would make a later step fail and can be known before the training."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from digits.errors import MissingError, UsageError, mask_address
from digits.files import find_unwritable, folder_from_url, real_path
from digits.release import deploy, mlflow_client, signatures
from digits.settings import Settings
from digits.store import Trust, get_scheme
from digits.training.trainers import find_trainer
from digits.variables import sqlite_file
from pipeline import check_parameters

MIN_FREE = 32 << 20  # bytes; scikit-learn's digits need about this much, MNIST ten times as much
TRACKING = {"http", "https", "sqlite", "mysql", "mssql", "postgresql", "databricks", "databricks-uc", "uc"}


def check(settings: Settings, parameters: Mapping[str, Any]) -> None:
    """Check a run's parameters, trainer, deployer, keys, disk, folders and MLflow's address, without a connection.

    DIGITS_HOME exists.

    Raises:
        UsageError: a parameter or setting is invalid.
        MissingError: the trainer or the deployer does not exist, a folder cannot be written, or the disk is full.
    """
    check_parameters(parameters, settings.workers)
    find_trainer(settings.trainer)
    deploy.find_deployer(settings.deployer or deploy.FOLLOW)
    signatures.signing_key(Trust(settings.trusted_keys, settings.signing_key))
    if (free := shutil.disk_usage(settings.home).free) < MIN_FREE:
        raise MissingError(
            f"DIGITS_HOME: expected at least {MIN_FREE >> 20} MiB of free space in {settings.home}, found {free >> 20}",
            remedy="free some space, or set DIGITS_HOME to another disk",
        )
    get_scheme(settings.store)
    if urlsplit(settings.store).scheme in {"", "file"}:  # other kinds of store check their own addresses
        _check_folder("DIGITS_STORE", real_path(folder_from_url(settings.store, "DIGITS_STORE")))
    _check_folder("DIGITS_HOME", settings.home / "pipeline")
    scheme = urlsplit(settings.tracking_uri).scheme.partition("+")[0]
    if database := sqlite_file(settings.tracking_uri):
        if database.is_dir():
            raise UsageError(f"MLFLOW_TRACKING_URI: expected a file, {database} is a folder")
        _check_folder("MLFLOW_TRACKING_URI", real_path(database).parent)
        _check_database(database)
        for folder in mlflow_client.artifact_folders(mlflow_client.artifacts_address(settings)):
            _check_folder("DIGITS_HOME", folder)
    elif scheme not in TRACKING | {p.name for p in importlib.metadata.entry_points(group="mlflow.tracking_store")}:
        raise UsageError(
            f"MLFLOW_TRACKING_URI: expected an address of MLflow, got {mask_address(settings.tracking_uri)!r}",
            remedy="write http://host:port for a server, sqlite:////file for a file",
        )


def _check_database(database: Path) -> None:
    """Raise MissingError if MLflow's database is there and cannot be written."""
    try:
        if database.is_file():
            database.open("r+b").close()
    except OSError as exc:
        raise MissingError(
            f"MLFLOW_TRACKING_URI: {database} cannot be written: {exc.strerror}",
            remedy="correct that, or set MLFLOW_TRACKING_URI to another",
        ) from exc


def _check_folder(variable: str, folder: Path) -> None:
    """Raise MissingError unless `folder` can be written, or created."""
    if problem := find_unwritable(folder):
        raise MissingError(f"{variable}: {problem}", remedy=f"correct that, or set {variable} to another")

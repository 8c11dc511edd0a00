"""Checks of cached results: a step is taken from the cache only if all that it made is still there, unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from digits.errors import DigitsError
from digits.files import sha256_of, sha256_of_folder
from digits.release import ledger, mlflow_registry
from digits.release.verify import verify
from digits.settings import Settings
from digits.store import open_store

Json = dict[str, Any]


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


def is_published(settings: Settings, published: Json) -> bool:
    """Return whether store, ledger and MLflow have what a run of `publish` left. MLflow's aliases are set again."""
    try:
        store = open_store(settings)
        checks = list(verify(settings, store, published["version"]))
        champions = {entry.version for entry in ledger.entries(store)}
        promoted = {published["champion"], published["version"] if published["promoted"] else ""} - {""}
        if not all(check.passed for check in checks) or not promoted <= champions:
            return False
        mlflow_registry.mirror_ledger(settings, store)
    except DigitsError:  # `publish` runs again and reports it
        return False
    return True

"""A store and an installation for tests of releases."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.support import Finished


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty store."""
    return FileStore(tmp_path / "store")


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Settings:
    """A copy of a finished installation, to be changed."""
    return finished.copy(tmp_path / "home")

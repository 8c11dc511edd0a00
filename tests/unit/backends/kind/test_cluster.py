"""The kind cluster, as far as it works without Docker."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.kind import cluster
from digits.errors import MissingError
from digits.settings import Settings


def test_up_names_a_missing_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the programs that it needs, `up` ends before it changes anything."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingError, match="docker is not on PATH"):
        cluster.up(Settings(home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()

"""The address of the Docker engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backends.docker import containers
from digits.errors import MissingError


@pytest.mark.parametrize("where", ["DOCKER_CONTEXT", "config.json"])
def test_a_context_that_does_not_exist_is_an_error(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt context is named instead of another engine being used."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    if where == "DOCKER_CONTEXT":
        monkeypatch.setenv(where, "misspelt")
    else:
        (tmp_path / where).write_text(json.dumps({"currentContext": "misspelt"}))
    with pytest.raises(MissingError, match="there is no Docker context 'misspelt'"):
        containers.address()
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert containers.address() == "unix:///var/run/docker.sock"

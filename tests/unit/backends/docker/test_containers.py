"""The address of the Docker engine."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from docker.errors import ImageNotFound

from backends.docker import containers
from digits import homes
from digits.errors import MissingError
from digits.settings import Settings


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


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("", True),
        ("unix:///run/docker.sock", True),
        ("npipe:////./pipe/docker_engine", True),
        ("tcp://127.0.0.1:2375", True),
        ("localhost:2375", True),
        ("tcp://[::1]:2375", True),
        ("tcp://[::1:2375", True),
        ("tcp://docker:2375", False),
        ("10.0.0.5:2375", False),
        ("ssh://user@build-host", False),
    ],
)
def test_an_engine_on_another_machine_is_refused(address: str, here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that cannot mount the files of this machine is refused before images are built."""
    monkeypatch.setenv("DOCKER_HOST", address)
    with contextlib.nullcontext() if here else pytest.raises(MissingError, match="on another machine"):
        containers.check_here()


def test_two_installations_with_homes_of_one_path_have_different_labels(tmp_path: Path) -> None:
    """`digits clean` in one of two containers that share an engine leaves the other's containers alone."""
    labels = set()
    for name in ("first", "second"):
        settings = Settings(home=tmp_path / "home")
        homes.claim(settings.home)
        labels.add(containers.installation(settings))
        settings.home.rename(tmp_path / name)
    assert len(labels) == 2


def test_an_image_that_was_removed_meanwhile_is_made_again() -> None:
    """After `docker image prune` between two steps, the error states what to do."""
    error = containers.translate("starting a container for train", ImageNotFound("404", explanation="No such image: x"))
    assert (error.message, error.remedy.split(",")[0]) == (
        "starting a container for train: No such image: x",
        "run again",
    )

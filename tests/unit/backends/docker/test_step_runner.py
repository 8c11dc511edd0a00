"""The files and variables that a step's container can read."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import pytest

from backends import runs
from backends.base import Request
from backends.docker.step_runner import StepRunner
from digits.settings import IMAGE_VARIABLE, Settings


@pytest.mark.parametrize(
    ("step", "seen"), [("publish", {"trusted", "key.pem"}), ("deploy", {"trusted"}), ("train", set())]
)
def test_a_step_sees_only_the_keys_that_it_needs(step: str, seen: set[str], tmp_path: Path) -> None:
    """The private key is mounted, read-only, into publish only; each step knows its image's digest."""
    keys = {"trusted_keys": str(tmp_path / "trusted"), "signing_key": str(tmp_path / "key.pem")}
    settings, engine = Settings(home=tmp_path / "home", **keys), MagicMock()
    engine.images.get.return_value.id = "sha256:ab"
    run = runs.create(settings.home, "docker", Request({}), "")
    StepRunner(engine, settings, run, "digits-python-steps:1")._create(step, ["true"], {})
    made = engine.containers.create.call_args.kwargs
    mounts = {path: volume["mode"] for path, volume in made["volumes"].items() if path != str(settings.home)}
    assert mounts == {str(tmp_path / name): "ro" for name in seen}
    assert made["environment"][IMAGE_VARIABLE] == "digits-python-steps@sha256:ab"

"""`digits images build`, with images that exist."""

from __future__ import annotations

import io
import json

import pytest
from click.testing import CliRunner

from backends.docker import containers, images
from digits.cli import cli


def test_the_names_are_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output has the images' names, a line each, for a loop in a shell."""
    monkeypatch.setattr(containers, "connect", io.BytesIO)  # something to close
    monkeypatch.setattr(images, "ensure_image", lambda client, settings, name, report: f"digits-{name}:1")
    result = CliRunner().invoke(cli, ["images", "build", "steps", "web"])
    assert result.stdout == "digits-steps:1\ndigits-web:1\n"
    result = CliRunner().invoke(cli, ["images", "build", "steps", "--json"])
    assert json.loads(result.stdout) == {"images": {"steps": "digits-steps:1"}}

"""The summary of a run."""

from __future__ import annotations

import dataclasses

import pytest

from digits.cli import summary
from digits.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_an_endpoint_on_another_port_is_explained(settings: Settings) -> None:
    """If another program uses the predictor's port, the summary says so next to the address."""
    here, elsewhere = f"http://127.0.0.1:{settings.port}", "http://127.0.0.1:1"
    assert [summary._note_port(address, settings) for address in (here, "http://digits.example", "")] == ["", "", ""]
    assert summary._note_port(elsewhere, settings) == f"   (port {settings.port} was in use)"
    assert summary._note_port(elsewhere, dataclasses.replace(settings, port=0)) == ""

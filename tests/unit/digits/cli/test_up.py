"""`digits up`."""

from __future__ import annotations

import socket

import pytest

from digits.settings import Settings
from tests.helpers.command import Digits

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_a_run_without_a_champion_exits_with_1(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the gate rejects the first release, there is no page, and the error has the gate's reason."""
    from tests.helpers.fake_backend import FakeBackend

    monkeypatch.setattr("backends.open_backend", FakeBackend)  # its run is a real one
    options = ("--dataset", "sklearn-digits", "--epochs", "1", "--min-accuracy", "1", "--no-open", "--port", "0")
    result = digits("up", *options)
    assert result.code == 1
    assert "nothing is served: accuracy" in result.err


def test_a_port_in_use_fails_before_the_run(digits: Digits, settings: Settings) -> None:
    """`digits up` checks the page's port before it runs the pipeline."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = digits("up", "--no-open", "--port", str(taken.getsockname()[1]))
    assert (result.code, "--port" in result.err) == (3, True)
    assert not (settings.home / "runs").exists()

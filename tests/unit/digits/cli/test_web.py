"""`digits web`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from digits.settings import Settings
from tests.helpers.command import Digits

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_corrections_go_to_the_store_of_the_backend(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --endpoint too, the docker backend's page stores corrections in that backend's store."""
    from digits.cli import web as command

    docker = dataclasses.replace(settings, backend="docker")
    served: list[tuple[str, list[str]]] = []

    @contextlib.contextmanager
    def opened() -> Iterator[tuple[Settings, None, None]]:
        yield dataclasses.replace(docker, store="s3://digits"), None, None

    monkeypatch.setattr(command, "open_backend_store", opened)
    monkeypatch.setattr("web_app.server.serve", lambda here, to, **_: served.append((here.store, to)))
    monkeypatch.setattr("web_app.server.listen", lambda *_: None)
    assert digits("web", "--endpoint", "http://127.0.0.1:1", on=docker).code == 0
    assert served == [("s3://digits", ["http://127.0.0.1:1"])]


def test_a_backend_without_an_endpoint_is_an_error(digits: Digits, settings: Settings) -> None:
    """`digits web` for a backend without an endpoint is an error, not the page of another backend."""
    result = digits("web", "--no-open", "--port", "0", on=dataclasses.replace(settings, backend="kubeflow"))
    assert result.code != 0
    assert "--endpoint" in result.err or "DIGITS_KFP_HOST" in result.err


def test_trusted_keys_that_cannot_be_read_are_an_error_at_the_start(
    digits: Digits, settings: Settings, tmp_path: Path
) -> None:
    """With DIGITS_TRUSTED_KEYS that name no readable key, the page does not start, before a visitor gets an error."""
    result = digits(
        "web", "--no-open", "--port", "0", on=dataclasses.replace(settings, trusted_keys=str(tmp_path / "x"))
    )
    assert result.code == 3
    assert "DIGITS_TRUSTED_KEYS: cannot read" in result.err

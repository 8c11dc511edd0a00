"""The predictor process of this machine: when it is kept, and when another one takes its place."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from backends.process import predictor
from digits.settings import Settings
from tests.helpers.support import free_port


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """An S3 store that does not answer; what was started on it ends with the test."""
    made = Settings(home=tmp_path, store="s3://digits", minio_endpoint="127.0.0.1:9", port=free_port())
    made = dataclasses.replace(made, grpc_port=free_port(), minio_access_key="a", minio_secret_key="canary-secret")
    yield made
    predictor.stop(made)


@pytest.mark.parametrize("changed", ["store", "minio_endpoint", "minio_access_key", "minio_secret_key", "minio_region"])
def test_a_predictor_is_kept_while_its_store_is_the_same(changed: str, settings: Settings) -> None:
    """Another server or key behind the store means another predictor; its record holds no key."""
    first = predictor.ensure(settings)
    assert predictor.ensure(settings) == first
    value = {"store": "s3://other", "minio_endpoint": "127.0.0.1:19"}.get(changed, "rotated")
    second = predictor.ensure(dataclasses.replace(settings, **{changed: value}))
    assert second.pid != first.pid
    assert not psutil.pid_exists(first.pid)
    assert "canary" not in (settings.home / "endpoint.json").read_text()


@pytest.mark.parametrize("changed", ["port", "grpc_port"])
def test_a_changed_port_moves_the_predictor(changed: str, settings: Settings) -> None:
    """Another port that is asked for means another predictor, which listens there."""
    first = predictor.ensure(settings)
    moved = dataclasses.replace(settings, **{changed: free_port()})
    second = predictor.ensure(moved)
    assert predictor.ensure(moved) == second
    assert (second.url, second.grpc) == (f"http://127.0.0.1:{moved.port}", f"127.0.0.1:{moved.grpc_port}")
    assert not psutil.pid_exists(first.pid)


def test_a_port_that_was_taken_moves_nothing(settings: Settings) -> None:
    """A predictor that listens elsewhere because its port was taken is kept, also once that port is free."""
    with socket.create_server(("127.0.0.1", settings.port)):
        first = predictor.ensure(settings)
    assert first.url != f"http://127.0.0.1:{settings.port}"
    assert first.port == settings.port
    assert predictor.ensure(settings) == first


def test_a_predictor_of_an_earlier_record_is_replaced(settings: Settings) -> None:
    """A record as an earlier version wrote it names a predictor that is ended, not one that is forgotten."""
    first = predictor.ensure(settings)
    file = settings.home / "endpoint.json"
    record = {name: value for name, value in json.loads(file.read_text()).items() if name != "world"}
    file.write_text(json.dumps(record | {"store": settings.store, "code": "c"}))
    assert predictor.ensure(settings).pid != first.pid
    assert not psutil.pid_exists(first.pid)

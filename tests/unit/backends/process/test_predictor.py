"""The predictor process of this machine: when it is kept, and when it is replaced."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from backends import processes
from backends.process import predictor
from digits.errors import DigitsError
from digits.files import write_json
from digits.settings import Settings
from tests.helpers.support import free_port


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """Settings for an S3 store that does not answer. A predictor that was started on it ends with the test."""
    base = Settings(home=tmp_path, store="s3://digits", minio_endpoint="127.0.0.1:9", port=free_port())
    settings = dataclasses.replace(base, grpc_port=free_port(), minio_access_key="a", minio_secret_key="canary-secret")
    yield settings
    predictor.stop_all(settings)


@pytest.mark.parametrize("changed", ["store", "minio_endpoint", "minio_access_key", "minio_secret_key", "minio_region"])
def test_a_predictor_is_kept_while_its_store_is_the_same(changed: str, settings: Settings) -> None:
    """A changed store, server or credential starts another predictor, whose record holds no credential."""
    first = predictor.ensure(settings)
    assert predictor.ensure(settings) == first
    value = {"store": "s3://other", "minio_endpoint": "127.0.0.1:19"}.get(changed, "rotated")
    second = predictor.ensure(dataclasses.replace(settings, **{changed: value}))
    assert second.pid != first.pid
    assert not psutil.pid_exists(first.pid)
    assert "canary" not in (settings.home / "endpoint.json").read_text()


def test_a_predictor_that_served_another_store_is_named(settings: Settings) -> None:
    """A run with another DIGITS_STORE says that it ends the predictor of the first; one with other keys does not."""
    said: list[str] = []
    predictor.ensure(settings, said.append)
    predictor.ensure(dataclasses.replace(settings, minio_access_key="rotated"), said.append)
    assert said == []
    predictor.ensure(dataclasses.replace(settings, store="s3://other"), said.append)
    assert said == [
        "the predictor of s3://digits ends: this DIGITS_HOME has one for each task, which now serves s3://other"
    ]


@pytest.mark.parametrize("changed", ["port", "grpc_port"])
def test_a_changed_port_moves_the_predictor(changed: str, settings: Settings) -> None:
    """A changed port starts another predictor, which listens there."""
    first = predictor.ensure(settings)
    moved = dataclasses.replace(settings, **{changed: free_port()})
    second = predictor.ensure(moved)
    assert predictor.ensure(moved) == second
    assert (second.url, second.grpc) == (f"http://127.0.0.1:{moved.port}", f"127.0.0.1:{moved.grpc_port}")
    assert not psutil.pid_exists(first.pid)


def test_a_predictor_on_a_substitute_port_is_kept(settings: Settings) -> None:
    """A predictor that listens elsewhere because its port was taken is kept, even once that port is free."""
    with socket.create_server(("127.0.0.1", settings.port)):
        first = predictor.ensure(settings)
    assert first.url != f"http://127.0.0.1:{settings.port}"
    assert first.port == settings.port
    assert predictor.ensure(settings) == first


@pytest.mark.parametrize("content", ["", "[]", '{"url": 1}', "[" * 60_000])
def test_a_damaged_record_is_that_of_no_predictor(content: str, settings: Settings) -> None:
    """A predictor whose record cannot be read is not running, as far as this installation knows."""
    (settings.home / "endpoint.json").write_text(content)
    assert predictor.running(settings) is None


def test_a_pipe_in_the_place_of_the_record_is_not_waited_for(settings: Settings) -> None:
    """Opening a named pipe waits for a writer, so it is that of no predictor, and is removed with it."""
    os.mkfifo(settings.home / "endpoint.json")
    assert predictor.running(settings) is None
    assert predictor.stop_all(settings) == []
    assert not (settings.home / "endpoint.json").exists()


def test_another_process_with_a_recorded_id_is_left_alone(settings: Settings) -> None:
    """After a predictor has died, its process id may belong to another process. That one is not taken for it."""
    write_json(settings.home / "endpoint.json", {"url": "", "grpc": "", "pid": os.getpid()})
    assert predictor.running(settings) is None
    predictor.stop_all(settings)


def test_a_predictor_without_a_record_is_ended(settings: Settings) -> None:
    """If the record of a new predictor cannot be written, as on a full disk, the predictor does not outlive that."""
    (settings.home / "endpoint.json").mkdir()
    with pytest.raises(DigitsError, match=r"cannot write .*endpoint\.json"):
        predictor.ensure(settings)
    (settings.home / "endpoint.json").rmdir()
    home = str(settings.home)
    assert not [each for each in psutil.process_iter() if processes.variable(each, "DIGITS_HOME") == home]

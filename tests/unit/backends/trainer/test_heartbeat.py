"""The heartbeat of a train step, as its workers see it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from backends.trainer import heartbeat
from backends.trainer.heartbeat import Listener, beating
from digits.errors import StoreUnreachable
from digits.settings import Settings
from digits.store import ObjectStore, open_store
from tests.helpers.engines import wait_until

KEY = "trainings/digits/k/1-2/alive"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setattr(heartbeat, "PERIOD", 0.01)
    return open_store(Settings(home=tmp_path))


def test_a_step_is_silent_from_its_end(store: ObjectStore) -> None:
    """The silence is short while the step lives, and grows when it has ended, also if its objects were removed."""
    with beating(store, KEY):
        listener = Listener(store, KEY)
        time.sleep(0.5)
        assert wait_until(lambda: listener.silence() < 0.1, seconds=10)
    listener.silence()
    assert wait_until(lambda: listener.silence() > 0.2, seconds=10)
    store.delete(KEY)
    listener.silence()
    assert wait_until(lambda: listener.silence() > 0.2, seconds=10)


def test_a_store_that_fails_is_no_silence(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store does not answer, neither the step nor its workers end."""
    listener = Listener(store, KEY)

    def fail(*_: object) -> bytes:
        raise StoreUnreachable("away")

    time.sleep(0.1)
    for name in ("get", "put"):
        monkeypatch.setattr(type(store), name, fail)
    with beating(store, KEY):
        assert listener.silence() < 0.1

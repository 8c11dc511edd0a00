"""Lock files: a program waits for another one that holds the lock, and reports it after a timeout."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import Mock

import pytest

from backends.docker import backend as docker_backend
from backends.docker.backend import DockerBackend
from backends.kind import cluster
from backends.locks import is_held
from backends.process import predictor
from digits.errors import DigitsError
from digits.settings import Settings

HOLDER = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Let another program hold the lock while the block runs."""
    lock.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        yield
        other.communicate(b"\n")


def docker(settings: Settings) -> None:
    backend = DockerBackend(settings)
    backend._connected = Mock()
    backend.prepare(lambda event: None)


@pytest.mark.parametrize(
    ("lock", "ask"),
    [("endpoint.lock", predictor.stop_all), ("docker.lock", docker), ("cluster.lock", cluster.down)],
)
def test_a_wait_for_a_lock_times_out(
    lock: str, ask: Callable[[Settings], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the lock file in message and remedy. The docker backend builds its images before it waits."""
    for module, name in ((predictor, "LOCK_SECONDS"), (docker_backend, "START_SECONDS"), (cluster, "CREATE_SECONDS")):
        monkeypatch.setattr(module, name, 0.1)
    monkeypatch.setattr(cluster, "READY_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "need", lambda tool: tool)
    built: list[str] = []
    monkeypatch.setattr(
        docker_backend.images, "ensure_image", lambda client, settings, which, report: built.append(which)
    )
    path = tmp_path / "home" / lock
    with held(path), pytest.raises(DigitsError, match="another `digits` has held") as late:
        ask(Settings(home=path.parent))
    assert str(path) in late.value.message
    assert str(path) in late.value.remedy
    assert built == (["steps", "predictor", "minio"] if ask is docker else [])


def test_the_timeout_of_the_predictors_lock_exceeds_its_use() -> None:
    """Ending a predictor takes at most STOP_SECONDS, and KILL_SECONDS each for its children and itself."""
    assert predictor.LOCK_SECONDS > predictor.STOP_SECONDS + 2 * predictor.KILL_SECONDS


def test_a_lock_is_held_until_its_process_ends(tmp_path: Path) -> None:
    """`is_held` reports a lock of another program, and none before the file exists or after the program has ended."""
    lock = tmp_path / "locks" / "lock"
    assert not is_held(lock)
    with held(lock):
        assert is_held(lock)
        assert is_held(lock)
    assert not is_held(lock)

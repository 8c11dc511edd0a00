"""Two programs that would change the same thing: the later one waits, and says for what when it has waited enough."""

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
from backends.process import predictor
from digits.errors import DigitsError
from digits.settings import Settings

HOLDER = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); input()"


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Another program holds the lock while the block runs."""
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
    [("endpoint.lock", predictor.stop), ("docker.lock", docker), ("cluster.lock", cluster.down)],
)
def test_a_wait_that_is_too_long_says_for_what(
    lock: str, ask: Callable[[Settings], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever would change what another program changes is told its lock and what to do; images are built before."""
    for module, name in ((predictor, "LOCK_SECONDS"), (docker_backend, "START_SECONDS"), (cluster, "CREATE_SECONDS")):
        monkeypatch.setattr(module, name, 0.1)
    monkeypatch.setattr(cluster, "READY_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "need", lambda tool: tool)
    built: list[str] = []
    monkeypatch.setattr(
        docker_backend.images, "ensure_image", lambda client, settings, which, tell: built.append(which)
    )
    path = tmp_path / "home" / lock
    with held(path), pytest.raises(DigitsError, match="another `digits` has held") as late:
        ask(Settings(home=path.parent))
    assert str(path) in late.value.message
    assert str(path) in late.value.remedy
    assert built == (["steps", "predictor", "minio"] if ask is docker else [])


def test_the_predictors_lock_is_waited_for_longer_than_its_holder_may_take() -> None:
    """Ending a predictor takes STOP_SECONDS and then, for its group, twice five more."""
    assert predictor.LOCK_SECONDS > predictor.STOP_SECONDS + 2 * 5

"""Forwarding ports, with a script that stands for kubectl."""

from __future__ import annotations

import os
import queue
from pathlib import Path

import pytest

from backends.kserve import port_forward
from backends.kserve.port_forward import forwarded
from digits.errors import DigitsError
from tests.helpers.engines import wait_until


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a script `kubectl` that is found first."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    script = tmp_path / "kubectl"
    script.touch(0o755)
    return script


def test_a_connection_that_is_open_for_days_takes_no_memory(
    kubectl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All lines that kubectl writes for its connections are read, and a limited number is kept."""
    kubectl.write_text(
        f"""#!/bin/sh
echo 'Forwarding from 127.0.0.1:4711 -> 8080'
yes 'Handling connection for 4711' | head -n 100000
printf 'caf\\351\\n'
touch {tmp_path}/written
exec sleep 60
"""
    )
    queues: list[queue.Queue[object]] = []

    class Recorded(queue.Queue):  # type: ignore[type-arg]
        def __init__(self, maxsize: int = 0) -> None:
            super().__init__(maxsize)
            queues.append(self)

    monkeypatch.setattr(port_forward.queue, "Queue", Recorded)
    with forwarded(Path("kubeconfig"), "digits", "pod/x", 8080) as ports:
        assert ports == [4711]
        assert wait_until((tmp_path / "written").exists, seconds=30)
    assert [held.qsize() <= 100 for held in queues] == [True]


def test_the_reason_of_kubectl_is_shown(kubectl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken, and a kubectl that says nothing, are errors; only a given port is a possible cause."""
    monkeypatch.setattr(port_forward, "FORWARD_SECONDS", 0.5)
    for script, reason in (("echo address already in use; exit 1", "already in use"), ("exec sleep 60", "no answer")):
        kubectl.write_text(f"#!/bin/sh\n{script}\n")
        for port in (0, 8080):
            with (
                pytest.raises(DigitsError, match=reason) as failed,
                forwarded(Path("kubeconfig"), "digits", "pod/x", 8080, local_port=port),
            ):
                pass
            assert "-n digits get pods" in failed.value.remedy
            assert ("DIGITS_PORT" in failed.value.remedy) is bool(port)

"""The predictor process of this machine: started once, it follows the ledger and outlives the runs."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from backends import runs
from backends.locks import locked
from backends.programs import finding_us
from digits import provenance
from digits.errors import EndpointError
from digits.files import canonical_json, sha256_of, write_json
from digits.settings import Settings
from digits.store import get_scheme

STOP_SECONDS = 35.0  # a little more than the predictor's own grace
LOCK_SECONDS = 60.0  # more than its holder takes: STOP_SECONDS, twice the five of end_group, and a start


@dataclass(frozen=True)
class Predictor:
    """A predictor that runs: where, as which process, in which world.

    `port` and `grpc_port` are those that were asked for; one that was taken is not where it listens.
    """

    url: str
    grpc: str
    pid: int
    started: float
    world: str = ""
    port: int = 0
    grpc_port: int = 0


def running(settings: Settings) -> Predictor | None:
    """The predictor that this installation started, if it is alive."""
    try:
        found = json.loads(_file(settings).read_text())
        # An earlier version's record has other fields, and no world, so that its predictor is replaced.
        state = Predictor(**{name: found[name] for name in Predictor.__annotations__ if name in found})
    except (OSError, ValueError, TypeError):
        return None
    return state if runs.alive(state.pid, state.started) else None


def ensure(settings: Settings) -> Predictor:
    """The running predictor on the settings' store and ports, started if there is none. It may not be ready yet."""
    wanted = (_world(settings), settings.port, settings.grpc_port)
    with _lock(settings):
        state = running(settings)
        if state and (state.world, state.port, state.grpc_port) != wanted:
            _end(state)
            state = None
        return state or _start(settings)


def stop(settings: Settings) -> None:
    """End the predictor; requests in flight are answered first."""
    with _lock(settings):
        if state := running(settings):
            _end(state)
        _file(settings).unlink(missing_ok=True)


def _start(settings: Settings) -> Predictor:
    http, grpc = free_port(settings.port), free_port(settings.grpc_port)
    log = settings.home / "logs" / "predictor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | settings.environ() | {"PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "digits", "serve", "--http-port", str(http), "--grpc-port", str(grpc)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=finding_us(environment),
            start_new_session=True,
        )
    state = Predictor(
        url=f"http://127.0.0.1:{http}",
        grpc=f"127.0.0.1:{grpc}",
        pid=process.pid,
        started=runs.started_at(process.pid),
        world=_world(settings),
        port=settings.port,
        grpc_port=settings.grpc_port,
    )
    write_json(_file(settings), asdict(state))
    return state


def _world(settings: Settings) -> str:
    """Stands for the store, the way to it and the code. A digest, because the keys are nobody else's business."""
    given = settings.environ()
    way = [given[name] for name in get_scheme(settings.store).variables]
    world = [settings.store, *way, provenance.digest(serving=True)]
    return sha256_of(canonical_json(world))[:12]


def _end(state: Predictor) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(state.pid)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
    runs.end_group(state.pid, state.started)


def free_port(wanted: int) -> int:
    """`wanted` if it can be had, else a free port: who holds the wanted one is left alone."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise EndpointError("this machine has no free port", remedy="end what holds so many: lsof -i shows it")


def _file(settings: Settings) -> Path:
    return settings.home / "endpoint.json"


def _lock(settings: Settings) -> contextlib.AbstractContextManager[None]:
    return locked(settings.home / "endpoint.lock", LOCK_SECONDS, "start or end the predictor")

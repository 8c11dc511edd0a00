"""The predictor process of this machine. It follows the ledger and continues to run between runs of the pipeline."""

from __future__ import annotations

import contextlib
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from backends import processes
from backends.base import Report, report_replaced
from backends.locks import locked
from backends.ports import free_port
from backends.programs import python, python_environment
from digits import provenance
from digits.errors import mask_address
from digits.files import canonical_json, parse_json, read_own, sha256_of, write_json
from digits.settings import Settings
from digits.store import get_scheme
from digits.tasks.task import BUILT_IN

FILES = "endpoint*.json"  # in DIGITS_HOME, one for each task
STOP_SECONDS = 35.0  # a little more than the predictor takes to answer the requests in flight
KILL_SECONDS = 5.0
LOCK_SECONDS = 60.0  # more than a holder needs: STOP_SECONDS, KILL_SECONDS and a start


@dataclass(frozen=True)
class Predictor:
    """A predictor that this installation started.

    Attributes:
        url: address of its REST protocols.
        grpc: address of its gRPC protocol, host:port.
        pid: its process id.
        fingerprint: digest of the store, credentials, trusted keys' place and code that it was started with.
        port: requested REST port. If it was taken, the predictor listens on another one, see `url`.
        grpc_port: requested gRPC port.
        store: address of the store that it serves.
    """

    url: str
    grpc: str
    pid: int
    fingerprint: str = ""
    port: int = 0
    grpc_port: int = 0
    store: str = ""


def running(settings: Settings) -> Predictor | None:
    """Return the predictor of the task that this installation started, if its process lives."""
    return _running(settings, _file(settings))


def _running(settings: Settings, file: Path) -> Predictor | None:
    try:
        state = Predictor(**parse_json(read_own(file)))
        process = psutil.Process(state.pid)
        # The process id may belong to another process by now.
        ours = processes.variable(process, "DIGITS_HOME") == str(settings.home) and "serve" in process.cmdline()
    except (OSError, ValueError, TypeError, psutil.Error):
        return None
    return state if ours else None


def ensure(settings: Settings, report: Report = lambda _: None) -> Predictor:
    """Return the predictor for the settings' store and ports; start it if there is none. It may not be ready yet.

    `report` is called if it replaces the one that serves another store.
    """
    expected = (_fingerprint(settings), settings.port, settings.grpc_port)
    with _lock(settings):
        state = running(settings)
        if state and (state.fingerprint, state.port, state.grpc_port) != expected:
            report_replaced(report, settings, state.store)
            _end(state)
            state = None
        return state or _start(settings)


def stop_all(settings: Settings) -> list[int]:
    """End the predictors of all tasks, which answer the requests in flight first. Return their process ids."""
    ended = []
    with _lock(settings):
        for file in settings.home.glob(FILES):
            if state := _running(settings, file):
                _end(state)
                ended.append(state.pid)
            if not file.is_dir():  # a folder is left for `digits clean`
                file.unlink(missing_ok=True)
    return ended


def _start(settings: Settings) -> Predictor:
    http, grpc = free_port(settings.port), free_port(settings.grpc_port)
    log = settings.home / "logs" / f"predictor{_suffix(settings)}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | settings.environ() | {"PYTHONUNBUFFERED": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            python("-m", "digits", "serve", "--http-port", str(http), "--grpc-port", str(grpc)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=python_environment(environment),
            start_new_session=True,
        )
    state = Predictor(
        url=f"http://127.0.0.1:{http}",
        grpc=f"127.0.0.1:{grpc}",
        pid=process.pid,
        fingerprint=_fingerprint(settings),
        port=settings.port,
        grpc_port=settings.grpc_port,
        store=mask_address(settings.store),
    )
    try:
        write_json(_file(settings), asdict(state))
    except BaseException:
        _end(state)  # without its record, nothing would find it again
        raise
    return state


def _fingerprint(settings: Settings) -> str:
    """Return a digest of the store, its credentials, the trusted keys' place and the code.

    It is a digest so that no credential is written.
    """
    values = settings.environ()
    access = [values[name] for name in (*get_scheme(settings.store).variables, "DIGITS_TRUSTED_KEYS")]
    return sha256_of(canonical_json([settings.store, *access, provenance.source_digest()]))[:12]


def _end(state: Predictor) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(state.pid)
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            processes.kill_children(state.pid)
            process.kill()
            psutil.wait_procs([process], timeout=KILL_SECONDS)  # on an overloaded machine its end may take longer


def _file(settings: Settings) -> Path:
    return settings.home / f"endpoint{_suffix(settings)}.json"


def _suffix(settings: Settings) -> str:
    name = settings.declaration.name
    return "" if name == BUILT_IN else f"-{name}"


def _lock(settings: Settings) -> contextlib.AbstractContextManager[None]:
    return locked(settings.home / "endpoint.lock", LOCK_SECONDS, "start or end the predictor")

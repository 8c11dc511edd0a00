"""Helpers for all tests: real programs on free ports, releases, and the results of a finished run."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from digits import homes
from digits.data.dataset import Dataset
from digits.evaluation.metrics import Evaluation
from digits.release import releases
from digits.release.mlflow_client import connect
from digits.release.write import write_release
from digits.results import Lineage, PublishedRelease
from digits.settings import Settings
from digits.store import ObjectStore, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from digits.release.publish import Candidate

ROOT = Path(__file__).resolve().parents[2]
# Engines that must be present (docker, cluster, browser, ...). Without others, tests that need them are skipped.
REQUIRED = os.environ.get("DIGITS_REQUIRE", "").replace(",", " ").split()
OURS = ("DIGITS_", "MINIO_", "MLFLOW_")
PREDICTOR_SECONDS = 90.0
# Read during collection, because the tests run without our variables.
GIVEN_DATA = os.environ.get("DIGITS_DATA", "")


@contextlib.contextmanager
def cleaned_environment() -> Iterator[None]:
    """Remove our variables while the block runs, then restore the environment."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(OURS):
            del os.environ[name]
    # The tests' servers are on this machine and must not be requested through a proxy.
    before_that = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    os.environ["no_proxy"] = ",".join(filter(None, [before_that, "127.0.0.1", "localhost"]))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def child_environment(settings: Settings, **more: str) -> dict[str, str]:
    """Return the environment of a program under test: this process's, with these settings instead of ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    path = os.pathsep.join(filter(None, [str(ROOT), inherited.get("PYTHONPATH", "")]))
    return inherited | settings.environ() | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | more


_returned = set[int]()


def free_port() -> int:
    """Return a port that nothing listens on, another one at each call."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _returned:
            _returned.add(port)
            return port


DRIPS = {"head": b"HTTP/1.1 200 OK\r\nX-Drip: ", "body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"}


@contextlib.contextmanager
def answering(body: bytes = b"", status: int = 200) -> Iterator[str]:
    """Yield host:port of a server that answers every request alike, as an unrelated program would."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 # the names that http.server asks for

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name of its base class
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def open_mlflow(settings: Settings) -> MlflowClient:
    """Return a client of the MLflow that the settings name. Its database is created if there is none."""
    with connect(settings, create=True) as client:
        return client


@contextlib.contextmanager
def dripping(start: bytes) -> Iterator[str]:
    """Run a server that starts each response with `start` and then sends a byte every 50 ms; yield its host:port."""
    stopped = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(start)
            while not stopped.wait(0.05):
                connection.sendall(b"x")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=server.accept()[:1], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        stopped.set()
        server.shutdown(socket.SHUT_RDWR)


@dataclasses.dataclass(frozen=True)
class Finished:
    """The results of one real run of the steps. Tests read them and never change them."""

    settings: Settings
    folder: Path
    lineage: Lineage
    published: PublishedRelease

    @property
    def store(self) -> ObjectStore:
        """The store with the run's release."""
        return open_store(self.settings)

    @property
    def version(self) -> str:
        """The release's version."""
        return self.published.version

    def candidate(self) -> Candidate:
        """Return the run's model as it is published."""
        from digits.release.publish import Candidate

        return Candidate(
            model=self.folder / "model",
            test=Dataset.load(self.folder / "test.npz"),
            history=json.loads((self.folder / "history.json").read_text()),
            evaluation=Evaluation.load(self.folder / "evaluation.json"),
            about=self.lineage.describe(),
            min_accuracy=0.3,
        )

    def empty(self, home: Path) -> Settings:
        """Return settings of a new home with MLflow's database, which takes a second to create, without any run."""
        homes.claim(home)
        shutil.copyfile(self.folder / "empty.db", home / "mlflow.db")
        return Settings(home=home)

    def copy(self, home: Path) -> Settings:
        """Copy this home. Return the copy's settings; a test may change it."""
        homes.claim(home)
        shutil.copytree(self.settings.home / "store", home / "store")
        shutil.copytree(self.settings.home / "mlartifacts", home / "mlartifacts")
        shutil.copyfile(self.settings.home / "mlflow.db", home / "mlflow.db")
        return Settings(home=home, port=free_port(), grpc_port=free_port())


def another_release(store: ObjectStore, version: str, **parameters: Any) -> releases.Manifest:
    """Publish a second intact release: the same model with other parameters in its manifest."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = releases.download(store, version, folder)
        for name in (releases.MANIFEST, releases.SIGNATURE, *releases.ATTACHED):
            (folder / name).unlink(missing_ok=True)
        changed = {key: value for key, value in manifest.items() if key not in {"files", "created", "schema"}}
        changed["parameters"] = manifest["parameters"] | (parameters or {"seed": 1})
        changed["digest"] = releases.identity(
            weights=changed["weights"],
            data=changed["data"],
            code=changed["code"],
            parameters=changed["parameters"],
        )
        changed["version"] = releases.version_from_digest(changed["digest"])
        return write_release(store, folder, changed)


@dataclasses.dataclass
class Predictor:
    """A predictor under test: a process, its addresses and its log."""

    process: subprocess.Popen[bytes]
    url: str
    grpc: str
    log: Path

    def about(self) -> dict[str, Any]:
        """Return the parameters of its metadata, which name the release that it serves."""
        found: dict[str, Any] = get_json(f"{self.url}/v2/models/digits")["parameters"]
        return found

    def wait_for(self, condition: Callable[[Predictor], bool], what: str, seconds: float = PREDICTOR_SECONDS) -> None:
        """Wait until `condition` holds. The test fails with the log after `seconds`, or if the process ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError, KeyError):
                if condition(self):
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        ended = self.process.poll()
        pytest.fail(
            f"the predictor (ended: {ended}) did not come to: {what}, within {seconds:.0f} s\n"
            + self.log.read_text(errors="replace")[-4000:]
        )

    def stop(self, seconds: float = 40.0) -> int:
        """Stop it by SIGTERM, as an operator would. Return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            pytest.fail(f"SIGTERM did not end the predictor within {seconds:.0f} s\n{self.log.read_text()[-4000:]}")


def get_json(url: str) -> Any:
    """Return the JSON response to a GET. Raises OSError (HTTPError included)."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.loads(answer.read())


def until_refused(address: str, seconds: float = 30.0) -> None:
    """Wait until nothing listens at host:port."""
    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=seconds).close()
        except ConnectionRefusedError:
            return
        except ConnectionError:
            pass  # it is closing
        time.sleep(0.02)
    pytest.fail(f"{address} still listens after {seconds:.0f} s")


def has_ipv6() -> bool:
    """Return whether this machine can listen on ::1."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


StartPredictor = Callable[..., Predictor]


@contextlib.contextmanager
def predictors(folder: Path) -> Iterator[StartPredictor]:
    """Yield a function that starts predictors; all are killed when the block ends."""
    started: list[Predictor] = []

    def start(settings: Settings, *options: str, ready: bool = True) -> Predictor:
        http, grpc = free_port(), free_port()
        log = folder / f"predictor-{len(started)}.log"
        command = [sys.executable, "-m", "digits", "serve", "--http-port", str(http), "--grpc-port", str(grpc)]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=child_environment(settings),
                cwd=folder,
                start_new_session=True,
            )
        predictor = Predictor(process, f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", log)
        started.append(predictor)
        if ready:
            predictor.wait_for(lambda p: bool(get_json(f"{p.url}/v2/models/digits/ready")), "readiness")
        return predictor

    try:
        yield start
    finally:
        for predictor in started:
            if predictor.process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(predictor.process.pid, signal.SIGKILL)
                predictor.process.wait()


def missing(what: str, why: str) -> NoReturn:
    """Skip the test because `what` is missing; fail it if DIGITS_REQUIRE names `what`."""
    if what in REQUIRED:
        pytest.fail(f"DIGITS_REQUIRE names {what}, but {why}")
    pytest.skip(why)

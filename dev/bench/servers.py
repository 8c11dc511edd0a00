"""The servers to be measured: how each is started in its environment, when it is ready, what memory it took."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from backends.process import predictor
from dev.bench import environments, pipeline
from dev.bench.results import ROOT
from digits.settings import Settings

PEERS = ROOT / "dev" / "bench" / "peers"
NAMES = ("digits", "bare", "kserve", "mlserver", "mlflow", "bentoml", "litserve")
READY = {"digits": "/v2/models/digits/ready", "bare": "/ready", "kserve": "/v1/models/digits", "gateway": "/"}
READY |= {"mlserver": "/v2/models/digits/ready", "mlflow": "/ping", "bentoml": "/readyz", "litserve": "/health"}
READY_SECONDS, END_SECONDS, SETTLE_SECONDS = 120.0, 10.0, 10.0


@dataclass(frozen=True)
class Server:
    """A server that runs and is ready."""

    name: str
    port: int
    grpc_port: int
    process: psutil.Process
    ready_after: float

    def peak(self) -> int:
        """Return the sum of its processes' peak memory in bytes; shared pages count once per process."""
        return sum(peak(process.pid) for process in self._processes())

    def cpu(self) -> float:
        """Return the seconds of processor time that its processes have taken so far."""
        times = [process.cpu_times() for process in self._processes()]
        return float(sum(time.user + time.system for time in times))

    def settle(self) -> None:
        """Wait until the requests that its client gave up have ended, which would disturb the next measurement."""
        deadline, before = time.monotonic() + SETTLE_SECONDS, self.cpu()
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now = self.cpu()
            if now - before < 0.01:
                return
            before = now

    def suspend(self) -> None:
        """Suspend its processes, because idle servers also take time of the core that is measured."""
        for process in self._processes():
            process.suspend()

    def resume(self) -> None:
        """Continue its processes."""
        for process in self._processes():
            process.resume()

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextlib.contextmanager
def alone(name: str, up: Mapping[str, Server]) -> Iterator[Server]:
    """Yield the server of that name, while the other servers in `up` are suspended."""
    others = [server for other, server in up.items() if other != name]
    try:
        for server in others:
            server.suspend()
        yield up[name]
        up[name].settle()
    finally:
        for server in others:
            server.resume()


def release(data: Path) -> Path:
    """Return the folder of a release to serve, which the first call makes by a run of the pipeline."""
    home = environments.CACHE / "home"
    found = sorted(home.glob("store/models/digits/*/manifest.json"))
    if not found:
        settings = Settings(home=home, data=str(data.absolute()), port=0, grpc_port=0)
        pipeline.run(settings)
        predictor.stop_all(settings)
        found = sorted(home.glob("store/models/digits/*/manifest.json"))
    return found[-1].parent


def cores() -> tuple[str, str]:
    """Return (the server's core, the client's)."""
    ours = sorted(os.sched_getaffinity(0))
    return str(ours[0]), str(ours[-1])


@contextlib.contextmanager
def running(name: str, folder: Path, core: str = "") -> Iterator[Server]:
    """Start a server on a release's folder and end it; on `core` alone if that is given.

    Raises:
        environments.Unavailable: its environment cannot be made, or it does not get ready.
    """
    interpreter = environments.python(name)
    port, grpc_port = _free_port(), _free_port()
    with tempfile.TemporaryDirectory(prefix="digits-bench-") as scratch, Path(scratch, "log").open("wb") as log:
        command, extra = _command(name, interpreter, folder, Path(scratch), port, grpc_port)
        path = f"{interpreter.parent}{os.pathsep}{os.environ['PATH']}"
        environment = os.environ | {"MODEL": str(folder / "model.onnx"), "PORT": str(port), "PATH": path} | extra
        began = time.perf_counter()
        process = subprocess.Popen(
            [*(["taskset", "-c", core] if core else []), *command],
            cwd=scratch,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while not _ready(port, READY[name]):
                if process.poll() is not None or time.perf_counter() - began > READY_SECONDS:
                    log.flush()
                    raise environments.Unavailable(Path(scratch, "log").read_text(errors="replace")[-600:])
                time.sleep(0.01)
            yield Server(name, port, grpc_port, psutil.Process(process.pid), time.perf_counter() - began)
        finally:
            _end(process)


def _command(
    name: str, interpreter: Path, folder: Path, scratch: Path, port: int, grpc_port: int
) -> tuple[list[str], dict[str, str]]:
    """Return (command, environment variables), as in the server's own documentation."""
    python, here = str(interpreter), {"PYTHONPATH": str(ROOT), "DIGITS_HOME": str(scratch / "home")}
    if name == "digits":
        ports = ["--http-port", str(port), "--grpc-port", str(grpc_port)]
        return [python, "-m", "digits", "serve", "--model-dir", str(folder), *ports], here
    if name == "gateway":
        page = ["--endpoint", "http://127.0.0.1:1", "--no-open", "--port", str(port)]
        return [python, "-m", "digits", "web", *page], here
    if name == "bare":
        return [python, str(PEERS / "bare.py")], {}
    if name == "litserve":
        return [python, str(PEERS / "litserve_api.py")], {}
    if name == "kserve":
        return [python, str(PEERS / "kserve_sample.py"), "--http_port", str(port), "--grpc_port", str(grpc_port)], {}
    if name == "bentoml":
        serve = ["serve", "bento_service:Digits", "--working-dir", str(PEERS), "--host", "127.0.0.1", "-p", str(port)]
        quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(scratch)}
        return [str(interpreter.with_name("bentoml")), *serve], quiet
    if name == "mlflow":
        save = [python, str(PEERS / "mlflow_save.py"), str(folder / "model.onnx"), str(scratch / "model")]
        subprocess.run(save, check=True, timeout=READY_SECONDS, capture_output=True, cwd=scratch)
        serve = ["models", "serve", "-m", str(scratch / "model"), "-h", "127.0.0.1", "-p", str(port)]
        return [str(interpreter.with_name("mlflow")), *serve, "--env-manager", "local"], {}
    # On one core MLServer is quicker without a process of its own for inference.
    server = {"host": "127.0.0.1", "http_port": port, "grpc_port": grpc_port, "metrics_port": _free_port()}
    model = {"name": "digits", "implementation": "mlserver_runtime.Onnx", "parameters": {"uri": "."}}
    (scratch / "settings.json").write_text(json.dumps(server | {"debug": False, "parallel_workers": 0}))
    (scratch / "model-settings.json").write_text(json.dumps(model))
    return [str(interpreter.with_name("mlserver")), "start", str(scratch)], {"PYTHONPATH": str(PEERS)}


def peak(pid: int) -> int:
    """Return a process's peak memory in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def _ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

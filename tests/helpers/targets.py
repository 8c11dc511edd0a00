"""The servers that hostile requests are sent to, and the count of requests and responses."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

# Seconds to wait for a response to bytes that may not be a complete request.
RAW_SECONDS = 0.2
# A server that was flooded answers valid requests again after this many seconds: by then it has ended slow bodies.
OVERLOAD_SECONDS = 20.0


@dataclass
class Tally:
    """The number of requests and responses by server, and notes for the summary."""

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int | str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reported: int = 0  # how many failures `new_failures` has returned

    def count(self, target: str, status: int | str, what: object = "") -> None:
        """Count a request and its response. A 5xx other than 503 (overload) is a failure."""
        self.requests[target] += 1
        self.statuses[target, status] += 1
        if isinstance(status, int) and status >= 500 and status != 503:
            self.failures.append(f"{target} answered {status} to {str(what)[:2000]}")

    def new_failures(self) -> list[str]:
        """Return the failures since the last call, so that each belongs to one test."""
        new = self.failures[self.reported :]
        self.reported = len(self.failures)
        return new

    @property
    def total(self) -> int:
        """The number of all requests."""
        return sum(self.requests.values())


@dataclass
class Target:
    """A server under attack: its process, its address, and a request that it must answer.

    Attributes:
        good: method, path, headers and body of a valid request.
        right: the expected answer to it.
        most_bytes: the limit of its memory.
    """

    name: str
    process: subprocess.Popen[bytes]
    port: int
    tally: Tally
    log: Path
    good: tuple[str, str, dict[str, str], bytes]
    right: object
    most_bytes: int

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout: float = 30.0) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def raw(self, content: bytes) -> int | str:
        """Send raw bytes. Return the first response's status, or how the connection ended."""
        with self.connect() as client:
            status: int | str = "closed"
            client.settimeout(RAW_SECONDS)
            try:
                client.sendall(content)
                with contextlib.suppress(TimeoutError):
                    if came := client.recv(65536):
                        status = int(came[9:12])
            except ConnectionError:
                status = "reset"
        self.tally.count(self.name, status, content)
        return status

    def noise(self, content: bytes) -> None:
        """Send bytes that are not HTTP/1, and close the connection."""
        with self.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            client.recv(65536)
        self.tally.count(self.name, "noise")

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Yield a session whose requests share one connection."""
        session = Session(self)
        try:
            yield session
        finally:
            session.connection.close()

    def answers(self) -> object:
        """Send the valid request and return its answer, to be compared with `right`.

        A 503 asks the client to try again; an overload that lasts for OVERLOAD_SECONDS is returned.
        """
        deadline = time.monotonic() + OVERLOAD_SECONDS
        while True:
            status, said = self._ask()
            if status != 503 or time.monotonic() > deadline:
                break
            time.sleep(1)
        if "predictions" in said:
            return [[round(p, 4) for p in row] for row in said["predictions"]]
        return said.get("class", said)

    def _ask(self) -> tuple[int, dict[str, Any]]:
        method, path, headers, body = self.good
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def memory(self) -> int:
        """Return the process's peak memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status")
        if status.exists():
            return int(next(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line)) * 1024
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def descriptors(self) -> int:
        """Return the number of open files and connections."""
        return int(psutil.Process(self.process.pid).num_fds())


@dataclass
class Session:
    """Complete HTTP requests over one connection."""

    target: Target

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.target.port, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request. Return status and body; (0, b"") if the server closed the connection."""
        for attempt in range(2):
            try:
                self.connection.request(method, path, body, headers or {})
                answer = self.connection.getresponse()
                content = answer.read()
            except (ConnectionError, http.client.HTTPException):
                # The server may just have closed an idle connection, which is no response to this request.
                self.connection.close()
                if attempt:
                    self.target.tally.count(self.target.name, "closed", (method, path, headers, body))
                    return 0, b""
                continue
            self.target.tally.count(self.target.name, answer.status, (method, path, headers, body))
            return answer.status, content
        raise AssertionError("unreachable")

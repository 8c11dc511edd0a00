"""The processes under attack, and the account of what was sent to them and what they answered."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

# What the answer is waited for after bytes that may be no whole request.
PATIENCE = 0.2


@dataclass
class Tally:
    """What was sent and answered, by server; and what else is worth a line at the end."""

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int | str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: int = 0  # of the failures, by `new_failures`

    def count(self, target: str, status: int | str, what: object = "") -> None:
        """One request and its answer. A 5xx other than 503, the declared overload, is a failure."""
        self.requests[target] += 1
        self.statuses[target, status] += 1
        if isinstance(status, int) and status >= 500 and status != 503:
            self.failures.append(f"{target} answered {status} to {str(what)[:2000]}")

    def new_failures(self) -> list[str]:
        """The failures since this was last asked, so that each is one test's, which can be tried again."""
        new = self.failures[self.seen :]
        self.seen = len(self.failures)
        return new

    @property
    def total(self) -> int:
        """Of all requests."""
        return sum(self.requests.values())


@dataclass
class Target:
    """A server under attack: a process, its address, and how to see that it still does its work."""

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
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout: float = 30.0) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def raw(self, content: bytes) -> int | str:
        """Send bytes as they are; the first answer's status, or how it was refused."""
        with self.connect() as client:
            status: int | str = "closed"
            client.settimeout(PATIENCE)
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
        """Send what is no HTTP/1 and hang up."""
        with self.connect() as client, contextlib.suppress(ConnectionError):
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            client.recv(65536)
        self.tally.count(self.name, "noise")

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """Requests over one connection that is kept open."""
        session = Session(self)
        try:
            yield session
        finally:
            session.connection.close()

    def answers(self) -> object:
        """What it says to the good request: to be compared with `right`."""
        method, path, headers, body = self.good
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            said = json.loads(answer.read())
        finally:
            connection.close()
        if "predictions" in said:
            return [[round(p, 4) for p in row] for row in said["predictions"]]
        return said.get("class", said)

    def memory(self) -> int:
        """The most bytes of memory that it had so far."""
        status = Path(f"/proc/{self.process.pid}/status")
        if status.exists():
            return int(next(line.split()[1] for line in status.read_text().splitlines() if "VmHWM" in line)) * 1024
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def descriptors(self) -> int:
        """How many files and connections it has open."""
        return int(psutil.Process(self.process.pid).num_fds())


@dataclass
class Session:
    """Whole requests over one connection, with whatever in them."""

    target: Target

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.target.port, timeout=60)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request; (status, body), or (0, b"") where the server closed the connection instead."""
        for attempt in range(2):
            try:
                self.connection.request(method, path, body, headers or {})
                answer = self.connection.getresponse()
                content = answer.read()
            except (ConnectionError, http.client.HTTPException):
                # A connection that was kept may just have been closed, which is no answer to this request.
                self.connection.close()
                if attempt:
                    self.target.tally.count(self.target.name, "closed", (method, path, headers, body))
                    return 0, b""
                continue
            self.target.tally.count(self.target.name, answer.status, (method, path, headers, body))
            return answer.status, content
        raise AssertionError("unreachable")

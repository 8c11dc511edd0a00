"""Forwarding ports of a pod or Service to this machine with kubectl."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from backends.programs import kill_whole, need
from digits.errors import DigitsError

FORWARD_SECONDS = 20.0
MAX_LINES = 100  # of kubectl's output that wait to be read


@contextlib.contextmanager
def forwarded(kubeconfig: Path, namespace: str, target: str, *ports: int, local_port: int = 0) -> Iterator[list[int]]:
    """Forward `ports` of `target` (`pod/x` or `service/y`) to 127.0.0.1 while the block runs; yield the local ports.

    The first of `ports` gets `local_port`, unless that is 0; all others get free ports. kubectl forwards a Service to
    one of its pods, and stays with that pod.

    Raises:
        MissingError: kubectl is not installed.
        DigitsError: the ports were not forwarded within FORWARD_SECONDS; the message has kubectl's output.
    """
    command = ["kubectl", f"--kubeconfig={kubeconfig}", f"--namespace={namespace}", "port-forward", target]
    pairs = [f"{(local_port or '') if number == 0 else ''}:{port}" for number, port in enumerate(ports)]
    need("kubectl")
    child = subprocess.Popen(
        [*command, "--address=127.0.0.1", *pairs],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    lines: queue.Queue[str | None] = queue.Queue(MAX_LINES)
    reader = threading.Thread(target=_read, args=(child.stdout, lines), daemon=True)
    reader.start()
    try:
        look = f"kubectl --kubeconfig={kubeconfig} -n {namespace} get pods, which shows whether it is ready"
        port = "; or set DIGITS_PORT or DIGITS_WEB_PORT to a free port" if local_port else ""
        yield _forwarded_ports(target, len(ports), lines, look + port)
    finally:
        kill_whole(child)
        reader.join(5)


def _read(stream: IO[str] | None, lines: queue.Queue[str | None]) -> None:
    assert stream is not None  # noqa: S101 - Popen was called with PIPE
    with stream:
        for line in stream:  # to its end, because kubectl writes a line for each connection and must not wait
            with contextlib.suppress(queue.Full):
                lines.put_nowait(line)
    with contextlib.suppress(queue.Full):
        lines.put_nowait(None)


def _forwarded_ports(target: str, count: int, lines: queue.Queue[str | None], remedy: str) -> list[int]:
    ports: list[int] = []
    output: list[str] = []
    deadline = time.monotonic() + FORWARD_SECONDS
    while len(ports) < count:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            raise DigitsError(
                f"no port of {target} could be forwarded: {''.join(output).strip() or 'no answer'}",
                remedy=remedy,
            )
        output.append(line)
        if line.startswith("Forwarding from 127.0.0.1:"):
            ports.append(int(line.split(":")[1].split()[0]))
    return ports

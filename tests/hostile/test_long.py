"""Half an hour of load: memory and descriptors of predictor and gateway do not grow, and no request fails.

Left out unless asked for: `nox -s faults -- -m long`.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time

import psutil
import pytest
from targets import Target

SECONDS = 30 * 60.0
# What is kept from then on is meant to be kept: caches, pools and the allocator's arenas have filled by then.
WARM_SECONDS = 3 * 60.0
CLIENTS = 4
MOST_GROWTH = 24 << 20  # bytes, in all the time after that
pytestmark = [pytest.mark.long, pytest.mark.timeout(SECONDS + 600)]


def resident(target: Target) -> int:
    return int(psutil.Process(target.process.pid).memory_info().rss)


def test_half_an_hour_of_load(predictor: Target, gateway: Target) -> None:
    """Good requests, malformed ones and clients that go away, all the time: nothing grows, and no good one fails."""
    over = threading.Event()
    failed: list[str] = []

    def ask(target: Target, keep: bool) -> None:
        method, path, headers, body = target.good
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
        for turn in itertools.count():
            if over.is_set():
                break
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                said = json.loads(answer.read())
                target.tally.count(target.name, answer.status)
                if answer.status != 200 or not {"predictions", "class"} & set(said):
                    failed.append(f"{target.name}: {answer.status} {str(said)[:200]}")
            except Exception as exc:  # noqa: BLE001 # any failure counts
                failed.append(f"{target.name}: {exc!r}")
            if not keep:
                connection.close()
            if turn % 10 == 0:
                target.raw(b"POST /v1/models/digits:predict HTTP/1.1\r\nContent-Length: 9999\r\n\r\n{")
                target.raw(b"\xff\xfe\r\n\r\n")
        connection.close()

    threads = [
        threading.Thread(target=ask, args=(target, n % 2 == 0))
        for target in (predictor, gateway)
        for n in range(CLIENTS // 2)
    ]
    for thread in threads:
        thread.start()
    began, before = time.monotonic(), {}
    try:
        while time.monotonic() - began < SECONDS and not failed:
            time.sleep(5)
            if not before and time.monotonic() - began > WARM_SECONDS:
                before = {t.name: (resident(t), t.descriptors()) for t in (predictor, gateway)}
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert failed == []
    for target in (predictor, gateway):
        memory, descriptors = before[target.name]
        target.tally.notes.append(
            f"{target.name}, {SECONDS / 60:.0f} minutes of load: {memory >> 20} -> {resident(target) >> 20} MiB, "
            f"{descriptors} -> {target.descriptors()} descriptors"
        )
        assert resident(target) - memory < MOST_GROWTH
        assert target.descriptors() <= descriptors
        assert target.answers() == target.right

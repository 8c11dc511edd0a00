"""The heartbeat of a train step: an object in the store that it writes again every few seconds.

The pod of a step whose process was killed remains, and with it the TrainJob. Its workers end when the heartbeat stops.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from digits.errors import DigitsError, ObjectMissing
from digits.store import ObjectStore

PERIOD = 5.0  # seconds between two writes
SILENCE = 30.0  # seconds after which the step has ended


@contextlib.contextmanager
def beating(store: ObjectStore, key: str) -> Iterator[None]:
    """Write the object `key` every PERIOD seconds in a thread. A write that fails is left out."""
    stopped = threading.Event()

    def beat() -> None:
        while True:
            with contextlib.suppress(DigitsError):
                store.put(key, str(time.time_ns()).encode())
            if stopped.wait(PERIOD):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(SILENCE)


class Listener:
    """Measure how long the heartbeat of a step has been silent. The clocks of worker and step need not agree."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self._store, self._key = store, key
        self._last, self._heard = b"", time.monotonic()

    def silence(self) -> float:
        """Return the seconds since the object was seen to change; 0 if the store fails, which says nothing."""
        content: bytes | None = None
        with contextlib.suppress(DigitsError):
            try:
                content = self._store.get(self._key)
            except ObjectMissing:
                content = b""
        if content != self._last:
            self._last, self._heard = content or b"", time.monotonic()
        return time.monotonic() - self._heard

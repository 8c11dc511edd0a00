"""A bound on waiting requests that costs next to nothing: what comes above it is refused before it is parsed.

The event loop reads from every connection that has something to read before it answers any of it. Under more requests
than can be answered, reading, parsing and refusing them in the application would take the time that answers need; see
docs/scale.md.
"""

from __future__ import annotations

from typing import Any

import orjson

from digits.serving.connection import Bounded
from digits.serving.front import MAX_WAITING, REQUESTS

CONTENT = orjson.dumps({"error": "too many requests are waiting"})
# Probes are never refused.
_REFUSED = {b"POST /%s/models/" % name.encode(): REQUESTS.labels(name, "503") for name in ("v1", "v2")}
_START = len(b"POST /v1/models/")
_ANSWER = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(CONTENT), CONTENT)
)


class Shedding(Bounded):
    """A bounded connection that refuses whole predictions which arrive while MAX_WAITING requests are under way."""

    def data_received(self, data: bytes) -> None:
        """Refuse `data`, or take it."""
        refused = _REFUSED.get(data[:_START]) if len(self.tasks) >= MAX_WAITING else None
        if refused and self._between_requests() and _is_whole(data):
            refused.inc()
            self.transport.write(_ANSWER)
            self._await_request()
        else:
            super().data_received(data)

    def _between_requests(self) -> bool:
        cycle: Any = self.cycle
        return cycle is None or (cycle.response_complete and not cycle.more_body)


def _is_whole(data: bytes) -> bool:
    """Whether it is one whole request, on a connection that stays."""
    head, end, body = data.partition(b"\r\n\r\n")
    head = head.lower()
    length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0].strip()
    return bool(end) and length == str(len(body)).encode() and b"\r\nconnection: close" not in head

"""Small predictions, answered on the connection as soon as they have come.

uvicorn makes a task, an event and a few messages of every request, which for one image cost as much as the model; see
docs/performance.md. And it reads from every connection before it answers any of them, so that under more requests
than can be answered all of them wait in here. Answered as it comes, a request waits nowhere; how many are answered
before the event loop looks for new connections and probes is bounded, and the rest is refused, see docs/scale.md.
"""

from __future__ import annotations

import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from digits.serving.app import MAX_WAITING, SMALL_BODY, Front, refusal
from digits.serving.limits import Bounded

# A request with one of these goes the usual way, as does one without a length.
UNUSUAL = {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"}


class Direct(Bounded):
    """A bounded connection that answers small predictions itself and leaves all else to uvicorn and the application."""

    def __init__(self, front: Front, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._front = front
        self._protocol: str | None = None  # of the prediction that is coming, if it is answered here
        self._parts: list[bytes] = []
        self._started = 0.0
        self._ending = False

    def on_headers_complete(self) -> None:
        """Decide which way the request goes."""
        self._protocol = self._small_prediction()
        if self._protocol is None:
            super().on_headers_complete()
        else:
            self._useless, self._started = 0, time.perf_counter()

    def on_body(self, body: bytes) -> None:
        """Keep it."""
        if self._protocol is None:
            super().on_body(body)
        else:
            self._useless = 0
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        if self._protocol is None:
            super().on_message_complete()
            return
        self._useless = 0
        self._arrived()
        protocol, body = self._protocol, b"".join(self._parts)
        self._protocol, self._parts = None, []
        front = self._front
        if front.answered_this_turn == 0:
            self.loop.call_soon(self._next_turn)
        front.answered_this_turn += 1
        if front.answered_this_turn > MAX_WAITING:
            status, headers, content = refusal(503, "too many requests are waiting")
        else:
            status, headers, content = front.answer(protocol, self.headers, body)
        fields = [*self.server_state.default_headers, *headers, (b"content-length", b"%d" % len(content))]
        head = b"".join([name + b": " + value + b"\r\n" for name, value in fields])
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + content)
        front.count(protocol, status, self._started)
        self.on_response_complete()
        if self._ending:
            self.transport.close()

    def _next_turn(self) -> None:
        self._front.answered_this_turn = 0

    def shutdown(self) -> None:
        """The server ends: a prediction that is coming is still answered."""
        self._ending = True
        if self._protocol is None:
            super().shutdown()

    def _small_prediction(self) -> str | None:
        """The protocol of a prediction that can be answered here; None for all else."""
        cycle: Any = self.cycle  # None before the first request that goes the usual way, whatever uvicorn's types say
        others = cycle is not None and not cycle.response_complete
        if others or self.flow.write_paused or self._ending:
            return None
        if self.parser.get_method() != b"POST" or not self.parser.should_keep_alive():
            return None
        size = b""
        for name, value in self.headers:
            if name == b"content-length":
                size = value
            elif name in UNUSUAL:
                return None
        if not (0 < len(size) < 8 and size.isdigit() and int(size) <= SMALL_BODY):
            return None
        return self._front.protocols.get(self.url.decode("latin-1"))

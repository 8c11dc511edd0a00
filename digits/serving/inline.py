"""Small predictions, answered on the connection as soon as they have arrived.

uvicorn creates a task, an event and several messages per request, which for one image cost as much as the model; see
docs/performance.md. It also reads all ready connections before it answers any, so under overload every request waits.
Here each request is answered immediately. The number of answers per turn of the event loop is limited, so that new
connections and health probes are handled too; further requests are rejected, see docs/scale.md.
"""

from __future__ import annotations

import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from digits.serving.app import MAX_WAITING, SMALL_BODY, PredictApp, error_response
from digits.serving.limits import LimitedHttpProtocol

# Requests with one of these headers, or without a length, are left to uvicorn.
UNCOMMON_HEADERS = {b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"}


class InlinePredictProtocol(LimitedHttpProtocol):
    """A connection that answers small predictions itself and leaves all other requests to uvicorn."""

    def __init__(self, predict_app: PredictApp, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._predict_app = predict_app
        self._protocol: str | None = None  # key of PROTOCOLS of the arriving prediction, if it is answered here
        self._parts: list[bytes] = []
        self._started = 0.0
        self._shutting_down = False

    def on_headers_complete(self) -> None:
        """Decide whether the request is answered here."""
        self._protocol = self._small_prediction()
        if self._protocol is None:
            super().on_headers_complete()
        else:
            self._header_bytes, self._started = 0, time.perf_counter()

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body."""
        if self._protocol is None:
            super().on_body(body)
        else:
            self._header_bytes = 0
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer the request."""
        if self._protocol is None:
            super().on_message_complete()
            return
        self._header_bytes = 0
        self._stop_read_timer()
        app, protocol, body = self._predict_app, self._protocol, b"".join(self._parts)
        self._protocol, self._parts = None, []
        if app.answered_this_turn == 0:
            self.loop.call_soon(self._next_turn)
        app.answered_this_turn += 1
        if app.answered_this_turn > MAX_WAITING:
            status, headers, content = error_response(503, "too many requests are waiting")
        else:
            status, headers, content = app.predict(protocol, self.headers, body)
        fields = [*self.server_state.default_headers, *headers, (b"content-length", b"%d" % len(content))]
        head = b"".join([name + b": " + value + b"\r\n" for name, value in fields])
        self.transport.write(STATUS_LINE[status] + head + b"\r\n" + content)
        app.record(protocol, status, self._started)
        self.on_response_complete()
        if self._shutting_down:
            self.transport.close()

    def _next_turn(self) -> None:
        self._predict_app.answered_this_turn = 0

    def shutdown(self) -> None:
        """Close the connection when the server stops; a prediction that is arriving is answered first."""
        self._shutting_down = True
        if self._protocol is None:
            super().shutdown()

    def _small_prediction(self) -> str | None:
        """Return the protocol of a prediction that can be answered here, or None."""
        cycle: Any = self.cycle  # None until uvicorn handles a request here, although its types exclude that
        busy = cycle is not None and not cycle.response_complete
        if busy or self.flow.write_paused or self._shutting_down:
            return None
        if self.parser.get_method() != b"POST" or not self.parser.should_keep_alive():
            return None
        size = b""
        for name, value in self.headers:
            if name == b"content-length":
                size = value
            elif name in UNCOMMON_HEADERS:
                return None
        if not (0 < len(size) < 8 and size.isdigit() and int(size) <= SMALL_BODY):
            return None
        return self._predict_app.protocols.get(self.url.decode("latin-1"))

"""An HTTP connection with limits, for the predictor and the gateway: on time, header size, pipelining and unread data.

uvicorn waits for the rest of a request's headers without a timeout, accepts headers of any size, and closes a
connection only after the client has read every response. A few slow or greedy clients could block all others.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from digits.serving.connections import MAX_CONNECTIONS

# Seconds in which a whole request must arrive, from its first byte (for the first request: from the connection).
REQUEST_SECONDS = 15.0
# Seconds in which the client must read a response; twice as long if it finished reading an earlier one meanwhile.
RESPONSE_SECONDS = 15.0
MAX_PIPELINED = 16  # requests per connection that wait for earlier responses
# Bytes per request outside its body (headers, trailers, chunk extensions). Checked after each read, so that a request
# may exceed it by one read.
MAX_HEADER_BYTES = 64 * 1024


class LimitedHttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP connection, closed if the client sends too slowly, sends no request, or reads no response."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._drained = True  # whether the write buffer has been empty since the write timer started
        self._header_bytes = 0
        self._current_cycle: Any = None  # the request being answered; uvicorn's `cycle` is the newest, which may wait

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Start the read timer, or reject the connection if there are too many."""
        super().connection_made(transport)
        # `high` is the event loop's default; with low=0, `resume_writing` is called only when the buffer is empty.
        transport.set_write_buffer_limits(high=64 * 1024, low=0)
        if len(self.connections) > MAX_CONNECTIONS:
            self._reject(503, "too many connections")
        else:
            self._start_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers and drop the response that is being sent."""
        self._drop_responses()
        self._stop_read_timer()
        if self._write_timer:
            self._write_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse `data`, and count the bytes received since the last complete headers or part of a body."""
        if self._read_timer is None:
            self._start_read_timer()
        if not self._drained:  # a client that sends another request has usually read the last response
            self._drained = not self.transport.get_write_buffer_size()
        self._header_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():  # uvicorn rejected the data
            self._drop_responses()
        elif self._header_bytes > MAX_HEADER_BYTES:
            self._reject(431, f"expected at most {MAX_HEADER_BYTES} bytes of headers")

    def on_message_begin(self) -> None:
        """Restart the read timer at a request's first byte."""
        super().on_message_begin()
        self._start_read_timer()

    def on_headers_complete(self) -> None:
        """Start the request, or queue it behind the one being answered."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise ValueError("too many requests sent ahead")  # uvicorn turns it into a 400
        self._header_bytes = 0
        super().on_headers_complete()
        if not self.pipeline:
            self._current_cycle = self.cycle

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body."""
        self._header_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the read timer: the whole request has arrived."""
        self._header_bytes = 0
        self._stop_read_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the write timer; uvicorn continues with the next request."""
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._current_cycle = following
        self._start_write_timer()

    def pause_writing(self) -> None:
        """Start the write timer: the write buffer is full."""
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        """Note that the client has read everything."""
        super().resume_writing()
        self._drained = True

    def _start_read_timer(self) -> None:
        self._stop_read_timer()
        message = f"the request did not arrive within {REQUEST_SECONDS:.0f} s"
        self._read_timer = self.loop.call_later(REQUEST_SECONDS, self._reject, 408, message)

    def _stop_read_timer(self) -> None:
        if self._read_timer:
            self._read_timer.cancel()
            self._read_timer = None

    def _start_write_timer(self) -> None:
        if self._write_timer is None and self.transport.get_write_buffer_size():
            self._drained = False
            self._write_timer = self.loop.call_later(RESPONSE_SECONDS, self._on_write_timeout)

    def _on_write_timeout(self) -> None:
        self._write_timer = None
        if self._drained:
            self._start_write_timer()  # for a newer response, whose time has not passed
        elif self.transport.get_write_buffer_size():
            self.transport.abort()

    def _reject(self, status: int, message: str) -> None:
        """Close the connection, with an error response unless another response has started."""
        self._stop_read_timer()
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request, although uvicorn's types exclude that
        if cycle is None or cycle.response_complete or not cycle.response_started:
            content = b'{"error":"%s"}' % message.encode()
            head = [
                STATUS_LINE[status],
                b"content-type: application/json\r\n",
                b"content-length: %d\r\n" % len(content),
                b"retry-after: 1\r\n" if status == 503 else b"",
                b"connection: close\r\n\r\n",
            ]
            self.transport.write(b"".join([*head, content]))
        self.transport.close()
        self._drop_responses()
        self._start_write_timer()

    def _drop_responses(self) -> None:
        """Mark unfinished responses as disconnected, because uvicorn would still write them."""
        for cycle in {self._current_cycle, self.cycle} - {None}:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

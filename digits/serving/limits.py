"""One HTTP connection to a server of ours, predictor or gateway: nothing on it may last for ever or grow without end.

uvicorn waits for the rest of a request's head as long as it takes, keeps heads of any size, and closes a connection
only after all that was answered on it has been fetched. A few slow or greedy clients would then keep everybody else
away.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

# A request must have arrived whole within this time, from its first byte or, the first one, from the connection.
REQUEST_SECONDS = 15.0
# What was answered must be fetched within this time, or within twice of it if another answer was fetched meanwhile.
ANSWER_SECONDS = 15.0
MOST_CONNECTIONS = 512
# gRPC's, which counts its own: both fit into the 1,024 descriptors that a process may usually have.
MOST_GRPC_CONNECTIONS = 256
MOST_PIPELINED = 16
# Of a head, a trailer, or what else comes without being part of a body; measured to the block that was read.
MOST_HEAD = 64 * 1024


class Bounded(HttpToolsProtocol):
    """uvicorn's connection, which ends when its client is too slow, sends no request, or fetches no answer."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._fetched = True  # whether everything written has once left since that timer began
        self._useless = 0
        self._answering: Any = None  # uvicorn's `cycle` is the newest request's, which may wait behind this one's

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begin to wait for a request; where there are too many connections already, say so and close."""
        super().connection_made(transport)
        # As the event loops' own, but for the lower one, by which `resume_writing` says that everything has left.
        transport.set_write_buffer_limits(high=64 * 1024, low=0)
        if len(self.connections) > MOST_CONNECTIONS:
            self._refuse(503, "too many connections")
        else:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines, and the answer that is under way."""
        self._give_up()
        self._arrived()
        if self._leaving:
            self._leaving.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; bytes that bring neither a head to its end nor a body further are counted."""
        if self._arriving is None:
            self._await_request()
        if not self._fetched:  # who asks on has usually fetched what was answered
            self._fetched = not self.transport.get_write_buffer_size()
        self._useless += len(data)
        super().data_received(data)
        if self.transport.is_closing():  # uvicorn refused what came
            self._give_up()
        elif self._useless > MOST_HEAD:
            self._refuse(431, f"expected at most {MOST_HEAD} bytes of headers")

    def on_message_begin(self) -> None:
        """A request's first byte: its time begins."""
        super().on_message_begin()
        self._await_request()

    def on_headers_complete(self) -> None:
        """A whole head."""
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests sent ahead")  # uvicorn makes it a 400
        self._useless = 0
        super().on_headers_complete()
        if not self.pipeline:
            self._answering = self.cycle

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._useless = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A whole request."""
        self._useless = 0
        self._arrived()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """A whole answer; uvicorn then begins to wait for the next request."""
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        self._answering = following
        self._await_leaving()

    def pause_writing(self) -> None:
        """So much of an answer waits to be fetched that no more is written."""
        super().pause_writing()
        self._await_leaving()

    def resume_writing(self) -> None:
        """Everything has been fetched."""
        super().resume_writing()
        self._fetched = True

    def _await_request(self) -> None:
        self._arrived()
        message = f"the request did not arrive within {REQUEST_SECONDS:.0f} s"
        self._arriving = self.loop.call_later(REQUEST_SECONDS, self._refuse, 408, message)

    def _arrived(self) -> None:
        if self._arriving:
            self._arriving.cancel()
            self._arriving = None

    def _await_leaving(self) -> None:
        if self._leaving is None and self.transport.get_write_buffer_size():
            self._fetched = False
            self._leaving = self.loop.call_later(ANSWER_SECONDS, self._left)

    def _left(self) -> None:
        self._leaving = None
        if self._fetched:
            self._await_leaving()  # what is written now has been for a shorter time
        elif self.transport.get_write_buffer_size():
            self.transport.abort()

    def _refuse(self, status: int, message: str) -> None:
        """Close the connection, with an answer unless one is under way."""
        self._arrived()
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's types say
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
        self._give_up()
        self._await_leaving()

    def _give_up(self) -> None:
        """What is still being answered goes to nobody; uvicorn would write it all the same."""
        for cycle in {self._answering, self.cycle} - {None}:
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

"""The events that report a run's progress: one JSON object per line, appended to the file DIGITS_EVENTS.

    {"event": KIND, "step": …, "time": …, …}

KIND is started, entered, cached, finished, failed, progress, mlflow or outputs. The time is in seconds since 1970.
On a cluster, the file is the step's standard output, so the events are lines of the pod's log.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from digits.errors import DigitsError, mask_url
from digits.files import parse_json

VARIABLE = "DIGITS_EVENTS"

Event = dict[str, Any]


def emit(event: str, step: str = "", **details: Any) -> None:
    """Append one event, if the environment names a file for it. Credentials in URLs are masked.

    Each event is a single write with O_APPEND, so the lines of several processes do not mix.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    masked = {name: mask_url(value) if isinstance(value, str) else value for name, value in details.items()}
    line = json.dumps({"event": event, "step": step, "time": time.time(), **masked}) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


@contextlib.contextmanager
def reported(step: str) -> Iterator[None]:
    """Emit an event "entered", and "failed" with cause, remedy and exit code if the block or function raises.

    "entered" shows which step a log belongs to, even if the step is killed.
    """
    emit("entered", step)
    try:
        yield
    except DigitsError as exc:
        sys.excepthook = _print_masked
        emit("failed", step, cause=exc.message, remedy=exc.remedy, exit_code=exc.exit_code)
        raise
    except Exception as exc:
        sys.excepthook = _print_masked
        remedy, exit_code = "", 1
        if isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            remedy, exit_code = "free some space, or set DIGITS_HOME to another disk", 3
        elif is_out_of_memory(exc):
            remedy, exit_code = "give it more memory, then digits run --resume", 3
        cause = f"{type(exc).__name__}: {exc}".removesuffix(": ")  # Python's own MemoryError has no message
        emit("failed", step, cause=cause, remedy=remedy, exit_code=exit_code)
        raise


def _print_masked(_: type[BaseException], exc: BaseException, __: TracebackType | None) -> None:
    """Print a traceback without the credentials that the libraries' messages in it may hold."""
    sys.stderr.write(mask_url("".join(traceback.format_exception(exc))))


def is_out_of_memory(exc: Exception) -> bool:
    """Return whether `exc` is one of the errors that a lack of memory causes."""
    loader = isinstance(exc, ImportError) and "failed to map segment" in str(exc)  # from the dynamic loader
    of_tensorflow = type(exc).__name__ == "ResourceExhaustedError"  # also of a GPU's memory
    return (
        loader
        or of_tensorflow
        or isinstance(exc, MemoryError)
        or (isinstance(exc, OSError) and exc.errno == errno.ENOMEM)
    )


class EventLog:
    """Reads a growing file of events."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def read_new(self) -> list[Event]:
        """Return the events appended since the last call. The next call returns a line that is incomplete now."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return [event for line in complete.splitlines() if (event := _parse(line))]


def _parse(line: bytes) -> Event:
    """Return the event in a line; {} if there is none, for example because a full disk truncated the line."""
    try:
        event = parse_json(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) and {"event", "step", "time"} <= event.keys() else {}

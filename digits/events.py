"""What a run tells its watcher while it goes: one JSON object a line, appended to the file DIGITS_EVENTS.

    {"event": "started" | "cached" | "finished" | "failed" | "progress" | "mlflow" | "outputs", "step": …, "time": …, …}

On a cluster that file is the step's standard output, so that these lines can be read in its pod's log.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from digits.errors import DigitsError, mask_url

VARIABLE = "DIGITS_EVENTS"

Event = dict[str, Any]


def tell(event: str, step: str = "", **details: Any) -> None:
    """Append one event, with what a URL in its texts keeps before the @ masked.

    One small write with O_APPEND, so that writers in several processes don't mix.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return
    shown = {name: mask_url(value) if isinstance(value, str) else value for name, value in details.items()}
    line = json.dumps({"event": event, "step": step, "time": time.time(), **shown}) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


@contextlib.contextmanager
def reported(step: str) -> Iterator[None]:
    """Tell why `step` failed, if it fails, before the error goes on to end the process."""
    try:
        yield
    except DigitsError as exc:
        tell("failed", step, cause=exc.message, remedy=exc.remedy, exit_code=exc.exit_code)
        raise
    except Exception as exc:
        remedy, exit_code = "", 1
        if isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            remedy, exit_code = "free some space, or set DIGITS_HOME to another disk", 3
        elif _lacks_memory(exc):
            remedy, exit_code = "give it more memory, then digits run --resume", 3
        cause = f"{type(exc).__name__}: {exc}".removesuffix(": ")  # Python's own MemoryError has no message
        tell("failed", step, cause=cause, remedy=remedy, exit_code=exit_code)
        raise


def _lacks_memory(exc: Exception) -> bool:
    """Whether an error is one of those in which memory that is not there shows."""
    loading = isinstance(exc, ImportError) and "failed to map segment" in str(exc)  # as the loader of libraries puts it
    return loading or isinstance(exc, MemoryError) or (isinstance(exc, OSError) and exc.errno == errno.ENOMEM)


class Reader:
    """Reads a growing file of events; each call returns those that are new and whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def new(self) -> list[Event]:
        """The events appended since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._at += len(whole)
        return [event for line in whole.splitlines() if (event := _event(line))]


def _event(line: bytes) -> Event:
    """The event of a line; {} for one that was cut, as a full disk does."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"event", "step", "time"} <= found.keys() else {}

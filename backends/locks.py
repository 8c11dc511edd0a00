"""Lock files in DIGITS_HOME. The kernel releases a lock when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from digits.errors import DigitsError
from digits.files import cannot_write


@contextmanager
def locked(path: Path, seconds: float, action: str) -> Iterator[None]:
    """Hold the lock `path` while the block runs, so that one program at a time does `action`.

    Args:
        path: the lock file; its folder is created.
        seconds: how long to wait for another program that holds the lock.
        action: the action under the lock ("start the predictor"), for the error message.

    Raises:
        DigitsError: another program held the lock for `seconds`, or the file system refused the lock file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path).acquire(timeout=seconds)
    except Timeout as exc:
        raise DigitsError(
            f"cannot {action}: another `digits` has held {path} for {seconds:.0f} s",
            remedy=f"wait for it, or end it (fuser {path} shows its id), then try again",
        ) from exc
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    with lock:
        yield


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock `path`."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that concurrent checks do not conflict
    except BlockingIOError:
        return True
    except OSError:  # there is no such file
        return False
    return False


def remove(path: Path) -> None:
    """Remove a lock file, unless a process holds the lock: another one would make a second file and not wait."""
    with contextlib.suppress(Timeout, OSError), FileLock(path).acquire(timeout=0):
        path.unlink()

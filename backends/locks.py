"""One program at a time: a lock file in DIGITS_HOME, whose holder is not waited for without end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from digits.errors import DigitsError
from digits.files import cannot_write


@contextmanager
def locked(path: Path, seconds: float, what: str) -> Iterator[None]:
    """Hold the lock `path` while the block runs. `what`: what it is held for, "start the predictor", for the message.

    Raises:
        DigitsError: another program has held it all those seconds, or the file system refused the lock file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path).acquire(timeout=seconds)
    except Timeout as exc:
        raise DigitsError(
            f"cannot {what}: another `digits` has held {path} for {seconds:.0f} s",
            remedy=f"wait for it, or end it (fuser {path} shows which it is), then do this again",
        ) from exc
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    with lock:
        yield

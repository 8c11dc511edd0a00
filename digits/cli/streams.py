"""Standard input, output and error that may be closed, full, non-blocking or of another encoding."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING

from digits.errors import DigitsError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

BLOCKED_SECONDS = 30.0  # how long the reader of a non-blocking pipe may read nothing


class _Output(io.FileIO):
    """A file descriptor for output. After an error, further output is dropped, so that the command does its work.

    Only an error on standard output is raised, except that its reader has gone (`| head`), and only once.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            while (written := super().write(data)) is None:
                if not select.select([], [self], [], BLOCKED_SECONDS)[1]:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        except OSError as exc:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())
            os.close(null)
            if self.fileno() == 1 and exc.errno != errno.EPIPE:
                raise DigitsError(
                    f"cannot write to standard output: {exc.strerror}",
                    remedy="redirect it to a place that can be written",
                ) from exc
            return memoryview(data).nbytes
        return int(written)


def prepare() -> None:
    """Make the three standard streams usable: a closed one becomes /dev/null, and no text fails for its encoding.

    A closed descriptor is opened, because otherwise the next file that the program opens would get its number.
    """
    for handle in range(3):
        try:
            os.fstat(handle)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is `handle`
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 # it stays open
    for handle, name in ((1, "stdout"), (2, "stderr")):
        present = getattr(sys, name)
        if present is getattr(sys, f"__{name}__"):  # not replaced by a caller of `main`
            raw = io.BufferedWriter(_Output(handle, "w", closefd=False))
            encoding = present.encoding if present else "utf-8"
            setattr(sys, name, io.TextIOWrapper(raw, encoding, errors="replace", line_buffering=True))

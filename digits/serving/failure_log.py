"""The log of unexpected errors, which no client can fill."""

from __future__ import annotations

import logging
import math
import time

from digits.errors import DigitsError

LOG_SECONDS = 60.0  # between two entries


class FailureLog:
    """The entries of one server, in the logger `name`."""

    def __init__(self, name: str) -> None:
        self._log, self._last = logging.getLogger(name), -math.inf

    def write(self, exc: Exception) -> None:
        """Log why a request failed, with a traceback unless it is an error of ours; at most once in LOG_SECONDS."""
        if time.monotonic() > self._last + LOG_SECONDS:
            self._last = time.monotonic()
            text = "a request failed: %s; further failures are not logged for %g s"
            self._log.error(text, exc, LOG_SECONDS, exc_info=None if isinstance(exc, DigitsError) else exc)

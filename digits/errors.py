"""The errors a user can meet; each says what was expected, what came, and what to do next.

DigitsError                 exit code 1: the run failed
├── UsageError              2: the request makes no sense
├── MissingError            3: something needed is absent; the message says how to get it
│   └── StoreUnreachable    the object store did not answer
├── DataError               a data set is damaged or is not what it claims to be
├── StoreError              the object store refused
│   ├── ObjectMissing       no object under that key
│   └── DigestMismatch      an object's content is not what its digest says
├── ReleaseError            a release is missing, incomplete or damaged
├── StepFailed              a pipeline step failed; carries the step's name and its log
├── EndpointError           the endpoint is not reachable, not ready, or answered wrongly
├── RunContinues            4: the run continues where it runs, but can no longer be watched from here
└── Interrupted             130: stopped by the user
"""

from __future__ import annotations

import re
from pathlib import Path

MASK = "<SECRET>"
_USER = re.compile(r"://[^/\s]+@")


def mask_url(text: str) -> str:
    """`text` with what stands before the @ of each URL in it replaced, so that it can be shown.

    All of it, since a token may stand where the user does; a / in one is to be written %2F.
    """
    return _USER.sub(f"://{MASK}@", text)


class DigitsError(Exception):
    """Something failed. `remedy` is the next thing to try, in one sentence or command. No URL's password shows."""

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = mask_url(message)
        self.remedy = mask_url(remedy)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.remedy}" if self.remedy else self.message


class UsageError(DigitsError):
    """The request makes no sense as given."""

    exit_code = 2


class MissingError(DigitsError):
    """Something needed is not there."""

    exit_code = 3


class StoreUnreachable(MissingError):
    """The object store did not answer in time."""


class DataError(DigitsError):
    """A data set is damaged or is not what it claims to be."""


class StoreError(DigitsError):
    """The object store refused a request."""


class ObjectMissing(StoreError):
    """There is no object under that key."""


class DigestMismatch(StoreError):
    """An object's content is not what its digest says."""


class ReleaseError(DigitsError):
    """A release is missing, incomplete or damaged."""


class StepFailed(DigitsError):
    """A pipeline step failed."""

    def __init__(self, step: str, cause: str, *, log: Path | None = None, remedy: str = "") -> None:
        where = f" (log: {log})" if log else ""
        super().__init__(f"step {step} failed: {cause}{where}", remedy=remedy)
        self.step, self.cause, self.log = step, cause, log


class EndpointError(DigitsError):
    """The endpoint is not reachable, not ready, or answered wrongly."""


class RunContinues(DigitsError):
    """A run that continues where it runs, and may succeed, but can no longer be watched from here."""

    exit_code = 4


class Interrupted(DigitsError):
    """The user stopped the run."""

    exit_code = 130

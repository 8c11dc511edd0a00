"""The result of a check of an installation: by `digits doctor`, by `digits acceptance` and in the latter's pod."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from digits.errors import DigitsError, UsageError, mask_url

CHECK_SECONDS = 40.0  # the imports of a check take ten on a machine that is busy


@dataclass(frozen=True)
class Finding:
    """The result of one check. `ok` is None if something is absent or unusual that is not needed.

    `remedy` is omitted if `ok`. `tested` is the range of versions that this project was tested with, if `found` is a
    version.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str = ""
    tested: str = ""

    def __post_init__(self) -> None:
        if self.ok:
            object.__setattr__(self, "remedy", "")


def start_check(name: str, needed: bool, check: Callable[[], str | Finding]) -> Callable[[], Finding]:
    """Begin a check in a thread. Return a function that waits for its finding, as `run_check` returns it.

    A check that has no result after CHECK_SECONDS has failed; its thread does not keep the program from ending.
    """
    until, result = time.monotonic() + CHECK_SECONDS, Future[Finding]()

    def run() -> None:
        try:
            result.set_result(run_check(name, needed, check))
        except BaseException as exc:  # noqa: BLE001 # raised in the caller's thread
            result.set_exception(exc)

    def wait() -> Finding:
        try:
            return result.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            found = f"no result within {CHECK_SECONDS:.0f} s"
            return Finding(name, False if needed else None, found, "look into the log of that server")

    threading.Thread(target=run, daemon=True).start()
    return wait


def run_check(name: str, needed: bool, check: Callable[[], str | Finding]) -> Finding:
    """Return the finding of `check`. An error makes it False if `needed` or if a setting is invalid, else None."""
    try:
        result = check()
        return result if isinstance(result, Finding) else Finding(name, True, mask_url(result))
    except DigitsError as exc:
        failed = needed or isinstance(exc, UsageError)
        return Finding(name, False if failed else None, exc.message, exc.remedy)

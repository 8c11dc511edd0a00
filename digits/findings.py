"""The result of a check of an installation: by `digits doctor`, by `digits acceptance` and in the latter's pod."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from digits.errors import DigitsError, UsageError, mask_url


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


def run_check(name: str, needed: bool, check: Callable[[], str | Finding]) -> Finding:
    """Return the finding of `check`. An error makes it False if `needed` or if a setting is invalid, else None."""
    try:
        result = check()
        return result if isinstance(result, Finding) else Finding(name, True, mask_url(result))
    except DigitsError as exc:
        failed = needed or isinstance(exc, UsageError)
        return Finding(name, False if failed else None, exc.message, exc.remedy)

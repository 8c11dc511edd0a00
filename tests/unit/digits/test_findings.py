"""The result of a check."""

from __future__ import annotations

import pytest

from digits.errors import DigitsError, MissingError, UsageError
from digits.findings import Finding, run_check


@pytest.mark.parametrize(
    ("error", "needed", "ok"),
    [(MissingError, True, False), (MissingError, False, None), (UsageError, False, False)],
)
def test_an_error_is_a_finding(error: type[DigitsError], needed: bool, ok: bool | None) -> None:
    """A missing part fails if it is needed; an invalid setting always fails."""

    def check() -> str:
        raise error("missing", remedy="make it")

    assert run_check("x", needed, check) == Finding("x", ok, "missing", "make it")


def test_a_text_has_passed_and_shows_no_password() -> None:
    """A check that returns a text has passed; credentials in it are masked."""
    assert "secret" not in run_check("x", True, lambda: "http://me:secret@host").found


@pytest.mark.parametrize(("ok", "remedy"), [(True, ""), (None, "make it"), (False, "make it")])
def test_a_remedy_is_only_for_what_has_not_passed(ok: bool | None, remedy: str) -> None:
    """A finding that passed has no remedy, whatever the check states."""
    assert Finding("x", ok, "found", "make it").remedy == remedy

"""The result of a check."""

from __future__ import annotations

import threading

import pytest

from digits import findings
from digits.errors import DigitsError, MissingError, UsageError
from digits.findings import Finding, run_check, start_check


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


@pytest.mark.parametrize(("needed", "ok"), [(True, False), (False, None)])
def test_a_check_that_hangs_is_a_finding(needed: bool, ok: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check without a result at its deadline is reported, and failed only if it is needed."""
    monkeypatch.setattr(findings, "CHECK_SECONDS", 0.05)
    finding = start_check("x", needed, lambda: str(threading.Event().wait(60)))()
    assert (finding.ok, "no result within" in finding.found) == (ok, True)


def test_checks_run_at_the_same_time_and_their_bugs_are_raised() -> None:
    """Checks that are started together do not wait for each other; an unexpected exception is raised by its result."""
    together = threading.Barrier(2, timeout=60)
    waiting = [start_check(name, True, lambda: str(together.wait())) for name in ("a", "b")]
    assert sorted(wait().found for wait in waiting) == ["0", "1"]
    with pytest.raises(ZeroDivisionError):
        start_check("x", True, lambda: str(1 / 0))()

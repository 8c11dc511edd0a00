"""Running probes: dependencies, deadlines and errors."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from backends.acceptance.probe import FAILED, PASSED, SKIPPED, Context, NotAsked, Probe, chosen, run_probes
from digits.errors import MissingError
from digits.findings import Finding
from digits.settings import Settings


def passes(_: Context) -> Iterator[Finding]:
    yield Finding("x", True, "fine")


def raises(_: Context) -> Iterator[Finding]:
    yield Finding("x", True, "fine")
    raise MissingError("it is missing", remedy="make it")


def hangs(context: Context) -> Iterator[Finding]:
    context.stopped.wait(30)
    yield Finding("x", True, "too late")


def unasked(_: Context) -> Iterator[Finding]:
    raise NotAsked("not used")
    yield


def test_a_probe_is_skipped_without_what_it_needs(settings: Settings) -> None:
    """After a failed or skipped probe those that need it are skipped, and the others run."""
    table = (
        Probe("a", "", raises),
        Probe("b", "", passes, ("a",)),
        Probe("c", "", unasked),
        Probe("d", "", passes, ("c",)),
        Probe("e", "", passes),
    )
    states = {outcome.name: outcome.state for outcome in run_probes(table, Context(settings))}
    assert states == {"a": FAILED, "b": SKIPPED, "c": SKIPPED, "d": SKIPPED, "e": PASSED}


def test_a_probe_that_hangs_fails(settings: Settings) -> None:
    """A probe fails at its deadline, and is asked to end."""
    began = time.monotonic()
    (outcome,) = run_probes((Probe("a", "", hangs, seconds=0.1),), Context(settings))
    assert (outcome.state, time.monotonic() - began < 3) == (FAILED, True)


def test_a_bug_in_a_probe_is_raised(settings: Settings) -> None:
    """An exception that is not one of ours ends the run."""

    def broken(_: Context) -> Iterator[Finding]:
        yield Finding("x", True, str(1 // 0))

    with pytest.raises(ZeroDivisionError):
        list(run_probes((Probe("a", "", broken),), Context(settings)))


def test_named_probes_bring_what_they_need() -> None:
    """`--only` adds what the named probes need, also indirectly, in the order of the table."""
    table = tuple(
        Probe(name, "", passes, needs) for name, needs in (("a", ()), ("b", ("a",)), ("c", ("b",)), ("d", ()))
    )
    assert [probe.name for probe in chosen(table, frozenset({"c"}))] == ["a", "b", "c"]
    assert chosen(table, frozenset()) == list(table)

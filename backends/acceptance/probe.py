"""The form of a probe, and the function that runs a table of probes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from backends.kserve.kube import SHAPE_ERRORS, Json, Kube, RefusedError, is_odd_answer
from digits.errors import DigitsError
from digits.findings import Finding
from digits.settings import Settings

STOP_SECONDS = 90.0
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class NotAsked(DigitsError):
    """The probe does not apply to this installation; the message has the reason."""


@dataclass
class Context:
    """The state that the probes of one acceptance run share.

    Attributes:
        settings: as they are on this machine.
        named: the names of the probes that the user asked for, and of what they need; empty for all.
        stopped: is set if the running probe must end, because its time is over or the user interrupted it.
        cancel: is called then, too.
        lines: what the probe's pod wrote, {probe: findings}; see `pod_probes`.
    """

    settings: Settings
    named: frozenset[str] = frozenset()
    stopped: threading.Event = field(default_factory=threading.Event)
    cancel: Callable[[], None] = lambda: None
    lines: dict[str, list[Finding]] = field(default_factory=dict)

    @cached_property
    def kube(self) -> Kube:
        """Return the client of the cluster. Raises MissingError if none is known."""
        return Kube.connect(self.settings)

    @property
    def namespace(self) -> str:
        """Return the namespace of runs and endpoint."""
        return self.settings.namespace

    def path(self, group: str, kind: str, name: str = "") -> str:
        """Return the API path of an object, or of a list of objects, of the namespace; `group` is such as apps/v1."""
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        return f"{root}/namespaces/{self.namespace}/{kind}{f'/{name}' if name else ''}"

    def steps_settings(self) -> Mapping[str, str]:
        """Return the ConfigMap with the settings of the steps; {} if there is none."""
        item = self.kube.get(self.path("v1", "configmaps", self.settings.config_map))
        return (item or {}).get("data") or {}

    def readable(self, path: str) -> Json | None:
        """Return an object or a list outside of the namespace; None if it is absent or we may not read it."""
        with suppress(RefusedError):
            return self.kube.get(path)
        return None


@dataclass(frozen=True)
class Probe:
    """One part of an acceptance run.

    Attributes:
        name: as in `--only`.
        title: what the probe checks.
        function: yields the findings. It may raise DigitsError, which is a finding too, or NotAsked.
        needs: the probes without which this one has no meaning. It is skipped if one of them has failed.
        seconds: the deadline of the whole probe.
        creates: whether it creates something in the cluster, which it removes again.
    """

    name: str
    title: str
    function: Callable[[Context], Iterator[Finding]]
    needs: tuple[str, ...] = ()
    seconds: float = 60.0
    creates: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a probe ended: PASSED, FAILED or SKIPPED, the findings, and its duration in seconds."""

    name: str
    title: str
    state: str
    findings: tuple[Finding, ...]
    seconds: float

    def summary(self) -> Finding:
        """Return one finding for the probe: the failed ones, else the unusual ones, else all of them."""
        rows: list[Finding] = []
        for ok in (False, None, True):
            rows = rows or [finding for finding in self.findings if finding.ok is ok]
        return Finding(self.name, rows[0].ok, "; ".join(finding.found for finding in rows), rows[0].remedy)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        findings = [vars(finding) for finding in self.findings]
        return {**vars(self), "findings": findings, "seconds": round(self.seconds, 1)}


def chosen(probes: Sequence[Probe], names: frozenset[str]) -> list[Probe]:
    """Return the probes of those names and all that they need, in the order of the table; all if there is no name."""
    wanted = set(names)
    for probe in reversed(probes):  # a probe needs only earlier ones
        wanted |= set(probe.needs) if probe.name in wanted else set()
    return [probe for probe in probes if probe.name in wanted or not names]


def run_probes(probes: Sequence[Probe], context: Context) -> Iterator[Outcome]:
    """Run probes one after the other, and yield the outcome of each. A probe that does not end in time has failed."""
    states: dict[str, str] = {}
    for probe in probes:
        absent = [name for name in probe.needs if states.get(name) != PASSED]
        started = time.monotonic()
        if absent:
            reason = f"not checked, because it needs: {', '.join(absent)}"
            state, findings = SKIPPED, [Finding(probe.name, None, reason)]
        else:
            state, findings = _run(probe, context)
        states[probe.name] = state
        yield Outcome(probe.name, probe.title, state, tuple(findings), time.monotonic() - started)


def _run(probe: Probe, context: Context) -> tuple[str, list[Finding]]:
    results: queue.Queue[Finding | BaseException | None] = queue.Queue()

    def work() -> None:
        try:
            for finding in probe.function(context):
                results.put(finding)
            results.put(None)
        except SHAPE_ERRORS as exc:
            why = f"a server sent an answer that this probe does not understand: {repr(exc)[:200]}"
            remedy = "check whether a proxy or another service answers at its address"
            results.put(DigitsError(why, remedy=remedy) if is_odd_answer(exc) else exc)
        except BaseException as exc:  # noqa: BLE001 # raised or reported in the caller's thread
            results.put(exc)

    deadline = time.monotonic() + probe.seconds
    context.stopped, context.cancel = threading.Event(), lambda: None
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    findings: list[Finding] = []
    while True:
        try:
            result = results.get(timeout=max(0.0, deadline - time.monotonic()))
        except KeyboardInterrupt:
            _stop(thread, context)
            raise
        except queue.Empty:
            _stop(thread, context)
            result = DigitsError(f"no result within {probe.seconds:.0f} s", remedy="look into the log of that server")
        if isinstance(result, Finding):
            findings.append(result)
            continue
        if isinstance(result, NotAsked):
            return SKIPPED, [Finding(probe.name, None, result.message, result.remedy)]
        if isinstance(result, DigitsError):
            findings.append(Finding(probe.name, False, result.message, result.remedy))
        elif result is not None:
            raise result
        return (FAILED if any(finding.ok is False for finding in findings) else PASSED), findings


def _stop(thread: threading.Thread, context: Context) -> None:
    """Let a probe remove what it created, for at most STOP_SECONDS."""
    context.stopped.set()
    with suppress(DigitsError):
        context.cancel()
    thread.join(STOP_SECONDS if thread.is_alive() else 0)

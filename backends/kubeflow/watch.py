"""What a run's details say: which step is how far, and which pods it ran in.

The API lists a run's tasks as Argo's nodes: for a step `train`, `train-driver` (decides what to run, or that the cache
has it), `train` (spans the pods that do it) and one `executor` among many of that name.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from backends.base import CANCELED, FAILED, SUCCEEDED, StepState
from digits.events import Event

SKIPPED = "SKIPPED"
MOST_TRIES = 3  # Kubeflow's default is two more
CACHED_SECONDS = 1.0  # a step whose pod really ran takes longer: two containers start one after the other


@dataclass
class Observed:
    """One look at a run.

    Attributes:
        state: the run's, in the API's words.
        workflow: the name of Argo's workflow, '' before it is known.
        error: what the API says of a failure, often nothing.
        events: what has changed since the look before.
        nodes: Argo's nodes that another one began, among them every try of a step.
    """

    state: str
    workflow: str = ""
    error: str = ""
    events: list[Event] = field(default_factory=list)
    nodes: set[str] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """Whether the run is in a final state."""
        return self.state in {SUCCEEDED, FAILED, CANCELED, SKIPPED}


def observe(run: Any, steps: dict[str, StepState]) -> Observed:
    """Read a `V2beta1Run`, bring `steps` up to date and tell what has changed."""
    from pipeline import NAME

    seen = Observed(str(run.state or ""), error=_message(run))
    if seen.state == FAILED and any(status.state == "CANCELING" for status in run.state_history or []):
        seen.state = CANCELED  # Argo ends what is cancelled as failed, and Kubeflow (2.17) leaves it at that
    tasks = (run.run_details.task_details if run.run_details else None) or []
    for task in tasks:
        seen.nodes.update(child.pod_name for child in task.child_tasks or [] if child.pod_name)
        name = str(task.display_name or "").partition("(")[0]  # a try of something carries its number
        if name.startswith(f"{NAME}-") and not name.endswith("-driver"):
            seen.workflow = name
        if name.removesuffix("-driver") in steps and task.state == FAILED and not seen.error:
            seen.error = _message(task)
    by_name = {str(task.display_name): task for task in tasks}
    for step, state in steps.items():
        now = _state(by_name.get(step), by_name.get(f"{step}-driver"))
        if now == state.state:
            continue
        task = by_name.get(step) or by_name[f"{step}-driver"]
        begun = _seconds(task.start_time) or time.time()
        if state.state == "waiting" and now in {"running", "done", "failed"}:
            seen.events.append({"event": "started", "step": step, "time": begun})
        state.state = now
        if now in {"done", "cached", "failed"}:
            state.seconds = max(0.0, (_seconds(task.end_time) or time.time()) - begun)
            kind = {"done": "finished", "cached": "cached", "failed": "exited"}[now]
            seen.events.append({"event": kind, "step": step, "time": begun + state.seconds})
    return seen


def tries_of(seen: Observed, step: str, retries: int) -> Iterator[tuple[str, str]]:
    """(Argo's node, its pod) of each try of a step, the last try's first.

    The API names neither. Argo makes both of the workflow's name and the FNV-1a hash of the node's path, a pod also of
    its template's name, which differs for steps that may be tried again. Each part of the path may carry a number:
    Kubeflow's own defaults (2.17) let the parts be tried again as well as the step.
    """
    template = "retry-system-container-impl" if retries else "system-container-impl"
    numbers = [f"({n})" for n in range(max(retries, MOST_TRIES), -1, -1)] + [""]
    for attempt, whole, root, part in itertools.product(numbers, repeat=4):
        made = _fnv1a(f"{seen.workflow}{whole}.root{root}.{step}{part}.executor{attempt}")
        if (node := f"{seen.workflow}-{made}") in seen.nodes:
            yield node, f"{seen.workflow}-{template}-{made}"


def events_of(log: str) -> Iterator[Event]:
    """The events among the lines of a pod's log."""
    for line in log.splitlines():
        if line.startswith('{"event": '):
            try:
                yield json.loads(line)
            except ValueError:  # cut off
                continue


def _state(task: Any, driver: Any) -> str:
    if driver is not None and driver.state == FAILED:
        return "failed"
    if task is None:
        return "waiting"
    if task.state == SUCCEEDED:
        begun, ended = _seconds(task.start_time), _seconds(task.end_time)
        return "cached" if begun and ended and ended - begun <= CACHED_SECONDS else "done"
    if task.state in {FAILED, CANCELED}:
        return "failed"
    return "running" if task.state == "RUNNING" else "waiting"


def _seconds(moment: Any) -> float:
    """A point in time as seconds; 0 for one that has not come, which the API gives as the year 1 or 1970."""
    return float(moment.timestamp()) if moment is not None and moment.year > 1970 else 0.0


def _message(item: Any) -> str:
    """What the API says of a failure of a run or a task."""
    found = [item.error] + [status.error for status in item.state_history or []]
    return next((str(error.message) for error in reversed(found) if error and error.message), "")


def _fnv1a(text: str) -> int:
    found = 2166136261
    for byte in text.encode():
        found = (found ^ byte) * 16777619 & 0xFFFFFFFF
    return found

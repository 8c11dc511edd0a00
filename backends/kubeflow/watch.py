"""The state of a Kubeflow run and of its steps, from the details that the Pipelines API returns.

The API lists the nodes of Argo's workflow as tasks. A step `train` has three kinds of nodes: `train-driver`, which
decides whether the cache has the result; `train`, which spans the step's pods; and one `executor` for each attempt.
All steps call the last one `executor`, so only its log shows to which step it belongs. A step in a loop has these nodes
for each item; the loop has a node of its own.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from backends.base import CANCELED, FAILED, SUCCEEDED, StepState
from digits.events import Event
from digits.files import parse_json

SKIPPED = "SKIPPED"
LOOPS = {"predict-part": "for-loop-1"}  # {step in a loop: node of the loop}
PERMANENT = {"InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError"}  # reasons of a waiting container
# Parts of the messages about pods that Kubernetes refuses at every attempt, unlike those over a quota.
REFUSED = ("usage per ", "violates PodSecurity", " is invalid: ")
STARTING = {"ContainerCreating", "PodInitializing"}  # reasons that every pod passes through
# {part of a message of Kubernetes: what to correct before the run is repeated}
CORRECTIONS = {
    "exceeded quota": "raise the namespace's ResourceQuota",
    "usage per ": "change the namespace's LimitRange, or for the train step DIGITS_TRAIN_CPU and _MEMORY",
    "violates PodSecurity": "lower the namespace's Pod Security Standard to baseline",
    "service account": "set DIGITS_KFP_SERVICE_ACCOUNT to an account of the namespace",
    "serviceaccount": "set DIGITS_KFP_SERVICE_ACCOUNT to an account of the namespace",
    "Insufficient ": "free a node's resources; for train lower DIGITS_TRAIN_CPU_REQUEST, _MEMORY_REQUEST or _GPUS",
    "node affinity/selector": "label a node as DIGITS_TRAIN_NODE has it",
    "ImagePull": "push the image, or set DIGITS_STEPS_IMAGE, or for a private registry DIGITS_PULL_SECRET",
    "OOMKilled": "raise the step's memory, that of the train step by DIGITS_TRAIN_MEMORY",
    "ErrImageNeverPull": "load the image on the node, or set DIGITS_PULL_POLICY=IfNotPresent",
    "InvalidImageName": "set DIGITS_STEPS_IMAGE to the name of an image",
    "MLFLOW_TRACKING_URI": "set DIGITS_KFP_MLFLOW=1, or leave MLFLOW_TRACKING_URI out of the ConfigMap",
}
CACHED_SECONDS = 1.0  # a step that ran in a pod takes longer, because two containers start one after the other


@dataclass
class Observed:
    """The state of a run at one moment.

    Attributes:
        state: the run's state, as the API names it.
        error: the API's message about a failure, often empty.
        events: the changes since the last observation.
        nodes: ids of the workflow's nodes, among them every attempt of a step, those that started last first.
    """

    state: str
    error: str = ""
    events: list[Event] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)

    @property
    def final(self) -> bool:
        """Return whether the run has ended."""
        return self.state in {SUCCEEDED, FAILED, CANCELED, SKIPPED}


def observe(run: Any, steps: dict[str, StepState]) -> Observed:
    """Return the state of a `V2beta1Run`, update `steps`, and list their changes as events."""
    observed = Observed(str(run.state or ""), error=_message(run))
    if observed.state == FAILED and any(status.state == "CANCELING" for status in run.state_history or []):
        observed.state = CANCELED  # Kubeflow 2.17 reports a cancelled run as FAILED
    tasks = (run.run_details.task_details if run.run_details else None) or []
    for task in sorted(tasks, key=lambda task: _seconds(task.start_time), reverse=True):
        observed.nodes += [child.pod_name for child in task.child_tasks or [] if child.pod_name]
        name = str(task.display_name or "").partition("(")[0]  # without the number of the attempt
        if name.removesuffix("-driver") in steps and task.state == FAILED and not observed.error:
            observed.error = _message(task)
    by_name = {str(task.display_name): task for task in tasks}
    for step, state in steps.items():
        node = LOOPS.get(step, step)
        current = _state(by_name.get(node), by_name.get(f"{node}-driver"))
        if current == "running" and observed.state == SUCCEEDED:  # the API may report the end of the run first
            current = "done"
        # Argo repeats a failed run as a whole, too; then completed steps come from the cache.
        if current == state.state or (state.state, current) == ("done", "cached"):
            continue
        task = by_name.get(node) or by_name[f"{node}-driver"]
        begin = _seconds(task.start_time) or time.time()
        if state.state == "waiting" and current in {"running", "done", "failed"}:
            observed.events.append({"event": "started", "step": step, "time": begin})
        state.state = current
        if current in {"done", "cached", "failed"}:
            state.seconds = max(0.0, (_seconds(task.end_time) or time.time()) - begin)
            kind = {"done": "finished", "cached": "cached", "failed": "exited"}[current]
            observed.events.append({"event": kind, "step": step, "time": begin + state.seconds})
    return observed


@dataclass(frozen=True)
class Message:
    """A message of Argo about a pod of a step: why it waits, or why it failed."""

    step: str
    failed: bool
    text: str

    @property
    def permanent(self) -> bool:
        """Return whether the pod waits for something that does not come by itself, or will be refused again."""
        return self.text.split(":")[0] in PERMANENT or any(part in self.text for part in REFUSED)


def correction(text: str) -> str:
    """Return what to correct before the run of a message of Kubernetes or Argo is repeated; '' if it may just fail."""
    return next((remedy for part, remedy in CORRECTIONS.items() if part in text), "")


def messages_of(nodes: dict[str, Any], steps: Iterable[str]) -> list[Message]:
    """Return the messages of the nodes of `steps` in an Argo workflow, those of failures in the order of their ends.

    A pod's node is named after its template, and the node that is its boundary after the step. The driver of a run or
    of a loop counts as a step. Failures of a step that succeeded when it was tried again are left out.
    """
    names, messages, succeeded = set(steps), [], set[str]()
    for node in sorted(nodes.values(), key=lambda node: str(node.get("finishedAt") or "9")):
        candidates = (_step_of(node), _step_of(nodes.get(node.get("boundaryID", ""), {})))
        # A run and a loop have a driver of their own, which belongs to no step.
        own = _name_of(node) if _name_of(node).endswith("-driver") else ""
        step = next((name for name in candidates if name in names), own)
        phase = node.get("phase")
        text = re.sub(r'^pods "[^"]*"', "the pod", str(node.get("message") or ""))  # each attempt's has another name
        instance = str(node.get("boundaryID")) if step in LOOPS else step
        if not step or node.get("type") != "Pod":
            continue
        if phase == "Succeeded" and not _name_of(node).endswith("-driver"):
            succeeded.add(instance)
        elif text and text not in STARTING and phase in {"Failed", "Error", "Pending"}:
            messages.append((instance, Message(step, phase != "Pending", text)))
    return [message for instance, message in messages if instance not in succeeded]


def _step_of(node: dict[str, Any]) -> str:
    return _name_of(node).removesuffix("-driver")


def _name_of(node: dict[str, Any]) -> str:
    """Return the name of a node without the number of the attempt, which Argo appends to drivers too."""
    return str(node.get("displayName", "")).partition("(")[0]


def pod_name(node: str, *, retries: int) -> str:
    """Return the name that Argo gives to the pod of an executor node `<workflow>-<number>`.

    It contains the name of the node's template, which is another one if the step may be retried.
    """
    workflow, _, number = node.rpartition("-")
    return f"{workflow}-{'retry-' if retries else ''}system-container-impl-{number}"


def events_of(log: str, step: str) -> list[Event]:
    """Return the events of `step` in a pod's log, oldest first."""
    events = []
    for line in log.splitlines():
        with contextlib.suppress(ValueError, LookupError, TypeError, ArithmeticError):  # cut off, or of another program
            event = parse_json(line) if line.startswith("{") else None
            if isinstance(event, dict) and {"event", "step"} <= event.keys() and event["step"] == step:
                events.append(event | {"time": float(event["time"])})
    return events


def _state(task: Any, driver: Any) -> str:
    if driver is not None and driver.state == FAILED:
        return "failed"
    if task is None:
        return "waiting"
    if task.state == SUCCEEDED:
        begin, end = _seconds(task.start_time), _seconds(task.end_time)
        return "cached" if begin and end and end - begin <= CACHED_SECONDS else "done"
    if task.state in {FAILED, CANCELED}:
        return "failed"
    return "running" if task.state == "RUNNING" else "waiting"


def _seconds(moment: Any) -> float:
    """Return a time in seconds since 1970; 0 for None, 1970 and year 1, by which the API represents an unset time."""
    return float(moment.timestamp()) if moment is not None and moment.year > 1970 else 0.0


def _message(item: Any) -> str:
    """Return the API's latest message about a failure of a run or a task."""
    errors = [item.error] + [status.error for status in item.state_history or []]
    return next((str(error.message) for error in reversed(errors) if error and error.message), "")

"""Names of pods, and the events in their logs."""

from __future__ import annotations

import json

import pytest

from backends.kubeflow.watch import events_of, pod_name


@pytest.mark.parametrize(("retries", "template"), [(0, "system-container-impl"), (1, "retry-system-container-impl")])
def test_a_pod_has_the_name_that_argo_gives_it(retries: int, template: str) -> None:
    """The pod of an executor node has the workflow's name, the template's name and the node's number."""
    node = "digits-recognizer-zml6d-387167656"
    assert pod_name(node, retries=retries) == f"digits-recognizer-zml6d-{template}-387167656"


def test_a_step_is_found_by_the_events_in_its_log() -> None:
    """Only complete JSON objects that are events of the step count, whatever the order of their keys."""
    event = {"time": 1.0, "step": "train", "event": "progress"}
    lines = [
        "noise",
        json.dumps(event),
        json.dumps(event | {"step": "deploy"}),
        '{"time": 1.0}',
        "{",
        "[]",
        '{"event": ',
    ]
    assert events_of("\n".join(lines), "train") == [event]
    assert events_of("", "train") == []

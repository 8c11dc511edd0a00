"""The pod of an acceptance run: it is removed whatever happens, and a former one is not mistaken for it."""

from __future__ import annotations

import pytest

from backends.acceptance import pod
from backends.acceptance.probe import Context
from backends.kserve.revision import LABELS
from digits.errors import DigitsError, MissingError
from digits.settings import Settings
from tests.helpers.acceptance_cluster import POD, ClusterApi
from tests.helpers.kubernetes_api import kubernetes_api, write_kubeconfig


def findings(settings: Settings) -> list[tuple[str, bool | None]]:
    """Run the probe on a healthy stand-in cluster and return its findings."""
    with kubernetes_api(ClusterApi) as server:
        settings.home.mkdir(exist_ok=True)
        write_kubeconfig(settings, server)
        return [(finding.name, finding.ok) for finding in pod.probe_pods(Context(settings))]


def test_the_pod_of_a_killed_run_is_removed(settings: Settings) -> None:
    """A former pod that has ended is removed first; one that runs belongs to another acceptance run."""
    ClusterApi.reset()
    ClusterApi.objects[POD] = {"metadata": {"labels": LABELS}, "status": {"phase": "Failed"}}
    assert findings(settings) == [("former pod", None), ("predictor", True), ("removed", True)]
    ClusterApi.objects[POD] = {"metadata": {"labels": LABELS}, "status": {"phase": "Running"}}
    with pytest.raises(MissingError, match="another acceptance run"):
        findings(settings)


def test_a_pod_of_another_project_is_kept(settings: Settings) -> None:
    """A pod of our name without our labels is not removed, also if it has ended."""
    ClusterApi.reset()
    ClusterApi.objects[POD] = {"metadata": {"labels": {"app": "theirs"}}, "status": {"phase": "Succeeded"}}
    with pytest.raises(MissingError, match="belongs to another project"):
        findings(settings)
    assert (ClusterApi.removed, POD in ClusterApi.objects) == ([], True)


def test_a_pod_that_stays_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deletion without effect is an error with the command that removes the pod."""
    monkeypatch.setattr(pod, "REMOVE_SECONDS", 0.1)
    ClusterApi.reset()
    ClusterApi.stuck = True
    with pytest.raises(DigitsError, match="was not removed") as raised:
        findings(settings)
    assert "delete pod" in raised.value.remedy


def test_a_pod_that_finds_no_node_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that cannot be scheduled fails the probe with the scheduler's reason, and is removed."""
    monkeypatch.setattr(pod, "SCHEDULE_SECONDS", 0.1)
    ClusterApi.reset()
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}
    ClusterApi.pod_status = {"phase": "Pending", "conditions": [unscheduled]}
    assert findings(settings) == [("pod", False), ("removed", True)]

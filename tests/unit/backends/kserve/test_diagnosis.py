"""The reason why an InferenceService does not become ready."""

from __future__ import annotations

import pytest

from backends.kserve.diagnosis import diagnose
from backends.kserve.kube import Kube
from tests.helpers.kubernetes_api import FAILURE, PODS, Json, PodApi, container, pod

CRASHED = {"terminated": {"exitCode": 1, "message": "Traceback (most recent call last):\n  File x\nKeyError: 'why'"}}


@pytest.mark.parametrize(
    ("status", "reason", "permanent"),
    [
        ({}, "starting", False),
        ({"containerStatuses": [container(waiting={"reason": "ContainerCreating"})]}, "starting", False),
        ({"containerStatuses": [container(waiting={"reason": "ErrImagePull", "message": "no x:1"})]}, "no x:1", False),
        ({"containerStatuses": [container(waiting={"reason": "ImagePullBackOff"})]}, "ImagePullBackOff", True),
        (
            {"initContainerStatuses": [container("init", 1, waiting={"reason": "CrashLoopBackOff"}, last=CRASHED)]},
            "init ended with 1:\nKeyError: 'why'",
            False,
        ),
        (
            {"initContainerStatuses": [container("init", 2, waiting={"reason": "CrashLoopBackOff"}, last=CRASHED)]},
            "init ended with 1:\nKeyError: 'why'",
            True,
        ),
        (
            {"containerStatuses": [container(terminated={"exitCode": 137, "reason": "OOMKilled"})]},
            "ended with 137 (out of memory; raise its limit)",
            False,
        ),
        ({"containerStatuses": [container(running={}, restarts=2, last=CRASHED)]}, "the last words", False),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "Insufficient cpu"}]},
            "cannot be scheduled: Insufficient cpu",
            False,
        ),
    ],
)
def test_a_pods_state_is_the_reason(
    api: Kube, monkeypatch: pytest.MonkeyPatch, status: Json, reason: str, permanent: bool
) -> None:
    """The reason has the words of the pod, and only a state that does not change by waiting is permanent."""
    monkeypatch.setattr(PodApi, "pods", [pod(**status)])
    template = {"metadata": {"annotations": {"digits/revision": "r"}}}
    deployment = {"spec": {"template": template}, "status": {}}
    text, is_permanent = diagnose(api, PODS, "digits", {}, deployment, "r")
    assert reason in text
    assert is_permanent is permanent


def test_pods_of_other_revisions_do_not_count(api: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a former pod, or of one that is being deleted, is not the reason."""
    broken = pod(containerStatuses=[container(waiting={"reason": "ImagePullBackOff"})])
    deleted = broken | {"metadata": broken["metadata"] | {"deletionTimestamp": "now"}}
    other = broken | {"metadata": {"name": "q", "annotations": {"digits/revision": "other"}}}
    monkeypatch.setattr(PodApi, "pods", [deleted, other])
    deployment = {"spec": {"template": {"metadata": {"annotations": {"digits/revision": "r"}}}}, "status": {}}
    assert diagnose(api, PODS, "digits", {}, deployment, "r") == ("its pods are starting", False)


def test_a_full_quota_is_permanent(api: Kube) -> None:
    """A Deployment that may not create pods is reported immediately."""
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: full"}
    template = {"metadata": {"annotations": {"digits/revision": "r"}}}
    deployment = {"spec": {"template": template}, "status": {"conditions": [condition]}}
    text, is_permanent = diagnose(api, PODS, "digits", {}, deployment, "r")
    assert "exceeded quota: full" in text
    assert is_permanent is True


def test_kserve_may_be_the_reason(api: Kube) -> None:
    """If KServe's controller is down the reason names it; if it refuses, the reason has its message."""
    assert "controller running" in diagnose(api, PODS, "digits", {}, None, "r")[0]
    failure = {"status": {"modelStatus": FAILURE}}
    assert FAILURE["lastFailureInfo"]["message"] in diagnose(api, PODS, "digits", failure, None, "r")[0]

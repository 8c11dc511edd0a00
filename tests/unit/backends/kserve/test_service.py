"""A deployment that meets outages and refusals of the API server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from backends.kserve import rollout, service
from backends.kserve.kube import RefusedError
from backends.kserve.revision import Revision
from backends.kserve.service import Service
from digits.errors import EndpointError, MissingError
from digits.settings import Settings
from tests.helpers.kubernetes_api import RELEASE, URI, Pod, ServiceApi, container, kubernetes_api, pod, write_kubeconfig


@pytest.fixture
def deploy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Yield a function that deploys a release to a cluster without one, and does not ask its pods for an answer."""
    for name, value in {"live": None, "made": {}, "looks": 0, "pods": [], "faults": []}.items():
        monkeypatch.setattr(ServiceApi, name, value)
    monkeypatch.setattr(service, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(Service, "_check_answer", lambda *_: None)
    with kubernetes_api(ServiceApi) as url:
        write_kubeconfig(settings, url)
        yield lambda: rollout.deploy(settings, RELEASE, URI, seconds=20)


@pytest.mark.parametrize("request_line", ["GET inferenceservices", "GET deployments", "GET pods"])
@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_short_outage_undoes_no_deployment(request_line: str, status: int, deploy: Callable[[], str]) -> None:
    """A request that meets an unreachable or overloaded server is repeated until the deadline."""
    ServiceApi.faults += [(request_line, status)] * (3 if status == 0 else 1)  # the client retries a cut one twice
    assert deploy().startswith("http://digits-predictor.")
    assert ServiceApi.faults == []
    assert ServiceApi.live


def test_an_inference_service_of_another_project_is_left_alone(deploy: Callable[[], str]) -> None:
    """An InferenceService of our name without our label is neither replaced nor removed, and the error names it."""
    foreign = {"metadata": {"name": "digits", "annotations": {}}, "spec": {"predictor": {}}}
    ServiceApi.live = json.loads(json.dumps(foreign))
    with pytest.raises(EndpointError, match="belongs to another project") as refused:
        deploy()
    assert "K8S_NAMESPACE" in refused.value.remedy
    assert ServiceApi.live == foreign


@pytest.mark.parametrize("kind", ["deployment", "service", "horizontalpodautoscaler"])
def test_what_kserve_would_replace_is_left_alone(kind: str, deploy: Callable[[], str]) -> None:
    """KServe takes objects of others that have the names of its own, and later deletes them: they are refused first."""
    found = {"name": "digits-predictor"}
    ServiceApi.made = {f"GET {kind}s": {"metadata": found}}
    with pytest.raises(EndpointError, match=f"{kind} digits-predictor in digits belongs to another project") as refused:
        deploy()
    assert "K8S_NAMESPACE" in refused.value.remedy
    assert ServiceApi.live is None
    left = {"ownerReferences": [{"kind": "InferenceService", "name": "digits"}]}  # by an earlier InferenceService
    ServiceApi.made = {f"GET {kind}s": {"metadata": found | left}}
    assert deploy().startswith("http://digits-predictor.")


def test_an_account_with_the_rights_of_an_older_version_deploys(deploy: Callable[[], str]) -> None:
    """An account that may not read the objects that KServe makes deploys without a check of them."""
    ServiceApi.made = {"GET services": {"metadata": {"name": "digits-predictor"}}}
    ServiceApi.faults += [("GET services", 403), ("GET horizontalpodautoscalers", 403)]
    assert deploy().startswith("http://digits-predictor.")
    assert ServiceApi.faults == []


def test_an_outage_after_the_rollout_undoes_no_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a ready pod is repeated during an outage, and ends if the server refuses."""
    answers: list[Any] = [MissingError("away"), RefusedError("busy", 503), "p", RefusedError("forbidden", 403)]

    def ready_pod(*_: object) -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(service, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(Service, "ready_pod", ready_pod)
    endpoint = Service.__new__(Service)
    revision = Revision.for_release(RELEASE, URI, "")
    assert endpoint._wait_for_pod(revision, time.monotonic() + 10) == "p"
    with pytest.raises(RefusedError, match="forbidden"):
        endpoint._wait_for_pod(revision, time.monotonic() + 10)


def test_a_deployment_whose_response_was_lost_is_undone(deploy: Callable[[], str], settings: Settings) -> None:
    """If the API server applied the release but its response was lost, the previous release is restored."""
    deploy()
    before = ServiceApi.live
    ServiceApi.faults += [("PATCH inferenceservices", 1)]
    with pytest.raises(MissingError, match="did not answer: the connection broke off"):
        rollout.deploy(
            settings, RELEASE | {"version": "ba9876543210"}, "s3://b/models/digits/ba9876543210/", seconds=20
        )
    assert before
    assert ServiceApi.faults == []
    assert ServiceApi.live
    assert Revision.from_live(ServiceApi.live) == Revision.from_live(before)


def test_a_deployment_that_never_arrived_changes_nothing(deploy: Callable[[], str], settings: Settings) -> None:
    """If the API server never received the request, nothing is undone, and the error has the reason."""
    deploy()
    before = ServiceApi.live
    ServiceApi.faults += [("PATCH inferenceservices", 0)]
    with pytest.raises(MissingError, match="did not answer: the connection broke off"):
        rollout.deploy(
            settings, RELEASE | {"version": "ba9876543210"}, "s3://b/models/digits/ba9876543210/", seconds=20
        )
    assert ServiceApi.live is before


def check_answer(address: str, seconds: float) -> None:
    """Check the pods at an address as a rollback to RELEASE does."""
    revision = Revision.for_release(RELEASE, URI, "")
    endpoint = Service(SimpleNamespace(inside=True), "digits", "digits")
    endpoint.url = address
    endpoint._check_answer(revision, None, time.monotonic() + seconds)


def metadata(release: str) -> tuple[int, bytes]:
    return 200, json.dumps({"parameters": {"release": release}}).encode()


def test_a_rollback_waits_for_its_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's page, an error, a foreign answer and the former release are ignored until the release is served."""
    earlier = [(200, b"<html>"), (503, b"later"), (200, b"[]"), (200, b"{}"), metadata("ba9876543210")]
    monkeypatch.setattr(Pod, "answers", [*earlier, metadata("0123456789ab")])
    with kubernetes_api(Pod) as url:
        check_answer(url, 20)
    assert Pod.answers == [metadata("0123456789ab")]


def test_a_refusal_undoes_the_deployment(deploy: Callable[[], str]) -> None:
    """A missing permission is not waited for."""
    ServiceApi.faults += [("GET pods", 403)]
    with pytest.raises(RefusedError, match="not now"):
        deploy()
    assert ServiceApi.live is None


def test_a_failed_restoration_hides_no_cause(deploy: Callable[[], str]) -> None:
    """The error says why the release does not serve, and then why it could not be undone."""
    ServiceApi.pods += [pod(containerStatuses=[container(waiting={"reason": "ImagePullBackOff"})])]
    ServiceApi.pods[0]["metadata"]["annotations"]["digits/revision"] = Revision.for_release(RELEASE, URI, "").id
    ServiceApi.faults += [("DELETE inferenceservices", 403)]
    with pytest.raises(EndpointError, match=r"ImagePullBackOff.*could not be restored.*not now") as failed:
        deploy()
    assert "digits cluster status" in failed.value.remedy

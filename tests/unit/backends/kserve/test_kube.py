"""The cluster from outside: what is said where there is none, and what its pods' states mean."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml

from backends.kind import cluster
from backends.kserve import rollout
from backends.kserve.diagnosis import reasons
from backends.kserve.kube import Kube, RefusedError, is_ready, kubeconfig_path
from backends.kserve.revision import Revision, inference_service
from backends.kubeflow.backend import KubeflowBackend
from backends.programs import ProgramError, finding_us, need, program
from digits.errors import EndpointError, MissingError
from digits.settings import Settings
from tests.helpers.support import ROOT

Json = dict[str, Any]
PODS = "/api/v1/namespaces/digits/pods"
RELEASE = {"version": "0123456789ab", "digest": "01" * 32, "mlflow_run": "run", "data": {"source": "x"}, "code": "c"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def write_kubeconfig(settings: Settings, server: str) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": "sesame"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig_path(settings).write_text(yaml.safe_dump(config))


class Api(BaseHTTPRequestHandler):
    """An API server of one list of pods; all else is forbidden."""

    pods: ClassVar[list[Json]] = []

    def do_GET(self) -> None:
        known = self.path.startswith(PODS) and self.headers["Authorization"] == "Bearer sesame"
        body = {"items": self.pods} if known else {"message": "pods is forbidden"}
        if self.path.endswith("/none"):
            known, body = False, {"message": "not found"}
        content = b"the last words" if "/log" in self.path else json.dumps(body).encode()
        self.send_response(200 if known else 404 if self.path.endswith("/none") else 403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def api(settings: Settings) -> Iterator[Kube]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    write_kubeconfig(settings, f"http://127.0.0.1:{server.server_port}")
    yield Kube.connect(settings)
    server.shutdown()
    server.server_close()
    thread.join()


def test_without_a_cluster(settings: Settings) -> None:
    """Deploying where no cluster is known says how to get one."""
    with pytest.raises(MissingError, match="no cluster is known") as missing:
        rollout.deploy(settings, RELEASE, "s3://b/models/digits/0123456789ab/")
    assert "digits cluster up" in missing.value.remedy


def test_a_cluster_that_does_not_answer(settings: Settings) -> None:
    """A cluster that is gone is named with what happened, and not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    write_kubeconfig(settings, f"http://127.0.0.1:{port}")
    with pytest.raises(MissingError, match=f"127.0.0.1:{port} did not answer: connection refused"):
        rollout.deploy(settings, RELEASE, "s3://b/models/digits/0123456789ab/")


def test_refusals_carry_the_servers_reason(api: Kube) -> None:
    """A refusal tells what was asked and why it was refused; what is not there is None."""
    with pytest.raises(RefusedError, match="pods is forbidden") as refused:
        api.request("GET", "/api/v1/secrets")
    assert refused.value.status == 403
    assert refused.value.remedy
    assert api.get("/none") is None


def pod(**status: Any) -> Json:
    return {"metadata": {"name": "p", "annotations": {"digits/revision": "r"}}, "status": status}


def container(name: str = "kserve-container", restarts: int = 0, **state: Any) -> Json:
    last = state.pop("last", {})
    return {"name": name, "restartCount": restarts, "ready": False, "state": state, "lastState": last}


CRASHED = {"terminated": {"exitCode": 1, "message": "Traceback (most recent call last):\n  File x\nKeyError: 'why'"}}


@pytest.mark.parametrize(
    ("status", "said", "hopeless"),
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
            "finds no node: Insufficient cpu",
            False,
        ),
    ],
)
def test_reasons(api: Kube, monkeypatch: pytest.MonkeyPatch, status: Json, said: str, hopeless: bool) -> None:
    """A pod's state is told in its own words, and only what waiting cannot mend ends the wait."""
    monkeypatch.setattr(Api, "pods", [pod(**status)])
    template = {"metadata": {"annotations": {"digits/revision": "r"}}}
    deployed = {"spec": {"template": template}, "status": {}}
    text, over = reasons(api, PODS, "digits", {}, deployed, "r")
    assert said in text
    assert over is hopeless


def test_pods_of_other_revisions_say_nothing(api: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a former or a disappearing pod suffers from is not the new revision's fault."""
    broken = pod(containerStatuses=[container(waiting={"reason": "ImagePullBackOff"})])
    leaving = broken | {"metadata": broken["metadata"] | {"deletionTimestamp": "now"}}
    other = broken | {"metadata": {"name": "q", "annotations": {"digits/revision": "other"}}}
    monkeypatch.setattr(Api, "pods", [leaving, other])
    deployed = {"spec": {"template": {"metadata": {"annotations": {"digits/revision": "r"}}}}, "status": {}}
    assert reasons(api, PODS, "digits", {}, deployed, "r") == ("its pods are starting", False)


def test_quota_ends_the_wait(api: Kube) -> None:
    """A Deployment that may make no pod says so at once."""
    condition = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: full"}
    template = {"metadata": {"annotations": {"digits/revision": "r"}}}
    deployed = {"spec": {"template": template}, "status": {"conditions": [condition]}}
    text, over = reasons(api, PODS, "digits", {}, deployed, "r")
    assert "exceeded quota: full" in text
    assert over is True


def test_kserve_that_does_nothing(api: Kube) -> None:
    """Where KServe's controller is down the message points there; where it refuses, it carries its words."""
    assert "controller running" in reasons(api, PODS, "digits", {}, None, "r")[0]
    failure = {"status": {"modelStatus": {"lastFailureInfo": {"message": "No runtime named digits"}}}}
    assert "No runtime named digits" in reasons(api, PODS, "digits", failure, None, "r")[0]


def test_a_revision_survives_its_note() -> None:
    """What a rollback reads from the annotation is the revision that was noted; it names its release."""
    revision = Revision.of(RELEASE, "s3://b/models/digits/0123456789ab/", "predictor:1")
    again = Revision(**json.loads(revision.note()))
    assert again == revision
    assert again.id == revision.id
    assert again.version == "0123456789ab"
    live = inference_service("digits", revision, previous="x")
    assert Revision.served_by(live) == revision
    assert Revision("s3://b/models/digits/ba9876543210/").version == "ba9876543210"


def test_only_whole_folders_that_kserve_fetches_are_deployed() -> None:
    """KServe can fetch neither a file:// release nor tell version 1 from 10 without the slash."""
    assert Revision.of(RELEASE, "gs://b/models/digits/0123456789ab/", "").version == "0123456789ab"
    for uri in ("file:///store/models/digits/0123456789ab/", "s3://b/models/digits/0123456789ab", "s3", "/s3/"):
        with pytest.raises(EndpointError, match="s3://bucket/folder/"):
            Revision.of(RELEASE, uri, "")


class Cluster(BaseHTTPRequestHandler):
    """An API server with one InferenceService, whose pods are there at the second look; it fails as it is told."""

    live: ClassVar[Json | None] = None
    looks: ClassVar[int] = 0
    pods: ClassVar[list[Json]] = []
    # (method and kind, status; 0 cuts the connection, 1 does so once what was asked for is done), each met once
    faults: ClassVar[list[tuple[str, int]]] = []

    def _handle(self) -> None:
        status, body = 200, json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        asked = f"{self.command} {'pods' if 'pods' in self.path else self.path.split('/')[-2]}"
        fault = next((fault for fault in self.faults if fault[0] == asked and Cluster.live), None)
        if fault:
            self.faults.remove(fault)
        if fault and fault[1] != 1:
            status, answer = fault[1], {"message": "not now"}
        elif self.command == "PATCH":
            answer = Cluster.live = body | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            answer["metadata"] |= {"resourceVersion": "1", "uid": "u"}
        elif self.command == "DELETE":
            Cluster.live, answer = None, {}
        elif asked == "GET pods":
            answer = {"items": self.pods}
        elif asked == "GET deployments":
            Cluster.looks += 1
            there = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1}
            template = {"metadata": {"annotations": Cluster.live["metadata"]["annotations"]}}
            answer = {"metadata": {"generation": 1}, "spec": {"template": template}}
            answer["status"] = there if Cluster.looks > 1 and not self.pods else {}
        else:
            status, answer = (200, Cluster.live) if Cluster.live else (404, {"message": "not found"})
        if not status or (fault and fault[1] == 1):
            self.close_connection = True
            return
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PATCH = do_DELETE = _handle  # noqa: N815 # names that the library calls

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def deployed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Deploys a release to a cluster that has none, without asking its pods for an answer."""
    for name, value in {"live": None, "looks": 0, "pods": [], "faults": []}.items():
        monkeypatch.setattr(Cluster, name, value)
    monkeypatch.setattr(rollout, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(rollout._Service, "_answers", lambda *_: None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Cluster)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    write_kubeconfig(settings, f"http://127.0.0.1:{server.server_port}")
    yield lambda: rollout.deploy(settings, RELEASE, "s3://b/models/digits/0123456789ab/", seconds=20)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("asked", ["GET inferenceservices", "GET deployments", "GET pods"])
@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_a_short_outage_takes_no_deployment_back(asked: str, status: int, deployed: Callable[[], str]) -> None:
    """Whatever is asked for while the server is away or overloaded is asked for again, until time is up."""
    Cluster.faults += [(asked, status)] * (3 if status == 0 else 1)  # a cut connection is tried anew twice
    assert deployed().startswith("http://digits-predictor.")
    assert Cluster.faults == []
    assert Cluster.live


def test_an_outage_after_the_rollout_is_waited_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a pod is looked for that can be asked for the golden image: what passes is no reason to go back."""
    said: list[Any] = [MissingError("away"), RefusedError("busy", 503), "p", RefusedError("forbidden", 403)]

    def ready_pod(*_: object) -> str:
        answer = said.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    monkeypatch.setattr(rollout, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(rollout._Service, "ready_pod", ready_pod)
    service = rollout._Service.__new__(rollout._Service)
    revision = Revision.of(RELEASE, "s3://b/models/digits/0123456789ab/", "")
    assert service._pod_of(revision, time.monotonic() + 10) == "p"
    with pytest.raises(RefusedError, match="forbidden"):
        service._pod_of(revision, time.monotonic() + 10)


def test_a_deployment_whose_answer_was_lost_is_taken_back(deployed: Callable[[], str], settings: Settings) -> None:
    """Where the API server did what was asked and its answer never came, what was served before is back."""
    deployed()
    before = Cluster.live
    Cluster.faults += [("PATCH inferenceservices", 1)]
    with pytest.raises(MissingError, match="did not answer: the connection broke off"):
        rollout.deploy(
            settings, RELEASE | {"version": "ba9876543210"}, "s3://b/models/digits/ba9876543210/", seconds=20
        )
    assert before
    assert Cluster.faults == []
    assert Cluster.live
    assert Revision.served_by(Cluster.live) == Revision.served_by(before)


def test_a_deployment_that_never_arrived_changes_nothing(deployed: Callable[[], str], settings: Settings) -> None:
    """Where the API server never got what was asked there is nothing to take back, and what happened is said."""
    deployed()
    before = Cluster.live
    Cluster.faults += [("PATCH inferenceservices", 0)]
    with pytest.raises(MissingError, match="did not answer: the connection broke off"):
        rollout.deploy(
            settings, RELEASE | {"version": "ba9876543210"}, "s3://b/models/digits/ba9876543210/", seconds=20
        )
    assert Cluster.live is before


class Pod(BaseHTTPRequestHandler):
    """A predictor that gives one answer after the other; the last stays."""

    answers: ClassVar[list[tuple[int, bytes]]] = []

    def do_GET(self) -> None:
        status, content = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture
def pod_address() -> Iterator[str]:
    """Where a pod answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pod)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(address: str, seconds: float) -> None:
    """What a rollback to RELEASE asks of its pods at that address."""
    revision = Revision.of(RELEASE, "s3://b/models/digits/0123456789ab/", "")
    service = rollout._Service(SimpleNamespace(inside=True), "digits", "digits")
    service.url = address
    service._answers(revision, None, time.monotonic() + seconds)


def about(release: str) -> tuple[int, bytes]:
    return 200, json.dumps({"parameters": {"release": release}}).encode()


def test_a_rollback_is_asked_for_until_it_answers(pod_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy's page, an error, another's answer and the former release pass; then it serves what it should."""
    passing = [(200, b"<html>"), (503, b"later"), (200, b"[]"), (200, b"{}"), about("ba9876543210")]
    monkeypatch.setattr(Pod, "answers", [*passing, about("0123456789ab")])
    ask(pod_address, 20)
    assert Pod.answers == [about("0123456789ab")]


def test_kubeflows_endpoint_is_the_deployed_one(deployed: Callable[[], str], settings: Settings) -> None:
    """The kubeflow backend finds what was deployed at its address, as long as it is Ready."""
    backend = KubeflowBackend(dataclasses.replace(settings, kfp_host="http://kubeflow.invalid"))
    assert backend.endpoint() == ""
    address = deployed()
    assert backend.endpoint() == address
    assert Cluster.live
    Cluster.live["status"]["conditions"][0]["status"] = "Unknown"
    assert backend.endpoint() == ""


@pytest.mark.parametrize(
    ("item", "ready"),
    [
        ({}, False),
        ({"status": {"conditions": [{"type": "Initialized", "status": "True"}]}}, False),
        ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False),
        ({"status": {"conditions": [{"type": "x", "status": "False"}, {"type": "Ready", "status": "True"}]}}, True),
    ],
)
def test_what_is_ready_says_so(item: Json, ready: bool) -> None:
    """Only the condition Ready counts, and only when it is True."""
    assert is_ready(item) is ready


def test_a_refusal_takes_the_deployment_back(deployed: Callable[[], str]) -> None:
    """Waiting does not mend a right that lacks."""
    Cluster.faults += [("GET pods", 403)]
    with pytest.raises(RefusedError, match="not now"):
        deployed()
    assert Cluster.live is None


def test_what_cannot_be_taken_back_hides_no_cause(deployed: Callable[[], str]) -> None:
    """The error says why the release does not serve, and then that it is still there and why."""
    Cluster.pods += [pod(containerStatuses=[container(waiting={"reason": "ImagePullBackOff"})])]
    Cluster.pods[0]["metadata"]["annotations"]["digits/revision"] = Revision.of(
        RELEASE, "s3://b/models/digits/0123456789ab/", ""
    ).id
    Cluster.faults += [("DELETE inferenceservices", 403)]
    with pytest.raises(EndpointError, match=r"ImagePullBackOff.*could not be put back.*not now") as failed:
        deployed()
    assert "digits cluster status" in failed.value.remedy


def test_programs_are_named_when_missing(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Without kind on PATH the error says where to get it."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingError, match="kind is not on PATH") as missing:
        need("kind")
    assert "https://" in missing.value.remedy
    with pytest.raises(MissingError):
        cluster.up(settings)


def test_a_python_of_ours_finds_us() -> None:
    """Our packages come first on its path; what was there stays, and the environment handed in is not changed."""
    given = {"PYTHONPATH": "/theirs", "LANG": "C"}
    assert finding_us(given) == {"PYTHONPATH": f"{ROOT}{os.pathsep}/theirs", "LANG": "C"}
    assert given["PYTHONPATH"] == "/theirs"
    assert finding_us({}) == {"PYTHONPATH": str(ROOT)}


def test_programs_end_in_time() -> None:
    """A program that hangs is ended; one that fails tells what it said."""
    with pytest.raises(ProgramError, match="did not end within"):
        program("sleep", "30", seconds=0.2)
    with pytest.raises(ProgramError, match="ended with 3: no luck"):
        program("sh", "-c", "echo no luck >&2; exit 3")

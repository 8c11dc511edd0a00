"""Small servers that stand for a Kubernetes API server and for a predictor's pod, and the objects they return."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import yaml

from backends.kserve.kube import kubeconfig_path
from backends.trainer import trainjob
from digits.settings import Settings

Json = dict[str, Any]
PODS = "/api/v1/namespaces/digits/pods"
RELEASE = {"version": "0123456789ab", "digest": "01" * 32, "mlflow_run": "run", "data": {"source": "x"}, "code": "c"}
URI = "s3://b/models/digits/0123456789ab/"
FAILURE = {"lastFailureInfo": {"message": "No runtime named digits"}, "transitionStatus": "InvalidSpec"}  # modelStatus


def write_kubeconfig(settings: Settings, server: str, user: Json | None = None, proxy: str = "") -> None:
    """Write our kubeconfig file for an API server, with the token `sesame` or another `user`, and a proxy-url."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server} | ({"proxy-url": proxy} if proxy else {})}],
        "users": [{"name": "u", "user": user or {"token": "sesame"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    kubeconfig_path(settings).write_text(yaml.safe_dump(config))


def live_service(applied: Json, **status: Any) -> Json:
    """Return a ready InferenceService as the API server returns it; `status` has more fields of its status."""
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    return applied | {"metadata": applied["metadata"] | {"resourceVersion": "1", "uid": "u"}, "status": ready | status}


@contextlib.contextmanager
def kubernetes_api(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1 while the block runs, and yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class Quiet(BaseHTTPRequestHandler):
    """A handler that does not log requests."""

    def respond(self, status: int, content: bytes) -> None:
        """Send a whole response."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


class PodApi(Quiet):
    """An API server with one list of pods, whose log is `log`; it refuses all other requests."""

    pods: ClassVar[list[Json]] = []
    log: ClassVar[bytes] = b"the last words"

    def do_GET(self) -> None:
        if self.path.endswith("/none"):
            self.respond(404, b'{"message": "not found"}')
        elif not self.path.startswith(PODS) or self.headers["Authorization"] != "Bearer sesame":
            self.respond(403, b'{"message": "pods is forbidden"}')
        else:
            self.respond(200, self.log if "/log" in self.path else json.dumps({"items": self.pods}).encode())


class ServiceApi(Quiet):
    """An API server with one InferenceService, whose Deployment is complete at the second request for it.

    Attributes:
        live: the InferenceService, None if there is none.
        requests: {method and kind: (query, Content-Type)} of the last request of each.
        faults: (method and kind, status), each met once; status 0 cuts the connection before the request is handled,
            1 after it.
        made: {method and kind: object}, as KServe makes it for an InferenceService, while there is none.
    """

    live: ClassVar[Json | None] = None
    made: ClassVar[dict[str, Json]] = {}
    looks: ClassVar[int] = 0
    pods: ClassVar[list[Json]] = []
    requests: ClassVar[dict[str, tuple[str, str]]] = {}
    faults: ClassVar[list[tuple[str, int]]] = []

    def _handle(self) -> None:
        cls, body = ServiceApi, json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        path, _, query = self.path.partition("?")
        request = f"{self.command} {'pods' if 'pods' in path else path.split('/')[-2]}"
        cls.requests[request] = query, self.headers.get("Content-Type", "")
        fault = next((fault for fault in self.faults if fault[0] == request and (cls.live or cls.made)), None)
        if fault:
            self.faults.remove(fault)
        status, answer = (
            self._answer(request, body) if not fault or fault[1] == 1 else (fault[1], {"message": "not now"})
        )
        if not status or (fault and fault[1] == 1):
            self.close_connection = True
            return
        self.respond(status, json.dumps(answer).encode())

    def _answer(self, request: str, body: Json) -> tuple[int, Json]:
        cls = ServiceApi
        if request in self.made and not cls.live:
            return 200, self.made[request]
        if request.startswith("PATCH"):
            cls.live = live_service(body)
        elif request.startswith("DELETE"):
            cls.live = None
            return 200, {}
        elif request == "GET pods":
            return 200, {"items": self.pods}
        elif request == "GET deployments" and cls.live:
            cls.looks += 1
            complete = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1}
            template = {"metadata": {"annotations": cls.live["metadata"]["annotations"]}}
            status = complete if cls.looks > 1 and not self.pods else {}
            return 200, {"metadata": {"generation": 1}, "spec": {"template": template}, "status": status}
        return (200, cls.live) if cls.live else (404, {"message": "not found"})

    do_GET = do_PATCH = do_DELETE = _handle  # noqa: N815 # names that the library calls


class TrainerApi(Quiet):
    """An API server with one TrainJob and its pods.

    Attributes:
        live: the TrainJob, None if there is none; each request for it, while there are `changes`, applies one first.
        changes: functions that change this class.
        pods: the TrainJob's pods, with the log `log` each.
        refusal: the HTTP status of a refused creation, 0 for none.
    """

    live: ClassVar[Json | None] = None
    changes: ClassVar[list[Callable[[], None]]] = []
    pods: ClassVar[list[Json]] = []
    log: ClassVar[str] = ""
    refusal: ClassVar[int] = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.refusal:
            TrainerApi.live = body
        answer = {"message": "admission webhook: TrainingRuntime not found"} if self.refusal else body
        self.respond(self.refusal or 201, json.dumps(answer).encode())

    def do_GET(self) -> None:
        if "/log" in self.path:
            self.respond(200, self.log.encode())
        elif "/pods" in self.path:
            self.respond(200, json.dumps({"items": self.pods}).encode())
        else:
            if self.changes:
                self.changes.pop(0)()
            self.respond(200 if self.live else 404, json.dumps(self.live).encode())

    def do_DELETE(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, TrainerApi.live = 200 if self.live else 404, None
        self.respond(status, b"{}")
        self.pods.clear()


KINDS = {
    "v1": ("ConfigMap", "Secret", "Service", "ServiceAccount"),
    "apps/v1": ("Deployment",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
    "rbac.authorization.k8s.io/v1": ("Role", "RoleBinding"),
    "serving.kserve.io/v1alpha1": ("ServingRuntime",),
}


class KubectlApi(Quiet):
    """An API server for kubectl, with the discovery of KINDS. It keeps what is applied.

    Attributes:
        objects: {path: the object}.
    """

    objects: ClassVar[dict[str, Json]] = {}

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answer = self._discovery(path) or self.objects.get(path)
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self._send(200 if answer else 404, answer or status)

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        self.objects[path] = self.objects.get(path, {}) | yaml.safe_load(body)
        self._send(200, self.objects[path])

    def _send(self, status: int, answer: Json) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def _discovery(self, path: str) -> Json | None:
        groups = {version.rpartition("/")[0]: version for version in KINDS}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            listed = [
                {"name": group, "versions": [{"groupVersion": version, "version": version.split("/")[1]}]}
                for group, version in groups.items()
                if group
            ]
            return {"kind": "APIGroupList", "groups": listed}
        if path == "/openapi/v3":
            paths = {f"api{'s' if '/' in version else ''}/{version}": version for version in KINDS}
            return {"paths": {key: {"serverRelativeURL": f"/openapi/v3/{version}"} for key, version in paths.items()}}
        version = path.removeprefix("/openapi/v3").removeprefix("/apis").removeprefix("/api").removeprefix("/")
        if version not in KINDS:
            return None
        if path.startswith("/openapi"):  # it says that the server itself validates fields
            group, _, name = version.rpartition("/")
            patch: Json = {"parameters": [{"name": "fieldValidation", "in": "query"}], "responses": {}}
            kind = "x-kubernetes-group-version-kind"
            paths = {
                f"/{item}": {"patch": patch | {kind: {"group": group, "version": name, "kind": item}}}
                for item in KINDS[version]
            }
            return {"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": paths}
        resources = [
            {
                "name": item.lower().removesuffix("y") + ("ies" if item.endswith("y") else "s"),
                "singularName": item.lower(),
                "kind": item,
                "namespaced": True,
                "verbs": ["get", "patch"],
            }
            for item in KINDS[version]
        ]
        return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}


class Pod(Quiet):
    """A predictor that gives one answer after the other; the last is repeated."""

    answers: ClassVar[list[tuple[int, bytes]]] = []

    def do_GET(self) -> None:
        self.respond(*(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]))


def pod(**status: Any) -> Json:
    """Return a pod of revision `r`."""
    return {"metadata": {"name": "p", "annotations": {"digits/revision": "r"}}, "status": status}


def container(name: str = "kserve-container", restarts: int = 0, **state: Any) -> Json:
    """Return the status of a container, which is not ready."""
    last = state.pop("last", {})
    return {"name": name, "restartCount": restarts, "ready": False, "state": state, "lastState": last}


def set_condition(kind: str, message: str = "") -> None:
    """Give the TrainJob of TrainerApi a condition."""
    assert TrainerApi.live
    TrainerApi.live |= {"status": {"conditions": [{"type": kind, "status": "True", "message": message}]}}


def worker(rank: int = 0, attempt: int = 0, **status: Any) -> Json:
    """Return the pod of a worker of a TrainJob."""
    labels = {trainjob.RANK: str(rank), trainjob.ATTEMPT: str(attempt)}
    name = f"train-1-node-0-{rank}-{attempt}"
    return {"metadata": {"name": name, "uid": name, "labels": labels}, "status": {"phase": "Running"} | status}


def finish(message: str, attempt: int = 0) -> None:
    """Let worker 0 of TrainerApi end with a termination message, and its TrainJob."""
    ended = container("node", terminated={"exitCode": 0, "message": message})
    TrainerApi.pods = [worker(0, attempt, phase="Succeeded", containerStatuses=[ended])]
    set_condition("Complete")

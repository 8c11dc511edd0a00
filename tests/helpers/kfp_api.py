"""A small server of the Pipelines API (v2beta1), with faults, for the tests of its client.

Requests that do not fit the OpenAPI document of Kubeflow Pipelines get status 400, and responses that do not fit it
status 500. A run advances with every request for it: each shows the next snapshot.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests.helpers import openapi

Json = dict[str, Any]


@dataclass
class Pipelines:
    """The objects on the server, and its faults.

    Attributes:
        snapshots: (state of a run, its tasks) for each request for it; the last is repeated.
        logs: {pod's name: its log}.
        archive: {node of the workflow: its archived log}.
        artifacts: {MLflow run: its report}.
        nodes: the nodes of the workflow, as Argo reports them.
        token: the accepted token; '' accepts any.
        fail: called before each response with method and path; returns (status, message) to fail with, "cut" to cut
            the connection, "page" for a login page, or None.
        plugin: what the MLflow plugin reports of a run that uses it; None if it is not switched on.
        silent_create: a run is created, but the response is lost.
    """

    snapshots: list[tuple[str, list[Json]]] = field(default_factory=lambda: [("SUCCEEDED", [])])
    logs: dict[str, str] = field(default_factory=dict)
    archive: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    nodes: dict[str, Json] = field(default_factory=dict)
    token: str = ""
    multi_user: bool = False
    plugin: Json | None = field(default_factory=lambda: {"state": "PLUGIN_SUCCEEDED"})
    silent_create: bool = False
    fail: Callable[[str, str], Any] = lambda method, path: None
    asked: list[str] = field(default_factory=list)
    cookies: set[str] = field(default_factory=set)
    looks: int = 0
    experiments: dict[str, Json] = field(default_factory=dict)
    pipelines: dict[str, Json] = field(default_factory=dict)
    versions: dict[str, Json] = field(default_factory=dict)
    runs: dict[str, Json] = field(default_factory=dict)
    schedules: dict[str, Json] = field(default_factory=dict)
    terminated: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        """Return the response to a request, or (status, message)."""
        operation = openapi.find_operation(method, path)
        try:
            if operation:
                operation.check_request(query, body)
        except (AssertionError, ValueError) as exc:
            return 400, f"{method} {path}: {exc}"
        response = self._respond(method, path, query, body)
        try:
            if operation and isinstance(response, dict):
                operation.check_response(response)
        except (AssertionError, ValueError) as exc:
            return 500, f"response to {method} {path}: {exc}"
        return response

    def _respond(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        route = path.removeprefix("/apis/v2beta1")
        handlers: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", "/healthz", lambda: {"multi_user": self.multi_user, "pipeline_store": "database"}),
            ("GET", "/experiments", lambda: self._list("experiments", query)),
            ("POST", "/experiments", lambda: self._create("experiments", "experiment_id", body)),
            ("DELETE", "/experiments/(.+)", lambda key: self._remove("experiments", key)),
            ("GET", "/pipelines", lambda: self._list("pipelines", query)),
            ("POST", "/pipelines", lambda: self._create("pipelines", "pipeline_id", body)),
            ("DELETE", "/pipelines/([^/]+)", lambda key: self._remove("pipelines", key)),
            ("GET", "/pipelines/([^/]+)/versions", lambda key: self._list("versions", query, key)),
            ("POST", "/pipelines/upload_version", lambda: self._upload(query, body)),
            ("GET", "/runs", lambda: self._list("runs", query)),
            ("POST", "/runs", lambda: self._create("runs", "run_id", body)),
            ("GET", "/runs/([^/:]+)", self._look),
            ("DELETE", "/runs/([^/:]+)", self._delete),
            ("POST", "/runs/([^/:]+):terminate", self._terminate),
            ("GET", "/recurringruns", lambda: self._list("schedules", query)),
            ("POST", "/recurringruns", self._schedule_by(body)),
            ("DELETE", "/recurringruns/(.+)", lambda key: self._remove("schedules", key)),
            ("GET", "/get-artifact", lambda: self.artifacts.get(query["run_uuid"], (404, "none"))),  # MLflow's
            ("GET", "/apis/v1beta1/runs/[^/]+", self._manifest),
            ("GET", "/apis/v1alpha1/runs/[^/]+/nodes/([^/]+)/log", self._log),
            ("GET", "/runs/[^/]+/nodes/([^/]+)/artifacts/main-logs:read", self._archived_log),
        ]
        for verb, pattern, handler in handlers:
            if verb == method and (match := re.fullmatch(pattern, route)):
                return handler(*match.groups())
        return 404, f"no route {method} {path}"

    def _list(self, kind: str, query: dict[str, str], owner: str = "") -> Any:
        if self.multi_user != bool(query.get("namespace")) and kind == "experiments":
            return 400, "a namespace is required in multi-user mode, and refused in single-user mode"
        items = list(getattr(self, kind).values())
        if owner:
            items = [item for item in items if item["pipeline_id"] == owner]
        for predicate in json.loads(query.get("filter") or "{}").get("predicates", []):
            items = [item for item in items if item.get(predicate["key"]) == predicate["stringValue"]]
        name = {"versions": "pipeline_versions", "schedules": "recurringRuns"}.get(kind, kind)
        return {name: items} if items else {}

    def _create(self, kind: str, key: str, body: Json) -> Any:
        if kind == "experiments" and self.multi_user != bool(body.get("namespace")):
            return 403, f"User may not create experiments in namespace {body.get('namespace')}"
        created = body | {key: str(uuid.uuid4())}
        asked = (body.get("plugins_input") or {}).get("mlflow", {"disabled": True})
        if kind == "runs" and self.plugin and not asked.get("disabled"):
            created["plugins_output"] = {"mlflow": self.plugin}
        getattr(self, kind)[created[key]] = created
        if kind == "runs" and self.silent_create:
            return "cut"
        return created

    def _schedule_by(self, body: Any) -> Callable[[], Any]:
        def create() -> Any:
            answer = self._create("schedules", "recurring_run_id", body)
            if isinstance(answer, dict):
                answer["status"] = "ENABLED"
            return answer

        return create

    def _remove(self, kind: str, key: str) -> Any:
        return {} if getattr(self, kind).pop(key, None) else (404, f"{key} not found")

    def _upload(self, query: dict[str, str], body: str) -> Any:
        if "pipelineInfo" not in body:
            return 400, "no pipeline in the file"
        boundary, _, part = body.partition("\r\n")
        pipeline, platform = yaml.safe_load_all(part.partition("\r\n\r\n")[2].partition(boundary)[0])
        created = {"pipeline_id": query["pipelineid"], "pipeline_version_id": str(uuid.uuid4())}
        created |= {"name": query["name"], "display_name": query["name"]}
        created["pipeline_spec"] = {"pipeline_spec": pipeline, "platform_spec": platform}
        self.versions[created["pipeline_version_id"]] = created
        return created

    def _look(self, run_id: str) -> Any:
        if run_id in self.deleted:
            return 404, f"run {run_id} not found"
        state, tasks = self.snapshots[min(self.looks, len(self.snapshots) - 1)]
        self.looks += 1
        history = [{"state": earlier} for earlier, _ in self.snapshots[: self.looks]]
        if run_id in self.terminated:  # as on the real server, a cancelled run has failed
            state = "FAILED"
            history = [{"state": "CANCELING"}, {"state": state}]
        run = {"run_id": run_id, "state": state, "state_history": history}
        run["runtime_config"] = self.runs.get(run_id, {}).get("runtime_config", {})
        return run | {"run_details": {"task_details": tasks}}

    def _delete(self, run_id: str) -> Any:
        self.deleted.append(run_id)
        return {}

    def _terminate(self, run_id: str) -> Any:
        self.terminated.append(run_id)
        return {}

    def _manifest(self) -> Any:
        if not self.nodes:
            return 404, "no such API"
        return {"pipeline_runtime": {"workflow_manifest": json.dumps({"status": {"nodes": self.nodes}})}}

    def _log(self, pod: str) -> Any:
        # As the real server, which sends status 200 before it looks for the pod.
        missing = json.dumps({"error_message": f"Failed to read logs from pod {pod}"}, separators=(",", ":"))
        return self.logs.get(pod, missing)

    def _archived_log(self, node: str) -> Any:
        if node not in self.archive:
            return 404, f"artifact main-logs of {node} not found"
        return {"data": base64.b64encode(self.archive[node].encode()).decode()}


@contextlib.contextmanager
def serving(pipelines: Pipelines, tls: ssl.SSLContext | None = None) -> Iterator[Pipelines]:
    """Serve on a free port of 127.0.0.1 while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # otherwise the body waits 40 ms for the acknowledgement of the headers

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pipelines.asked.append(f"{self.command} {parts.path}")
            pipelines.cookies.add(self.headers.get("Cookie") or "")
            fault = pipelines.fail(self.command, parts.path)
            if fault is None and pipelines.token and self.headers.get("Authorization") != f"Bearer {pipelines.token}":
                fault = (401, "Request header error: the token is expired")
            kind = self.headers.get("Content-Type") or ""
            body = raw.decode() if "multipart" in kind else json.loads(raw or b"null")
            answer = fault or pipelines.answer(self.command, parts.path, query, body)
            if answer == "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
            elif answer == "page":
                self._send(200, "text/html", "<html>Log in</html>")
            elif isinstance(answer, tuple):
                self._send(answer[0], "application/json", json.dumps({"code": 13, "message": answer[1]}))
            elif isinstance(answer, str):
                self._send(200, "text/plain", answer)
            else:
                self._send(200, "application/json", json.dumps(answer))

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815 # names that the library calls

        def _send(self, status: int, kind: str, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    pipelines.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield pipelines
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def slow(seconds: float) -> Callable[[str, str], None]:
    """Return a fault that delays every response."""
    return lambda method, path: time.sleep(seconds)

"""One Kubernetes API server, spoken to in plain JSON, and ports of its pods forwarded to this machine."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import urlencode

from digits.errors import DigitsError, MissingError
from digits.http import in_words
from digits.settings import Settings

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
FORWARD_SECONDS = 20.0
MANAGER = "digits"  # who owns the fields that we apply
STUMBLES = (AttributeError, LookupError, TypeError, ValueError)  # what the library lets through of a damaged file
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

Json = dict[str, Any]


class RefusedError(DigitsError):
    """The API server answered, and refused. `status` is its HTTP status."""

    def __init__(self, message: str, status: int, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


def kubeconfig_path(settings: Settings) -> Path:
    """Our own kubeconfig file. The user's own, and its current context, are never read or changed."""
    return settings.home / "kubeconfig"


def unknown(kubeconfig: Path) -> MissingError:
    """That no cluster is known here."""
    return MissingError(
        f"no cluster is known here: {kubeconfig} {'is damaged' if kubeconfig.is_file() else 'does not exist'}",
        remedy=f"digits cluster up, or copy the kubeconfig of your own cluster to {kubeconfig}",
    )


def inside_cluster() -> bool:
    """Whether this process runs in a pod that has a ServiceAccount."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and TOKEN.is_file()


class Kube:
    """An API server. Every call has a deadline, and foreign errors come out as ours.

    Attributes:
        inside: whether this process is a pod of that cluster.
        server: the server's address.
    """

    def __init__(self, known: Any, *, inside: bool, kubeconfig: Path | None) -> None:
        """`known` is a kubernetes.client.Configuration: address, certificates and credentials."""
        import urllib3

        self._known = known
        self._pool = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED" if known.verify_ssl else "CERT_NONE",
            ca_certs=known.ssl_ca_cert,
            cert_file=known.cert_file,
            key_file=known.key_file,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
            retries=urllib3.Retry(total=2, backoff_factor=0.2, allowed_methods=["GET"]),
        )
        self.inside = inside
        self.kubeconfig = kubeconfig
        self.server = str(known.host)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The cluster this pod runs in, else the one that our kubeconfig file names.

        Raises:
            MissingError: neither is there, or the file is damaged.
        """
        import yaml
        from kubernetes import client, config

        known = client.Configuration()
        path = kubeconfig_path(settings)
        inside = inside_cluster()
        try:
            if inside:
                config.load_incluster_config(client_configuration=known)
            else:
                config.load_kube_config(config_file=str(path), client_configuration=known)
        except (config.ConfigException, yaml.YAMLError, OSError, *STUMBLES) as exc:
            raise unknown(path) from exc
        return cls(known, inside=inside, kubeconfig=None if inside else path)

    def request(
        self, method: str, path: str, *, query: Json | None = None, body: Any = None, kind: str = "application/json"
    ) -> Any:
        """The JSON answer to one request.

        Raises:
            RefusedError: the server said no; names what was asked and the server's reason.
            MissingError: the server did not answer.
        """
        return json.loads(self._call(method, path, query, body, kind) or "null")

    def text(self, path: str, **query: Any) -> str:
        """A plain text answer, such as a log. Raises as `request`."""
        return self._call("GET", path, query, None, "application/json")

    def get(self, path: str, **query: Any) -> Json | None:
        """An object, or None where there is none. Raises as `request`."""
        try:
            found: Json = self.request("GET", path, query=query)
        except RefusedError as exc:
            if exc.status == 404:
                return None
            raise
        return found

    def apply(self, path: str, body: Json) -> Json:
        """Server-side apply: make our fields so, leave other owners' fields alone. Raises as `request`."""
        query = {"fieldManager": MANAGER, "force": "true"}
        applied: Json = self.request("PATCH", path, query=query, body=body, kind="application/apply-patch+yaml")
        return applied

    def _call(self, method: str, path: str, query: Json | None, body: Any, kind: str) -> str:
        import urllib3.exceptions

        headers = {"Accept": "application/json, */*", "Content-Type": kind}
        for way in self._known.auth_settings().values():  # asked each time: a token may have been renewed
            if way["in"] == "header" and way["value"]:
                headers[way["key"]] = way["value"]
        url = f"{self.server}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._pool.request(method, url, headers=headers, body=None if body is None else json.dumps(body))
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            raise MissingError(
                f"the cluster at {self.server} did not answer: {in_words(exc)}", remedy="digits cluster status"
            ) from exc
        text = answer.data.decode(errors="replace")
        if answer.status >= 400:
            remedy = "ask the cluster's administrator for that right (see manifests/base/rbac.yaml)"
            raise RefusedError(
                f"the cluster refused {method} {path}: {_reason(text) or f'HTTP {answer.status}'}",
                answer.status,
                remedy=remedy if answer.status in {401, 403} else "",
            )
        return text


def is_ready(item: Json) -> bool:
    """Whether a pod, an InferenceService or the like says that it is Ready."""
    # KServe leaves observedGeneration behind where its status stays the same, so it says nothing here.
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", []))


def _reason(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]


@contextlib.contextmanager
def forwarded(kubeconfig: Path, namespace: str, target: str, *ports: int, at: int = 0) -> Iterator[list[int]]:
    """Local ports of 127.0.0.1 that lead to `ports` of `target` (`pod/x`, `service/y`) while the block runs.

    The first one is `at`, 0 for any.

    A forwarded Service is one of its pods, and stays that pod.

    Raises:
        MissingError: kubectl is not there.
        DigitsError: the ports were not forwarded in time; carries kubectl's own words.
    """
    command = ["kubectl", f"--kubeconfig={kubeconfig}", f"--namespace={namespace}", "port-forward", target]
    try:
        pairs = [f"{(at or '') if number == 0 else ''}:{port}" for number, port in enumerate(ports)]
        child = subprocess.Popen(
            [*command, "--address=127.0.0.1", *pairs],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError:
        raise MissingError("kubectl is not on PATH", remedy="https://kubernetes.io/docs/tasks/tools/") from None
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(child.stdout, lines), daemon=True)
    reader.start()
    try:
        yield _forwarded_ports(target, len(ports), lines)
    finally:
        child.terminate()
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        reader.join(5)


def _read(stream: IO[str] | None, lines: queue.Queue[str | None]) -> None:
    assert stream is not None  # noqa: S101 - Popen was asked for a pipe
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _forwarded_ports(target: str, count: int, lines: queue.Queue[str | None]) -> list[int]:
    ports: list[int] = []
    said: list[str] = []
    deadline = time.monotonic() + FORWARD_SECONDS
    while len(ports) < count:
        try:
            line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            line = None
        if line is None:
            raise DigitsError(f"no port of {target} could be forwarded: {''.join(said).strip() or 'no answer'}")
        said.append(line)
        if line.startswith("Forwarding from 127.0.0.1:"):
            ports.append(int(line.split(":")[1].split()[0]))
    return ports

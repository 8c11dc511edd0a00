"""A client of a Kubernetes API server that sends and returns plain JSON."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from backends.kserve.credential_plugin import PluginError, limit_plugins
from backends.ports import LOCAL_HOSTS
from digits.errors import DigitsError, MissingError
from digits.files import parse_json
from digits.http import in_words, read_whole
from digits.proxies import parse_proxy, proxy_for
from digits.remedies import remedy
from digits.settings import Settings

TIMEOUTS = (5, 30)  # seconds to connect, and to wait for each read of a response
FIELD_MANAGER = "digits"  # the owner of the fields that we apply
# Raised for JSON or YAML of another shape than expected, by the library for a damaged kubeconfig.
SHAPE_ERRORS = (AttributeError, LookupError, TypeError, ValueError)
TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
JSON_TYPE = "application/json"
# The ConfigMap with the trusted keys, and where pods mount it, as in the manifests.
TRUSTED_KEYS = ("digits-trusted-keys", "/etc/digits/trusted-keys")

Json = dict[str, Any]


class RefusedError(DigitsError):
    """The API server refused a request. `status` is the HTTP status."""

    def __init__(self, message: str, status: int, *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


def kubeconfig_path(settings: Settings) -> Path:
    """Return the path of our own kubeconfig file. The user's kubeconfig and current context are never used."""
    return settings.home / "kubeconfig"


def unknown_cluster(settings: Settings) -> MissingError:
    """Return the error for a kubeconfig file that does not exist or is damaged."""
    kubeconfig = kubeconfig_path(settings)
    return MissingError(
        f"no cluster is known here: {kubeconfig} {'is damaged' if kubeconfig.is_file() else 'does not exist'}",
        remedy=remedy("no cluster", settings.backend, path=kubeconfig),
    )


class Kube:
    """One API server. Every request has a deadline; errors of the libraries are raised as `digits.errors`.

    Attributes:
        inside: whether this process runs in a pod of that cluster.
        kubeconfig: the kubeconfig file, None inside the cluster.
        server: the server's address.
        proxy: the address of the proxy through which it is reached, '' for none.
        backend: the backend of the settings, on which remedies depend.
    """

    def __init__(self, configuration: Any, *, inside: bool, kubeconfig: Path | None, backend: str = "") -> None:
        """`configuration` is a kubernetes.client.Configuration: address, certificates and credentials."""
        import urllib3
        from kubernetes import client

        from digits.answers import limit_urllib3

        limit_urllib3()
        configuration.retries = urllib3.Retry(total=2, backoff_factor=0.2, allowed_methods=["GET"], retry_after_max=10)
        self._client = client.ApiClient(configuration)
        self.inside = inside
        self.kubeconfig = kubeconfig
        self.server = str(configuration.host)
        self.proxy = str(configuration.proxy or "")
        self.backend = backend

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """Return a client of the cluster of this pod, if it has a ServiceAccount token, or of our kubeconfig file.

        Raises:
            MissingError: this is no pod, and the file does not exist or is damaged, or its credential plugin failed.
            UsageError: the address of the proxy for the cluster is not valid.
        """
        import yaml
        from kubernetes import client, config

        limit_plugins()
        configuration = client.Configuration()
        path = kubeconfig_path(settings)
        inside = "KUBERNETES_SERVICE_HOST" in os.environ and TOKEN.is_file()
        try:
            if inside:
                config.load_incluster_config(client_configuration=configuration)
            else:
                config.load_kube_config(config_file=str(path), client_configuration=configuration)
                configuration.proxy, configuration.proxy_headers = _proxy(path, str(configuration.host))
        except (config.ConfigException, yaml.YAMLError, OSError, *SHAPE_ERRORS) as exc:
            raise unknown_cluster(settings) from exc
        except PluginError as exc:
            raise exc.error(path) from exc
        return cls(configuration, inside=inside, kubeconfig=None if inside else path, backend=settings.backend)

    def request(
        self, method: str, path: str, *, query: Json | None = None, body: Any = None, content_type: str = JSON_TYPE
    ) -> Any:
        """Send a request with `body` as JSON and return the parsed JSON response.

        Raises:
            RefusedError: the server refused; the message has method, path and the server's reason.
            MissingError: the server did not answer, or not with JSON.
        """
        text = self._call(method, path, query, body, content_type)
        try:
            return parse_json(text or "null")
        except ValueError as exc:
            raise MissingError(
                f"expected JSON from the cluster at {self.server} for {method} {path}, got {text[:100]!r}",
                remedy="check whether a proxy or another service answers there",
            ) from exc

    @contextlib.contextmanager
    def understood(self) -> Iterator[None]:
        """Raise MissingError if the block fails because an answer has another form, such as that of another service."""
        try:
            yield
        except SHAPE_ERRORS as exc:
            if not is_odd_answer(exc):
                raise
            raise MissingError(
                f"the cluster at {self.server} sent an answer that is not one of Kubernetes' API: {repr(exc)[:200]}",
                remedy="check whether a proxy or another service answers there",
            ) from exc

    def text(self, path: str, **query: Any) -> str:
        """Return a plain text response, for example a log. Raises as `request`."""
        return self._call("GET", path, query, None, JSON_TYPE)

    def get(self, path: str) -> Json | None:
        """Return an object, or None if it does not exist. Raises as `request`."""
        try:
            item: Json = self.request("GET", path)
        except RefusedError as exc:
            if exc.status == 404:
                return None
            raise
        return item

    def apply(self, path: str, body: Json) -> Json:
        """Set our fields by server-side apply; fields of other owners are kept. Raises as `request`."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        applied: Json = self.request("PATCH", path, query=query, body=body, content_type="application/apply-patch+yaml")
        return applied

    def _remedy(self, status: int) -> str:
        """Return what to do after a refusal; '' if that depends on the reason."""
        if status == 401 and self.kubeconfig:
            return remedy("credentials of the cluster", self.backend, path=self.kubeconfig)
        permission = "ask the cluster's administrator for that permission (see each rbac.yaml in manifests)"
        return {401: "check the service account of this pod", 403: permission}.get(status, "")

    def _call(self, method: str, path: str, query: Json | None, body: Any, content_type: str) -> str:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        from digits import answers

        try:
            response = self._client.call_api(
                path,
                method,
                query_params=query,
                header_params={"Accept": "application/json, */*", "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
                _request_timeout=TIMEOUTS,
                _return_http_data_only=True,
                _preload_content=False,  # else the library fails on a log that is not UTF-8
            )
            until = time.monotonic() + answers.ANSWER_SECONDS
            content = read_whole(response, until, answers.MAX_ANSWER)
            response.release_conn()
            return content.decode(errors="replace")
        except ApiException as exc:
            raise RefusedError(
                f"the cluster refused {method} {path}: {_reason(exc.body) or f'HTTP {exc.status}'}",
                exc.status,
                remedy=self._remedy(exc.status),
            ) from exc
        except PluginError as exc:  # it is run again when the token expires
            raise exc.error(self.kubeconfig) from exc
        except (HTTPError, OSError) as exc:
            raise MissingError(
                f"the cluster at {self.server} did not answer: {in_words(exc)}",
                remedy=remedy("no answer of the cluster", self.backend),
            ) from exc


def is_odd_answer(exc: Exception) -> bool:
    """Return whether one of SHAPE_ERRORS may come from the form of an answer, and not only from a fault in our code.

    A missing attribute of what is no value of JSON, or a wrong call, is a fault in our code.
    """
    if isinstance(exc, AttributeError):
        return isinstance(exc.obj, str | int | float | list | dict | None)
    return not (isinstance(exc, TypeError) and re.search(r"\(\) (missing|got|takes)|not callable", str(exc)))


def _proxy(kubeconfig: Path, server: str) -> tuple[str, dict[str, str]]:
    """Return the proxy for a cluster and its headers as kubectl chooses it; ("", {}) for none.

    The library itself uses none. It is the one in the kubeconfig, else the system's, which does not count for a cluster
    on this machine.
    """
    import yaml

    content = yaml.safe_load(kubeconfig.read_text())
    contexts, clusters = ({each["name"]: each for each in content[kind]} for kind in ("contexts", "clusters"))
    cluster = clusters[contexts[content["current-context"]]["context"]["cluster"]]["cluster"]
    if address := cluster.get("proxy-url"):
        return parse_proxy(f"proxy-url in {kubeconfig}", str(address), "correct it")
    return ("", {}) if urlsplit(server).hostname in LOCAL_HOSTS else proxy_for(server)


def is_ready(item: Json) -> bool:
    """Return whether a pod, an InferenceService or a similar object has the condition Ready."""
    # observedGeneration is not compared: KServe does not update it if the rest of the status stays the same.
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", []))


def is_temporary(exc: DigitsError) -> bool:
    """Return whether the API server may answer later: it is unreachable, overloaded or failing."""
    return not isinstance(exc, RefusedError) or exc.status == 429 or exc.status >= 500


def _reason(body: bytes | None) -> str:
    text = (body or b"").decode(errors="replace")
    try:
        return str(parse_json(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:200]

"""The client of the API server: responses, refusals and outages."""

from __future__ import annotations

import dataclasses
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from backends.kserve import credential_plugin
from backends.kserve.kube import Kube, RefusedError, is_ready, kubeconfig_path
from digits import answers
from digits.errors import MissingError, UsageError
from digits.settings import Settings
from tests.helpers.forward_proxy import forward_proxy
from tests.helpers.kubernetes_api import PODS, PodApi, Quiet, ServiceApi, kubernetes_api, write_kubeconfig
from tests.helpers.support import answering


def test_an_unknown_cluster_is_reported_with_a_remedy(settings: Settings) -> None:
    """Without a kubeconfig, or with a damaged one, the error has the command that makes a cluster."""
    for state in ("does not exist", "is damaged"):
        with pytest.raises(MissingError, match=f"no cluster is known here: .* {state}") as missing:
            Kube.connect(settings)
        assert "digits cluster up" in missing.value.remedy
        kubeconfig_path(settings).write_text("clusters: [{name: c}]")
    write_kubeconfig(settings, "https://[::1")
    with pytest.raises(MissingError, match="is damaged"):
        Kube.connect(settings)


def test_a_server_that_is_down_is_reported_with_the_reason(settings: Settings) -> None:
    """The error has the server's address and what happened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    write_kubeconfig(settings, f"http://127.0.0.1:{port}")
    with pytest.raises(MissingError, match=f"127.0.0.1:{port} did not answer: connection refused"):
        Kube.connect(settings).get("/api")


@pytest.mark.parametrize("page", [b"<html>log in</html>", b"[" * 60_000])
def test_a_server_that_is_no_cluster_is_reported(page: bytes, settings: Settings) -> None:
    """An answer that is not JSON, or nested too deeply, is an error with the server's address."""
    with answering(page) as host:
        write_kubeconfig(settings, f"http://{host}")
        with pytest.raises(MissingError, match=f"JSON from the cluster at http://{host}"):
            Kube.connect(settings).get("/api")


def test_an_answer_without_an_end_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer or a refusal that is longer than any of ours is an error with the server's address."""
    monkeypatch.setattr(answers, "MAX_ANSWER", 1000)
    for status in (200, 403):
        with answering(bytes(5000), status) as host:
            write_kubeconfig(settings, f"http://{host}")
            with pytest.raises(MissingError, match=f"http://{host} did not answer: sent more than 1000 bytes"):
                Kube.connect(settings).get("/api")


def test_a_fault_in_our_code_is_not_blamed_on_the_cluster(api: Kube) -> None:
    """A wrong call or a misspelt attribute stays what it is; a value of another type is an odd answer."""

    def name(pod: Any) -> Any:
        return pod["metadata"].get("name")

    faults: list[tuple[type[Exception], Any]] = [
        (AttributeError, lambda: api.misspelt),  # type: ignore[attr-defined]
        (TypeError, lambda: name()),  # type: ignore[call-arg]
        (TypeError, lambda: name({}, {})),  # type: ignore[call-arg]
        (TypeError, lambda: name(pods={})),  # type: ignore[call-arg]
        (TypeError, lambda: api.server()),  # type: ignore[operator]
    ]
    for expected, fault in faults:
        with pytest.raises(expected), api.understood():
            fault()
    for answer in ({}, [], None, 1, "pod", {"metadata": None}, {"metadata": [1]}, {"metadata": "x"}):
        with pytest.raises(MissingError, match="not one of Kubernetes' API"), api.understood():
            name(answer)


def test_a_refusal_has_the_servers_reason(api: Kube) -> None:
    """A refusal has the request, the reason and a remedy; an object that does not exist is None."""
    with pytest.raises(RefusedError, match="refused GET /api/v1/secrets: pods is forbidden") as refused:
        api.request("GET", "/api/v1/secrets")
    assert refused.value.status == 403
    assert refused.value.remedy
    assert "rbac.yaml" in refused.value.remedy
    assert api.get("/none") is None


@pytest.mark.parametrize("backend", ["process", "kubeflow"])
def test_expired_credentials_are_no_lack_of_a_right(backend: str, settings: Settings) -> None:
    """After 401 the remedy names the kubeconfig with the credentials, and no administrator."""

    class Expired(Quiet):
        def _refuse(self) -> None:
            self.respond(401, b'{"message": "Unauthorized"}')

        do_GET = _refuse  # noqa: N815 # a name that the library calls

    with kubernetes_api(Expired) as url:
        write_kubeconfig(settings, url)
        kube = Kube.connect(dataclasses.replace(settings, backend=backend))
        with pytest.raises(RefusedError, match="Unauthorized") as refused:
            kube.request("GET", "/api/v1/pods")
    assert str(kubeconfig_path(settings)) in refused.value.remedy
    assert "administrator" not in refused.value.remedy


def test_a_log_may_hold_any_bytes(api: Kube, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not UTF-8 are replaced."""
    monkeypatch.setattr(PodApi, "log", b"caf\xe9")
    assert api.text(f"{PODS}/p/log", tailLines=10) == "caf\ufffd"


def test_objects_are_applied_on_the_server(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`apply` sends the whole object as a server-side apply with our name as the owner of its fields."""
    monkeypatch.setattr(ServiceApi, "live", None)
    body: dict[str, Any] = {"metadata": {"name": "digits", "annotations": {}}, "spec": {"n": 1, "text": "ä"}}
    with kubernetes_api(ServiceApi) as url:
        write_kubeconfig(settings, url)
        applied = Kube.connect(settings).apply("/apis/serving.kserve.io/inferenceservices/digits", body)
    assert applied["spec"] == body["spec"]
    query, content_type = ServiceApi.requests["PATCH inferenceservices"]
    assert query == "fieldManager=digits&force=true"
    assert content_type == "application/apply-patch+yaml"


@pytest.mark.parametrize(
    ("item", "ready"),
    [
        ({}, False),
        ({"status": {"conditions": [{"type": "Initialized", "status": "True"}]}}, False),
        ({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, False),
        ({"status": {"conditions": [{"type": "x", "status": "False"}, {"type": "Ready", "status": "True"}]}}, True),
    ],
)
def test_only_the_condition_ready_counts(item: dict[str, Any], ready: bool) -> None:
    """An object is ready if its condition Ready is True, whatever its other conditions are."""
    assert is_ready(item) is ready


PLUGIN = """#!/bin/sh
echo $$ >> {folder}/pids
read state < {folder}/state
test $state != hang || sleep 300
test $state != fail || {{ echo 'log in first' >&2; exit 3; }}
test $state != null || {{ echo null; exit; }}
echo '{{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
  "status": {{"token": "sesame", "expirationTimestamp": "2020-01-01T00:00:00Z"}}}}'
"""


@pytest.mark.parametrize("terminal", [False, True])
def test_a_credential_plugin_that_fails_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """A plugin that fails or does not end is the error, also when a token expires, and no process of it remains."""
    monkeypatch.setattr(credential_plugin, "PLUGIN_SECONDS", 0.5)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)  # then the plugin writes its errors to the terminal
    monkeypatch.setattr(sys, "stdin", None)
    (plugin := tmp_path / "login").write_text(PLUGIN.format(folder=tmp_path))
    plugin.chmod(0o755)
    user = {"exec": {"command": str(plugin), "apiVersion": "client.authentication.k8s.io/v1"}}
    (tmp_path / "state").write_text("work\n")
    with kubernetes_api(PodApi) as url:
        write_kubeconfig(settings, url, user)
        kube = Kube.connect(settings)
        assert kube.request("GET", PODS) == {"items": []}
        failed_why = "process returned 3" if terminal else "process returned 3. log in first"
        for state, reason in (("hang", "did not end within 0.5 s"), ("fail", failed_why), ("null", ".*NoneType")):
            (tmp_path / "state").write_text(f"{state}\n")
            for call in (lambda: Kube.connect(settings), lambda: kube.request("GET", PODS)):
                with pytest.raises(MissingError, match=f"credential plugin {plugin} failed: {reason}") as failed:
                    call()
                assert f"kubectl --kubeconfig={kubeconfig_path(settings)} get pods" in failed.value.remedy
    assert not any(psutil.pid_exists(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_cluster_behind_a_proxy_is_reached_as_by_kubectl(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and NO_PROXY count, except for a cluster on this machine."""
    with forward_proxy() as proxy, kubernetes_api(PodApi) as url:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        for server, requests in ((url, 0), (url.replace("127.0.0.1", "0.0.0.0"), 1)):
            write_kubeconfig(settings, server)
            assert Kube.connect(settings).request("GET", PODS) == {"items": []}
            assert len(proxy.requests) == requests
        monkeypatch.setenv("no_proxy", "0.0.0.0/8")
        Kube.connect(settings).request("GET", PODS)
        assert len(proxy.requests) == 1


def test_the_proxy_of_the_kubeconfig_is_used(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proxy-url counts instead of the variables, also for a cluster on this machine; a SOCKS proxy is refused."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with forward_proxy("anna:secret") as proxy, kubernetes_api(PodApi) as url:
        write_kubeconfig(settings, url, proxy=proxy.url.replace("//", "//anna:secret@"))
        assert Kube.connect(settings).request("GET", PODS) == {"items": []}
        assert len(proxy.requests) == 1
    write_kubeconfig(settings, url, proxy="socks5://anna:secret@127.0.0.1:1080")
    with pytest.raises(
        UsageError, match=r"proxy-url in .*kubeconfig: expected http://host:port, got a SOCKS"
    ) as refused:
        Kube.connect(settings)
    assert "ssh -L" in refused.value.remedy
    assert "secret" not in str(refused.value)

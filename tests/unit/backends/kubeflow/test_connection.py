"""The connection to the Pipelines API: deadlines, credentials, certificates and proxies."""

from __future__ import annotations

import dataclasses
import ssl
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from backends.kubeflow import connection as kubeflow_http
from backends.kubeflow.backend import KubeflowBackend
from digits.errors import MissingError, UsageError
from digits.settings import Settings
from tests.helpers.forward_proxy import forward_proxy
from tests.helpers.kfp_api import Pipelines, serving, slow


def test_a_slow_answer_has_a_deadline(settings: Settings, api: Pipelines, monkeypatch: Any) -> None:
    """A server that does not answer in time is reported as unreachable."""
    monkeypatch.setattr(kubeflow_http, "ANSWER_SECONDS", 0.2)
    api.fail = slow(1)
    with pytest.raises(MissingError, match="does not answer"):
        KubeflowBackend(settings).check()


def test_the_notebooks_own_token_is_found(settings: Settings, api: Pipelines, tmp_path: Path, monkeypatch: Any) -> None:
    """In a notebook the token file is the one that KF_PIPELINES_SA_TOKEN_PATH names."""
    (tmp_path / "token").write_text("projected")
    api.token = "projected"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    KubeflowBackend(settings).check()


def test_a_login_page_is_reported(settings: Settings, api: Pipelines) -> None:
    """The cookie is sent; the page of a login is reported as one, with the setting that helps."""
    session = dataclasses.replace(settings, kfp_cookie="authservice_session=abc")
    KubeflowBackend(session).check()
    assert api.cookies == {"authservice_session=abc"}
    for answer in ("page", (302, "log in there")):
        api.fail = lambda method, path, answer=answer: answer
        with pytest.raises(MissingError, match="sent a web page") as raised:
            KubeflowBackend(session).check()
        assert "DIGITS_KFP_COOKIE" in raised.value.remedy


def test_an_own_certificate_authority_is_accepted(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of an unknown authority is refused unless DIGITS_KFP_CA names it, also through a proxy."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=kubeflow", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(Pipelines(), context) as api:
        there = dataclasses.replace(settings, kfp_host=api.url)
        with pytest.raises(MissingError, match=r"does not answer: .*(SSL|CERTIFICATE)") as raised:
            KubeflowBackend(there).check()
        assert "DIGITS_KFP_CA" in raised.value.remedy
        there = dataclasses.replace(there, kfp_ca=str(certificate))
        KubeflowBackend(there).check()
        with forward_proxy("anna:canary") as between:
            monkeypatch.setenv("no_proxy", "")
            monkeypatch.setenv("HTTPS_PROXY", between.url.replace("//", "//anna:canary@"))
            KubeflowBackend(there).check()
            monkeypatch.setenv("HTTPS_PROXY", between.url)
            with pytest.raises(MissingError, match=r"does not answer: the proxy: .* 407"):
                KubeflowBackend(there).check()
            assert {*between.requests} == {f"CONNECT {urlsplit(api.url).netloc}"}
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            KubeflowBackend(there).check()


def test_a_host_that_does_not_answer_is_reported(settings: Settings) -> None:
    """The error has the host, the reason and the setting to check."""
    with pytest.raises(MissingError, match=r"http://127.0.0.1:9 does not answer: connection refused") as raised:
        KubeflowBackend(dataclasses.replace(settings, kfp_host="http://127.0.0.1:9")).check()
    assert "DIGITS_KFP_HOST" in raised.value.remedy


@pytest.mark.parametrize("name", ["kfp_token_file", "kfp_ca"])
def test_a_missing_file_is_named(settings: Settings, tmp_path: Path, name: str) -> None:
    """A setting that names a file which does not exist is reported before any request."""
    with pytest.raises(MissingError, match="nowhere"):
        KubeflowBackend(dataclasses.replace(settings, **{name: str(tmp_path / "nowhere")}))


@pytest.mark.parametrize("name", ["kfp_token_file", "kfp_ca"])
def test_a_device_is_not_read_without_a_limit(settings: Settings, name: str) -> None:
    """A setting that names an endless device instead of a file is refused."""
    with pytest.raises(MissingError, match="/dev/zero"):
        KubeflowBackend(dataclasses.replace(settings, **{name: "/dev/zero"}))


@pytest.mark.parametrize("host", ["", "ml-pipeline:8888", "file:///x"])
def test_the_host_must_be_a_url(settings: Settings, host: str) -> None:
    """A host that is missing or no http(s) URL is refused."""
    with pytest.raises(UsageError, match="DIGITS_KFP_HOST: expected"):
        KubeflowBackend(dataclasses.replace(settings, kfp_host=host))

"""The checks in the pod of an acceptance run."""

from __future__ import annotations

import dataclasses
import functools
import json
import socket

import pytest

from digits import pod_checks
from digits.errors import MissingError
from digits.findings import run_check
from digits.settings import Settings
from tests.helpers.support import answering, free_port


def lines(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, bool]:
    """Run all checks with these settings and return {name of a finding: ok}."""
    for name, value in settings.environ().items():
        monkeypatch.setenv(name, value)
    pod_checks.main()
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {item["probe"] for item in found} == {"policy", "s3", "mlflow", "signatures"}
    return {item["name"]: item["ok"] for item in found}


def test_each_check_writes_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder as store is no store for pods; outside of a cluster its DNS does not answer; no MLflow is no failure."""
    kubeflow = settings.with_backend("kubeflow")
    absent = {"dns": False, "store": False, "mlflow": None, "signatures": None}
    assert lines(kubeflow, monkeypatch, capsys) == absent
    settings.home.mkdir(exist_ok=True)
    (key := settings.home / "key.pem").write_text("no key")
    signing = dataclasses.replace(kubeflow, signing_key=str(key))
    assert lines(signing, monkeypatch, capsys) == absent | {"signatures": False}


def test_a_refused_connection_is_an_answer() -> None:
    """A port that refuses connections is reached by packets, so that no policy is to blame."""
    assert "refused" in pod_checks.check_connection(f"127.0.0.1:{free_port()}").lower()


def test_dropped_packets_name_the_policies(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that does not answer in time is an error with policies as its remedy."""

    def dropped(*_: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", dropped)
    with pytest.raises(MissingError, match="minio:9000 does not answer") as raised:
        pod_checks.check_connection("http://minio:9000")
    assert "NetworkPolicy" in raised.value.remedy


def test_mlflow_must_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without MLflow's client, its page /health must answer with status 200."""
    monkeypatch.setattr(pod_checks.importlib.util, "find_spec", lambda _: None)
    for status in (200, 503):
        with answering(b"OK", status) as address:
            placed = dataclasses.replace(settings, tracking_uri=f"http://{address}")
            finding = run_check("mlflow", True, functools.partial(pod_checks.check_mlflow, placed))
        assert finding.ok is (status == 200)

"""The checks of `digits doctor` that ask an engine."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import pytest

from backends.process import predictor
from digits.cli import engine_checks
from digits.findings import run_check
from digits.settings import Settings
from tests.helpers.support import answering, free_port


@pytest.mark.parametrize("built", [True, False])
def test_an_image_that_is_not_built_is_named(built: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that the first run would build is named as not built, with the command that builds it."""
    from backends.docker import containers, images

    class Engine:
        def close(self) -> None:
            """Nothing is open."""

    def reference(_: Any, __: Settings, which: str) -> str:
        return f"digits-{which}:1"

    monkeypatch.setattr(containers, "connect", Engine)
    monkeypatch.setattr(images, "reference", reference)
    monkeypatch.setattr(images, "present", lambda _, name: built or "predictor" not in name)
    finding = run_check("images", True, lambda: engine_checks.check_images(settings))
    if built:
        assert (finding.ok, finding.found) == (True, "digits-steps:1, digits-predictor:1")
    else:
        assert (finding.ok, finding.found) == (None, "not built yet: digits-predictor:1")
        assert finding.remedy.startswith("digits images build")


@pytest.mark.parametrize(
    ("asked", "now", "note"),
    [
        (0, 0, ""),
        (1, 1, "; port {asked} was in use when it started"),
        (0, 1, "; it was started for port {asked}, the next run moves it to {now} (DIGITS_PORT)"),
    ],
)
def test_another_port_than_configured_is_explained(
    asked: int, now: int, note: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the predictor does not use DIGITS_PORT, doctor reports whether the port was in use or the setting changed."""
    with answering(b'{"parameters": {"release": "r"}}') as address:
        ports = (int(address.split(":")[1]), free_port())
        state = predictor.Predictor(f"http://{address}", "", os.getpid(), "w", ports[asked])
        monkeypatch.setattr(predictor, "running", lambda _: state)
        finding = run_check(
            "e", False, lambda: engine_checks.check_endpoint(dataclasses.replace(settings, port=ports[now]))
        )
    assert finding.found == f"http://{address} serves release r" + note.format(asked=ports[asked], now=ports[now])


def test_an_endpoint_in_a_cluster_is_not_contacted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that only the cluster resolves is not contacted, and gives no remedy."""
    address = "http://digits-predictor.digits.svc.cluster.local"
    monkeypatch.setattr("backends.kubeflow.backend.KubeflowBackend.endpoint", lambda _: address)
    kubeflow = dataclasses.replace(settings, backend="kubeflow", kfp_host="http://127.0.0.1:9")
    finding = run_check("endpoint", False, lambda: engine_checks.check_endpoint(kubeflow))
    assert (finding.ok, address in finding.found, finding.remedy) == (True, True, "")

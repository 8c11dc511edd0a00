"""`digits cluster`."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from backends.docker import containers, images
from digits.settings import Settings
from tests.helpers.command import Digits
from tests.helpers.kubernetes_api import write_kubeconfig
from tests.helpers.support import Finished

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_deploying_without_a_cluster_exits_with_3(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """Without a cluster, the error names the command that creates one."""
    result = digits("cluster", "deploy", on=finished.copy(tmp_path / "home"))
    assert (result.code, "digits cluster up" in result.err) == (3, True)


@pytest.mark.parametrize("content", [b"clusters: [", b"clusters: 7", b"- a", b"contexts:\n- 1", b"\x01", b"\xff"])
def test_a_damaged_kubeconfig_exits_with_3(content: bytes, digits: Digits, settings: Settings) -> None:
    """A damaged kubeconfig is named together with the command that recreates it."""
    settings.home.mkdir()
    (settings.home / "kubeconfig").write_bytes(content)
    answer = digits("cluster", "rollback", "--json").json
    assert (answer["exit_code"], answer["error"].endswith("kubeconfig is damaged")) == (3, True)
    assert "digits cluster up" in answer["remedy"]


@pytest.mark.parametrize("clusters", ["", "digits"])
def test_no_image_is_built_for_a_cluster_that_is_refused(
    digits: Digits, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clusters: str
) -> None:
    """`up` refuses a kubeconfig of the user's own cluster, or a kind cluster of that name, before it builds images."""
    for name in ("docker", "kind", "kubectl"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntest \"$*\" != 'get clusters' || echo {clusters}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(images, "ensure_image", lambda *_: pytest.fail("an image is built"))
    monkeypatch.setattr(containers, "connect", lambda: contextlib.closing(None))
    settings.home.mkdir()
    if not clusters:
        write_kubeconfig(settings, "https://10.0.0.1")
    result = digits("cluster", "up", ours=False)
    expected = "digits did not create the kind cluster" if clusters else "is of another cluster (x)"
    assert (result.code, expected in result.err) == (2, True)


@pytest.mark.parametrize("answers", [True, False])
def test_a_cluster_is_kept_until_its_corrections_are_copied(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """A cluster whose corrections cannot be copied is removed only with --yes."""
    from backends.kind import cluster

    removed: list[Settings] = []
    settings.home.mkdir(parents=True)
    (settings.home / "kind-digits").touch()
    monkeypatch.setattr(cluster, "status", lambda _: {"exists": True, "answers": answers})
    monkeypatch.setattr(cluster, "down", lambda settings, _: removed.append(settings) or True)
    result = digits("cluster", "down")
    assert (result.code, removed) == (1, [])
    assert "cannot copy the corrections" in result.err
    assert "digits cluster down --yes" in result.err
    assert digits("cluster", "down", "--yes").code == 0
    assert len(removed) == 1


def test_a_cluster_without_a_store_is_removed(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster without an object store has no corrections to copy."""
    from backends.kind import cluster, namespace

    settings.home.mkdir(parents=True)
    (settings.home / "kubeconfig").write_text("{}")
    (settings.home / "kind-digits").touch()
    removed: list[Settings] = []
    monkeypatch.setattr(cluster, "status", lambda _: {"exists": True, "answers": True})
    monkeypatch.setattr(cluster, "down", lambda settings, _: removed.append(settings) or True)
    monkeypatch.setattr(namespace, "credentials", lambda _: None)
    assert digits("cluster", "down").code == 0
    assert len(removed) == 1

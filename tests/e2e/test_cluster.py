"""The cluster that `up` creates: repeated and repaired, with the page in it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from backends.kind import cluster
from backends.kind.controllers import KSERVE_VERSION
from backends.kind.namespace import credentials, install
from backends.kind.node_images import load
from backends.kserve import rollout
from backends.kserve.kube import kubeconfig_path
from backends.kserve.port_forward import forwarded
from backends.programs import program
from digits.data import corrections
from digits.errors import MissingError
from digits.release import ledger, releases
from digits.release.write import write_release
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.cluster_fixtures import NAME, Namespace, Release
from tests.helpers.page_fixtures import Visit

ROOT = Path(__file__).parents[2]
HALF = "digits-e2e-half"
pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


def test_up_again_changes_nothing(
    cluster_settings: Settings, cluster_images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second `up` keeps pods and credentials, and the user's own kubeconfig is never changed."""
    user_config = tmp_path / "users-kubeconfig"
    user_config.write_text("apiVersion: v1\nkind: Config\ncurrent-context: mine\n")
    monkeypatch.setenv("KUBECONFIG", str(user_config))
    before, keys = cluster.status(cluster_settings, name=NAME), credentials(cluster_settings)
    cluster.up(cluster_settings, print, name=NAME, images=cluster_images)
    assert cluster.status(cluster_settings, name=NAME) == before
    assert credentials(cluster_settings) == keys
    assert user_config.read_text().endswith("current-context: mine\n")
    assert kubeconfig_path(cluster_settings).stat().st_mode & 0o777 == 0o600


def test_status(cluster_settings: Settings) -> None:
    """The status has the version of KServe and the pods, or that the cluster does not exist."""
    status = cluster.status(cluster_settings, name=NAME)
    assert status["exists"]
    assert status["answers"]
    assert status["kserve"] == KSERVE_VERSION
    assert {pod["name"].rsplit("-", 2)[0] for pod in status["pods"]} == {"minio", "digits-web"}
    assert all(pod["ready"] for pod in status["pods"])
    assert not cluster.status(cluster_settings, name="digits-none")["exists"]


def test_a_lost_kubeconfig_is_fetched_again(
    cluster_settings: Settings, cluster_images: dict[str, str], tmp_path: Path
) -> None:
    """With another DIGITS_HOME, `up` uses the existing cluster."""
    settings = dataclasses.replace(cluster_settings, home=tmp_path / "home")
    assert cluster.status(settings, name=NAME)["answers"] is False
    cluster.up(settings, print, name=NAME, images=cluster_images)
    assert cluster.status(settings, name=NAME)["answers"] is True


def test_a_stopped_node_is_started(cluster_settings: Settings, cluster_images: dict[str, str]) -> None:
    """After a restart of the machine, `up` starts the node and waits until all is ready again."""
    program("docker", "stop", f"{NAME}-control-plane", seconds=120)
    assert cluster.status(cluster_settings, name=NAME)["answers"] is False
    cluster.up(cluster_settings, print, name=NAME, images=cluster_images)
    assert cluster.status(cluster_settings, name=NAME)["answers"] is True


def test_an_incomplete_cluster_is_created_again(cluster_settings: Settings, tmp_path: Path) -> None:
    """After `up` was killed while its node started, the next completes the cluster; `down` removes everything."""
    settings = dataclasses.replace(cluster_settings, home=tmp_path / "home")
    command = (
        "from backends.kind import cluster; from digits.settings import Settings; "
        f"cluster.up(Settings.load(dotenv=None), print, name='{HALF}')"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", command], env=os.environ | settings.environ(), start_new_session=True, cwd=ROOT
    )
    try:
        deadline = time.monotonic() + 60
        while not program("docker", "ps", "-q", "--filter", f"name={HALF}-control-plane"):
            assert child.poll() is None, "up ended before its node was there"
            assert time.monotonic() < deadline, "no node appeared"
            time.sleep(0.1)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        cluster._create(settings, HALF, print)
        nodes = program("kubectl", f"--kubeconfig={kubeconfig_path(settings)}", "get", "nodes", "--output=name")
        assert nodes.split() == [f"node/{HALF}-control-plane"]
    finally:
        assert cluster.down(settings, print, name=HALF) is True
    assert program("docker", "ps", "-aq", "--filter", f"name={HALF}") == ""
    assert cluster.down(settings, print, name=HALF) is False


def test_missing_image(cluster_settings: Settings) -> None:
    """An image that is not on this machine is named, with the command that gets it."""
    with pytest.raises(MissingError, match="digits-nowhere:1") as missing:
        load(["digits-nowhere:1"], NAME)
    assert "docker pull" in missing.value.remedy


def test_page_in_the_cluster(
    namespace: Namespace, cluster_images: dict[str, str], small_releases: list[Release], browser: Any
) -> None:
    """The page in the cluster recognises a digit drawn in a browser and stores its correction there."""
    rollout.deploy(namespace.settings, *namespace.publish(small_releases[0]))
    install(namespace.settings, cluster_images)
    with forwarded(kubeconfig_path(namespace.settings), namespace.name, "service/web", 80) as (port,):
        page = browser.new_context().new_page()
        visit = Visit(page)
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/")
        visit.state("")
        visit.draw([(0.54, 0.15), (0.47, 0.85)])
        assert visit.digit() == "1"
        assert small_releases[0].version in page.locator("#model").inner_text()
        page.locator("#labels button").nth(7).click()
        page.locator("#thanks", has_text="Stored as a 7").wait_for()
        assert visit.errors == []
        page.context.close()
    assert corrections.collect(namespace.store, limit=10).labels.tolist() == [7]


def test_a_user_deploys_opens_and_rolls_back(
    namespace: Namespace, cluster_images: dict[str, str], small_releases: list[Release], tmp_path: Path
) -> None:
    """The commands serve the champion, open its page and roll back; the opened ports follow the new pod."""
    install(namespace.settings, cluster_images)
    settings = dataclasses.replace(namespace.settings, store=(tmp_path / "store").as_uri())
    store, environment = open_store(settings), os.environ | settings.environ()
    versions = [write_release(store, r.folder, r.manifest)["version"] for r in small_releases]

    def digits(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "digits", "cluster", *arguments, "--json"]
        process = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
        )
        assert process.returncode == 0, process.stderr
        answer: dict[str, Any] = json.loads(process.stdout)
        return answer

    for version in versions:
        ledger.promote(store, version, "of this machine")
        assert digits("deploy")["release"] == version
    assert releases.load(namespace.store, versions[1]) == releases.load(store, versions[1])
    assert digits("rollback")["release"] == versions[0]

    command = [sys.executable, "-m", "digits", "cluster", "open", "--no-open"]
    opened = subprocess.Popen(
        command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert opened.stderr is not None
        endpoint, page = (opened.stderr.readline().split() for _ in range(2))
        about = httpx.get(f"{endpoint[1]}/v2/models/digits", timeout=30).json()
        assert about["parameters"]["release"] == versions[0]
        deadline = time.monotonic() + 60  # the page's connection may still lead to the pod that is ending
        while ((answer := httpx.get(f"{page[2]}/api/model", timeout=30).json()).get("model") or {}).get(
            "release"
        ) != versions[0]:
            assert time.monotonic() < deadline, answer
            time.sleep(1)
        assert digits("rollback")["release"] == versions[1]  # replaces the pod behind the opened port
        lines = [opened.stderr.readline().strip() for _ in range(2)]
        assert (lines[0].endswith("no longer answers"), lines[1]) == (True, "connected again")
        about = httpx.get(f"{endpoint[1]}/v2/models/digits", timeout=30).json()
        assert about["parameters"]["release"] == versions[1]
        image = np.full((28, 28), 200, np.uint8)
        corrections.record(namespace.store, image, 7, drawing_png=b"", release=versions[0], answer=1)
        opened.send_signal(signal.SIGINT)
        assert opened.wait(60) == 0
        assert "1 correction from the cluster's page" in opened.stderr.read()
        assert corrections.collect(store, limit=10).labels.tolist() == [7]
    finally:
        if opened.poll() is None:
            os.killpg(opened.pid, signal.SIGKILL)
            opened.wait()

"""A folder of pictures becomes a classifier: trained in Docker containers, served on a cluster, used on a page."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from backends.docker.backend import DockerBackend
from backends.kserve import rollout
from backends.kserve.kube import kubeconfig_path
from digits.serving import client
from tests.helpers.cluster_fixtures import Namespace
from tests.helpers.engines import cleaned, engine
from tests.helpers.shapes import LABELS, write_shapes
from tests.helpers.support import ROOT, free_port

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
PNG = {"Content-Type": "image/png"}


def test_a_folder_of_pictures_is_served_on_the_cluster(namespace: Namespace, tmp_path: Path) -> None:
    """Four commands lead to a page that names what a picture shows; the cluster answers as the container here."""
    engine().close()
    pictures = write_shapes(tmp_path / "pictures", 40, size=(40, 40))
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(kubeconfig_path(namespace.settings), home)
    settings = dataclasses.replace(namespace.settings, home=home, store="", tracking_uri="", backend="docker")
    settings = dataclasses.replace(settings, port=free_port(), grpc_port=free_port())
    environment = os.environ | settings.environ() | {"DIGITS_DATA": ""}

    def digits(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "digits", *arguments, "--json"]
        process = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
        )
        assert process.returncode == 0, process.stderr
        answer: dict[str, Any] = json.loads(process.stdout)
        return answer

    with cleaned(settings):
        digits("new", "shapes", str(pictures))
        environment["DIGITS_TASK"] = str(tmp_path / "shapes.toml")
        environment["PYTHONPATH"] = str(ROOT)
        version = digits("run", "--epochs", "2")["release"]
        assert digits("cluster", "deploy")["release"] == version

        settings = settings.with_task(environment["DIGITS_TASK"])
        task = settings.declaration
        images = np.stack(
            [np.asarray(Image.open(pictures / label / "0.png").resize((task.width, task.height))) for label in LABELS]
        )
        backend = DockerBackend(settings)
        local = client.predict(backend.endpoint(), images, task=task)
        backend.close()
        with rollout.connected(settings) as url:
            served = client.predict(url, images, task=task)
        assert served.release == local.release == version
        np.testing.assert_allclose(served.probabilities, local.probabilities, atol=1e-6)

        opened = subprocess.Popen(
            [sys.executable, "-m", "digits", "cluster", "open", "--no-open"],
            env=environment,
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            assert opened.stderr is not None
            _, page = (re.findall(r"http://\S+", opened.stderr.readline()) for _ in range(2))
            for label in LABELS:
                body = (pictures / label / "0.png").read_bytes()
                answer = httpx.post(f"{page[0]}/api/recognise", content=body, headers=PNG, timeout=60).json()
                assert answer["digits"][0]["label"] == label, answer
        finally:
            opened.send_signal(signal.SIGINT)
            try:
                opened.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(opened.pid, signal.SIGKILL)
                opened.wait()

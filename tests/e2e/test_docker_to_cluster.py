"""From training in containers to serving on a cluster, with nothing between but the release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cluster_fixtures import Namespace
from engines import PARAMETERS, cleaned, engine, settings_for

from backends.base import Request
from backends.cluster import kserve
from backends.docker.backend import DockerBackend
from digits import client, deployment, releases
from digits.store import open_store

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


def test_what_docker_trained_the_cluster_serves(namespace: Namespace, digits_images: Any, tmp_path: Path) -> None:
    """A model trained by the docker backend answers 100 images on the cluster as its container does here."""
    engine().close()
    images = digits_images[0][:100]
    with cleaned(settings_for(tmp_path / "home", backend="docker")) as settings:
        backend = DockerBackend(settings)
        backend.check()
        version = backend.run(Request(PARAMETERS), lambda event: None).outputs["published"]["version"]
        there = releases.copy(open_store(backend.here()), namespace.store, version)

        kserve.deploy(namespace.settings, there, releases.uri_of(namespace.store, version))
        local = client.predict(backend.endpoint(), images)
        with kserve.connected(namespace.settings) as url:
            served = client.predict(url, images)
            rows = deployment.request(f"{url}/v1/models/digits:predict", {"instances": (images / 255).tolist()})
    assert served.release == local.release == version
    np.testing.assert_allclose(served.probabilities, local.probabilities, atol=1e-6)
    np.testing.assert_allclose(rows["predictions"], local.probabilities, atol=1e-5)
    print("trained in Docker, served on kind; first ten:", served.classes[:10].tolist())

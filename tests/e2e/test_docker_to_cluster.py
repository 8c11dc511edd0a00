"""A release that was trained in Docker containers is served on a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.base import Request
from backends.docker.backend import DockerBackend
from backends.kserve import rollout
from digits.http import request_json
from digits.release import releases
from digits.release.write import copy_release
from digits.serving import client
from digits.store import open_store
from tests.helpers.cluster_fixtures import Namespace
from tests.helpers.engines import PARAMETERS, cleaned, engine, settings_for

pytestmark = [pytest.mark.cluster, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_cluster_serves_a_release_from_docker(namespace: Namespace, digits_images: Any, tmp_path: Path) -> None:
    """A model trained by the docker backend gives the same predictions on the cluster as in its container here."""
    engine().close()
    images = digits_images[0][:100]
    with cleaned(settings_for(tmp_path / "home", backend="docker")) as settings:
        backend = DockerBackend(settings)
        backend.check()
        version = backend.run(Request(PARAMETERS), lambda event: None).outputs["published"]["version"]
        manifest = copy_release(open_store(backend.host_settings()), namespace.store, version)

        rollout.deploy(namespace.settings, manifest, releases.release_uri(namespace.store, version))
        local = client.predict(backend.endpoint(), images)
        with rollout.connected(namespace.settings) as url:
            served = client.predict(url, images)
            rows = request_json(f"{url}/v1/models/digits:predict", {"instances": (images / 255).tolist()})
    assert served.release == local.release == version
    np.testing.assert_allclose(served.probabilities, local.probabilities, atol=1e-6)
    np.testing.assert_allclose(rows["predictions"], local.probabilities, atol=1e-5)
    print("trained in Docker, served on kind; first ten:", served.classes[:10].tolist())

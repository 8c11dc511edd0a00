"""Signed releases on a real cluster: one is served, a tampered one never, and the former continues to serve."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from backends.kind import cluster
from backends.kind.namespace import PREDICTOR_IMAGE, install
from backends.kserve import rollout
from backends.kserve.revision import Revision, inference_service
from backends.kserve.service import service_path
from digits.errors import EndpointError
from digits.http import request_json
from digits.release import releases
from digits.store import Trust
from tests.helpers.cluster_fixtures import NAME, Namespace, Release
from tests.helpers.signing import new_keys

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]


def served(namespace: Namespace) -> str:
    """Return the version that the endpoint reports."""
    with rollout.connected(namespace.settings) as url:
        return str(request_json(f"{url}/v2/models/digits")["parameters"]["release"])


def test_a_tampered_release_is_not_served(namespace: Namespace, small_releases: list[Release], tmp_path: Path) -> None:
    """With trusted keys a signed release is served. A forged one leaves its pod unready, and the status says why."""
    private, public = new_keys(tmp_path)
    settings = dataclasses.replace(namespace.settings, trusted_keys=str(public))
    install(settings, {PREDICTOR_IMAGE: namespace.predictor_image})
    store = namespace.store
    store.trust = Trust(str(public), str(private), tmp_path / "seen.json")
    (first, first_uri), (second, second_uri) = (namespace.publish(release) for release in small_releases)
    rollout.deploy(namespace.settings, first, first_uri)
    assert served(namespace) == first["version"]

    # The second release gets the model of the first, with a manifest that fits. No check of ours precedes its pod.
    prefix, earlier = (
        releases.release_prefix(store, second["version"]),
        releases.release_prefix(store, first["version"]),
    )
    files = second["files"] | {"model.onnx": first["files"]["model.onnx"]}
    store.put(prefix + "model.onnx", store.get(earlier + "model.onnx"))
    forged = second | {"files": files, "golden": first["golden"]}
    store.put(prefix + releases.MANIFEST, json.dumps(forged).encode())
    body = inference_service("digits", Revision.for_release(second, second_uri, ""))
    namespace.kube.apply(service_path(namespace.name, "digits"), body)
    deadline, why = time.monotonic() + 180, ""
    while f"the signature of release {second['version']} is for another model.onnx" not in why:
        assert time.monotonic() < deadline, why
        time.sleep(2)
        (endpoint,) = cluster.status(namespace.settings, name=NAME)["endpoints"]
        why = endpoint["why"]
    assert served(namespace) == first["version"]
    rollout.deploy(namespace.settings, first, first_uri)
    assert cluster.status(namespace.settings, name=NAME)["endpoints"][0]["why"] == ""

    # The second release's folder gets all files of the first one, whose signature is valid.
    for key in store.keys(earlier):
        store.put(prefix + key.removeprefix(earlier), store.get(key))
    with pytest.raises(EndpointError, match=f"expected release {second['version']}"):
        rollout.deploy(namespace.settings, second, second_uri)
    assert served(namespace) == first["version"]

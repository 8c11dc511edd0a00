"""The process and docker backends are one pipeline: same steps, data, weights, figures and answers.

One trains with one worker, the other with four, which must not matter either.
"""

from __future__ import annotations

import numpy as np
import pytest

from backends.base import Request
from backends.docker.backend import DockerBackend
from backends.process import predictor
from backends.process.backend import ProcessBackend
from digits.data import fetch
from digits.http import request_json
from digits.release import releases
from digits.store import open_store
from digits.tasks.task import find
from tests.helpers.engines import cleaned, engine, settings_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(1200)]

# TensorFlow's sums run in an order that depends on threads and processor. On one machine the two backends' weights have
# been equal to the bit; this much is allowed for another base image's libraries.
NOISE = 1e-4
PARAMETERS = {"dataset": "sklearn-digits", "epochs": 1, "seed": 11, "min_accuracy": 0.3, "shards": 8}
KINDS = {"process": (ProcessBackend, 1), "docker": (DockerBackend, 4)}  # and the number of workers


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """{backend: (result, manifest, answers on 100 test images)} of the same request."""
    engine().close()
    found = {}
    for name, (kind, workers) in KINDS.items():
        with cleaned(settings_for(tmp_path_factory.mktemp(name), backend=name, workers=workers)) as settings:
            backend = kind(settings)
            try:
                result = backend.run(Request(PARAMETERS), lambda event: None)
                manifest = releases.load(open_store(backend.host_settings()), result.outputs["published"]["version"])
                test = fetch.fetch(find("digits"), "sklearn-digits", "", settings.home / "data").test
                instances = (test.images[:100].astype(np.float32) / 255).tolist()
                url = f"{backend.endpoint()}/v1/models/digits:predict"
                answers = np.asarray(request_json(url, {"instances": instances}, seconds=30)["predictions"])
                found[name] = (result, manifest, answers)
            finally:
                predictor.stop_all(settings)
                backend.close()
    return found


def test_both_run_the_same_steps(sides):
    """The runs on both backends have the same steps, in the same states."""
    lists = [{name: step.state for name, step in result.steps.items()} for result, _, _ in sides.values()]
    assert lists[0] == lists[1]


def test_both_see_the_same_data_and_code(sides):
    """The runs on both backends have the same digests of data and code."""
    (_, one, _), (_, other, _) = sides.values()
    assert one["data"] == other["data"]
    assert one["code"] == other["code"]
    assert one["parameters"] == other["parameters"]


def test_both_reach_the_same_figures(sides):
    """The metrics of both runs differ by float noise at most."""
    (_, one, _), (_, other, _) = sides.values()
    assert one["metrics"].keys() == other["metrics"].keys()
    for name, value in one["metrics"].items():
        assert value == pytest.approx(other["metrics"][name], abs=NOISE), name


def test_both_endpoints_answer_the_same_on_100_images(sides):
    """Both endpoints answer the same classes, and probabilities that differ by float noise at most."""
    (_, _, one), (_, _, other) = sides.values()
    assert one.shape == (100, 10)
    np.testing.assert_allclose(one, other, atol=NOISE)
    np.testing.assert_array_equal(one.argmax(1), other.argmax(1))

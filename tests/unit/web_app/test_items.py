"""Tasks other than digits: what the gateway answers for their pictures, and their corrections."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest

from tests.helpers.gateway_requests import ONE, coloured, recognise
from tests.helpers.standin import StandIn
from tests.helpers.tasks import COLOURS


def test_a_picture_is_recognised_as_the_endpoints_task_declares(gallery: httpx.Client, painter: StandIn) -> None:
    """The model gets the picture in the task's size and colours; the answer has one item with its label."""
    answer = recognise(gallery, coloured("lime", (80, 60))).raise_for_status().json()
    (image,) = painter.images
    assert np.array_equal(image, np.full((24, 32, 3), (0, 255, 0), np.uint8))
    (item,) = answer["digits"]
    assert (answer["class"], answer["number"], item["label"]) == (1, "<b>green</b>", "<b>green</b>")
    assert answer["probabilities"] == pytest.approx([0, 1, 0])
    assert base64.b64decode(answer["picture"]) == image.tobytes()
    assert answer["verdict"]["state"] == "sure"


def test_each_endpoint_has_its_own_task(gallery: httpx.Client) -> None:
    """The page learns what the endpoint recognises, and whether corrections of it can be stored."""
    here, digits = (gallery.get("/api/model", params={"endpoint": name}).json() for name in ("here", "digits"))
    assert here["task"] == {
        "name": "colours",
        "labels": list(COLOURS.labels),
        "height": 24,
        "width": 32,
        "channels": 3,
        "reading": "photo",
        "drawn": False,
        "number": False,
    }
    assert (here["feedback"], digits["feedback"], digits["task"]["number"]) == (True, False, True)
    assert recognise(gallery, ONE, "digits").json()["number"] == "3"

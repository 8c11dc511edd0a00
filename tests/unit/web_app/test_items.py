"""Tasks other than digits: what the gateway answers for their pictures, and their corrections."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest

from digits.data import corrections
from digits.store.file import FileStore
from tests.helpers.gateway_requests import ONE, PNG, coloured, correct, recognise
from tests.helpers.standin import PAINTS, StandIn


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
        "labels": list(PAINTS.labels),
        "height": 24,
        "width": 32,
        "channels": 3,
        "reading": "photo",
        "drawn": False,
        "number": False,
    }
    assert (here["feedback"], digits["feedback"], digits["task"]["number"]) == (True, False, True)
    assert recognise(gallery, ONE, "digits").json()["number"] == "3"


def test_a_picture_is_corrected_by_its_label(gallery: httpx.Client, store: FileStore, painter: StandIn) -> None:
    """The label's text is stored as its class, with the image that the model got and the picture in colour."""
    recognise(gallery, coloured("lime"))
    query = {"label": "red", "answer": "<b>green</b>", "release": "v1"}
    answer = gallery.post("/api/feedback", params=query, content=coloured("lime"), headers=PNG)
    assert answer.raise_for_status().json()["label"] == "red"
    assert gallery.get("/metrics").text.count('digits_web_feedback_total{label="red"} 1.0') == 1
    collected = corrections.collect(store, limit=10, task=PAINTS)
    assert np.array_equal(collected.images, painter.images)
    assert [(entry.label, entry.answer) for entry in corrections.list_current(store, PAINTS)] == [(0, 1)]
    gallery.post("/api/feedback", params=query | {"answer": "a lost class"}, content=coloured("lime"), headers=PNG)
    assert [(entry.label, entry.answer) for entry in corrections.list_current(store, PAINTS)] == [(0, None)]
    for label in ("0", "Red", "", "green"):
        assert correct(gallery, label, coloured("lime")).status_code == 400


def test_another_task_is_not_corrected(gallery: httpx.Client, store: FileStore) -> None:
    """A correction of an endpoint whose task is not the store's is refused; the reason names both."""
    query = {"label": "red", "endpoint": "digits"}
    answer = gallery.post("/api/feedback", params=query, content=coloured("lime"), headers=PNG)
    assert answer.status_code == 409
    assert {"colours,", "digits"} <= set(answer.json()["error"].split())
    assert store.keys() == []

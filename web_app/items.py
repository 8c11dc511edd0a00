"""The items of a picture: reading, describing and correcting them as a task declares it.

A number has an item for each digit; another picture has one, or none if a drawing is empty.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from digits.data import corrections
from digits.data.number import MAX_DIGITS, Digit, decide, images_of
from digits.data.preprocessing import Ink
from digits.data.reader import read_images
from digits.errors import DataError
from digits.evaluation.verdict import is_sure
from digits.serving.listener import RejectedRequest
from digits.store import ObjectStore
from digits.tasks.task import Task
from web_app.endpoint_client import EndpointClient

# Pixels per picture. Processing this many takes 40 MB, and a container has a few hundred; the page sends 78,400.
MAX_PIXELS = 1_000_000
PngImagePlugin.MAX_TEXT_MEMORY = 1 << 20  # bytes of all texts in a PNG; Pillow's 64 MB come from a few kilobytes


def read(task: Task, png: bytes) -> list[Digit]:
    """Return the items of a picture. Raises DataError if it cannot be read."""
    return read_images(task, io.BytesIO(png), formats=("PNG",), max_pixels=MAX_PIXELS)


async def recognise(
    client: EndpointClient, task: Task, digits: list[Digit], waited: float = 0.0
) -> tuple[list[Digit], list[list[float]], dict[str, Any] | None]:
    """Return the items, of which those that touch are divided, the model's answers to them, and its metadata.

    `waited` is that of the client's method. Raises EndpointStateError.
    """
    if not digits:
        return [], [], None
    answers, model = await client.recognise(np.stack(images_of(digits)), task, waited)
    return *decide(digits, answers), model


def describe_task(task: Task) -> dict[str, Any]:
    """Return what the page has to know of a task."""
    keys = ("name", "labels", "height", "width", "channels", "reading", "drawn")
    return {key: getattr(task, key) for key in keys} | {"number": task.is_number}


def describe(task: Task, item: Digit, shares: list[float], threshold: float | None) -> dict[str, Any]:
    """Return the answer for one item."""
    number = shares.index(max(shares))
    return {
        "class": number,
        "label": task.labels[number],
        "probabilities": shares,
        "verdict": "sure" if is_sure(shares, item.doubtful, threshold) else "unsure",
        "box": [round(side, 4) for side in item.box],
        "picture": base64.b64encode(item.image.tobytes()).decode(),
    }


def read_classes(task: Task, query: Mapping[str, str], name: str) -> list[int]:
    """Return the classes that the query's `name` states: the digits of a number, or the class of a label."""
    value = query.get(name, "")
    if task.is_number:
        if 1 <= len(value) <= MAX_DIGITS and set(value) <= set(task.labels):
            return [task.labels.index(digit) for digit in value]
        raise RejectedRequest(400, f"expected {name} with 1 to {MAX_DIGITS} digits, got {value[:20]!r}")
    if value not in task.labels:
        raise RejectedRequest(400, f"expected {name} with a label of the task {task.name}, got {value[:60]!r}")
    return [task.labels.index(value)]


def record(
    store: ObjectStore,
    task: Task,
    items: Sequence[Digit],
    labels: Sequence[int],
    answers: Sequence[int | None],
    release: str,
) -> list[str]:
    """Store a correction of each item with its ink, not the rest of the picture, which may be private. Return the keys.

    Raises:
        DataError: there is no item.
    """
    if not items:
        raise DataError("expected a drawing, got an empty image", remedy="draw a digit first")
    return [
        corrections.record(
            store, item.image, label, drawing_png=_to_png(item.ink), release=release, answer=answer, task=task
        )
        for item, label, answer in zip(items, labels, answers, strict=True)
    ]


def _to_png(ink: Ink) -> bytes:
    file = io.BytesIO()
    Image.fromarray(ink).save(file, "PNG")
    return file.getvalue()

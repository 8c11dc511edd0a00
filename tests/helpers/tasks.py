"""Tasks for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence

from digits.tasks.task import find


def task_text(labels: Sequence[str], shape: tuple[int, int, int], name: str = "colours") -> str:
    """Return the text of a task of pictures of `shape`, (height, width, channels)."""
    height, width, channels = shape
    image = {"height": height, "width": width, "channels": channels, "reading": "photo"}
    return json.dumps({"name": name, "labels": labels, "image": image})


# With a label that would be markup, if a page inserted it as such.
COLOURS = find(task_text(["red", "<b>green</b>", "a rather long name of the colour blue, with commas"], (24, 32, 3)))

"""Tasks for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence


def task_text(labels: Sequence[str], shape: tuple[int, int, int], name: str = "colours") -> str:
    """Return the text of a task of pictures of `shape`, (height, width, channels)."""
    height, width, channels = shape
    image = {"height": height, "width": width, "channels": channels, "reading": "photo"}
    return json.dumps({"name": name, "labels": labels, "image": image})

"""A data set of coloured shapes, as picture files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from digits.tasks.task import Source, Task

LABELS = ("circle", "square", "triangle")


def shape(label: str, seed: int, size: tuple[int, int] = (60, 48)) -> Image.Image:
    """A shape of a random colour, size and place on a random background."""
    random = np.random.default_rng([seed, LABELS.index(label)])
    paper, ink = random.integers(160, 256, 3), random.integers(0, 120, 3)
    picture = Image.new("RGB", size, tuple(int(value) for value in paper))
    radius = float(random.uniform(0.25, 0.4)) * min(size)
    x, y = (side / 2 + float(random.uniform(-0.1, 0.1)) * side for side in size)
    pen, box = ImageDraw.Draw(picture), (x - radius, y - radius, x + radius, y + radius)
    colour = tuple(int(value) for value in ink)
    if label == "circle":
        pen.ellipse(box, colour)
    elif label == "square":
        pen.rectangle(box, colour)
    else:
        pen.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], colour)
    return picture


def write_shapes(folder: Path, count: int = 10, *, first: int = 0, size: tuple[int, int] = (60, 48)) -> Path:
    """Write `count` pictures of each shape to `folder/LABEL/NUMBER.png`. Return the folder."""
    for label in LABELS:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for seed in range(first, first + count):
            shape(label, seed, size).save(folder / label / f"{seed}.png")
    return folder


def shapes_task(place: Path | str = "", data_format: str = "folder", **data: object) -> Task:
    """The task that recognises the shapes in colour, 24 x 32 pixels."""
    return Task("shapes", LABELS, 24, 32, 3, "photo", False, Source(data_format, str(place), **data))  # type: ignore[arg-type]

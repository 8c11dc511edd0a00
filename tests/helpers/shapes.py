"""A folder of small pictures in colour, for tests with a task of their own."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image, ImageDraw

LABELS = ("circle", "square", "triangle")


def write_shapes(folder: Path, count: int, side: int = 40) -> Path:
    """Write `count` pictures of each shape in random colours to sub-folders. Return the folder."""
    dice = random.Random(1)  # not for cryptography
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for n in range(count):
            paper, ink = (tuple(dice.randint(low, low + 90) for _ in range(3)) for low in (160, 0))
            picture = Image.new("RGB", (side, side), paper)
            x, y = side // 2 + dice.randint(-3, 3), side // 2 + dice.randint(-3, 3)
            half = dice.randint(side // 5, side // 3)
            box = (x - half, y - half, x + half, y + half)
            draw = ImageDraw.Draw(picture)
            if label == "circle":
                draw.ellipse(box, fill=ink)
            elif label == "square":
                draw.rectangle(box, fill=ink)
            else:
                draw.polygon([(x, y - half), (x - half, y + half), (x + half, y + half)], fill=ink)
            picture.save(folder / label / f"{n:03}.png")
    return folder

"""Generated digits in styles that MNIST lacks, drawn with random strokes of a pen.

MNIST's writers are Americans of the 1990s. Elsewhere a 1 has a flag and perhaps a foot, a 7 has a bar, a 9 a small head
and a curled tail, a 6 a small bowl, and a 4 is open. A few thousand of these among the training images suffice for a
network to recognise such digits; dev/bench/pens.py measures this on real pen drawings.

A glyph is drawn in a box that is 1 high and about 1 wide, x to the right and y down. It is then placed like MNIST's
digits: 20 pixels on the longer side, the centre of mass in the middle of 28 x 28 pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from digits.data.preprocessing import BOX, FIELD

Points = npt.NDArray[np.float64]  # (n, 2): x and y
Random = np.random.Generator

_FINE = 4  # samples per pixel while a glyph is drawn
_PEN_WIDTH = (1.7, 2.9)  # range in pixels
_WIDTH = (0.6, 1.0)  # range of a glyph's width, as a share of its template's
_SLANT = (-0.35, 0.15)  # range of the shift to the right per unit down


def generate(count: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return images, uint8 (count, 28, 28) in 0..255, and their labels, uint8 (count,).

    All glyphs are equally frequent. The same `seed` gives the same images.
    """
    rng = np.random.default_rng(seed)
    labels = [list(GLYPHS)[i % len(GLYPHS)] for i in range(count)]
    images = [_paint(GLYPHS[label](rng), rng) for label in labels]
    return np.array(images, np.uint8).reshape(-1, FIELD, FIELD), np.array(labels, np.uint8)


def _one(rng: Random) -> list[Points]:
    """Draw a 1 with a flag and sometimes a foot."""
    between = rng.uniform
    top, foot = (between(0.5, 0.8), 0.0), (between(0.3, 0.6), 1.0)
    low = between(0.15, 0.65)
    flag = (top[0] - 0.05 - low * between(0.5, 1.5), low)  # a flatter long flag would be the top of a 7
    if rng.random() < 0.3:  # a short flag, as in print
        foot = (top[0] - between(-0.05, 0.15), 1.0)
        flag = (top[0] - between(0.12, 0.35), between(0.05, 0.22))
    bent = ((flag[0] + top[0]) / 2 + between(-0.05, 0.05), flag[1] / 2 + between(-0.06, 0.06))
    strokes = [np.array([flag, bent, top, foot])]
    if rng.random() < 0.3:
        left = (foot[0] - between(0.15, 0.55), 1 + between(-0.03, 0.03))
        strokes.append(np.array([left, (foot[0] + between(0.15, 0.6), 1 + between(-0.03, 0.03))]))
    return strokes


def _four(rng: Random) -> list[Points]:
    """Draw an open 4 of two strokes; the first is angular or round."""
    between = rng.uniform
    if rng.random() < 0.4:  # narrow and with a low bar, at which the second stroke begins
        y, width = between(0.6, 0.85), between(0.3, 0.6)
        corner = [(between(0.1, 0.6) * width, 0), (between(0, 0.1), y), (width, y + between(-0.1, 0.05))]
        x = between(0.6, 1) * width
        down = np.array([(x, y - between(0, 0.25)), (x + between(-0.15, 0.04), between(0.95, 1.15))])
        return [_curve(*corner) if rng.random() < 0.5 else np.array(corner), down]
    y, width = between(0.45, 0.75), between(0.35, 0.9)
    if rng.random() < 0.6:
        first = np.array([
            (between(0.2, 0.5) * width, 0),
            (between(0, 0.1), y + between(-0.05, 0.03)),
            (width, y + between(-0.06, 0.06)),
        ])  # fmt: skip
    else:
        first = _curve(
            (between(0.15, 0.4) * width, 0),
            (between(0, 0.08), 0.7 * y),
            (between(0.05, 0.15), y),
            (width, y + between(-0.1, 0.04)),
        )
    x = between(0.35, 0.75) * width
    second = [(x + between(0, 0.12), between(0.15, 0.45)), (x + between(-0.06, 0.04), between(0.9, 1.1))]
    return [first, np.array(second)]


def _six(rng: Random) -> list[Points]:
    """Draw a 6 with a small bowl."""
    between = rng.uniform
    wide, high = between(0.1, 0.28), between(0.1, 0.22)
    x, y = between(0.35, 0.5), 1 - high
    stem = _curve(
        (x - wide + between(0.15, 0.6), 0),
        (x - wide + between(0, 0.25), between(0.25, 0.4)),
        (x - wide + between(-0.02, 0.05), y),
    )
    return [np.vstack([stem, _arc(x, y, wide, high, 180, 180 - between(300, 420))])]


def _seven(rng: Random) -> list[Points]:
    """Draw a 7 with a bar, in one stroke or in two."""
    between = rng.uniform
    left, right = between(0.05, 0.3), between(0.6, 0.95)
    top = _curve((left, between(0, 0.1)), ((left + right) / 2, between(-0.06, 0.05)), (right, between(-0.02, 0.06)))
    if rng.random() < 0.5:
        top = np.vstack([[(left, between(0.12, 0.25))], top])
    foot = (between(0.2, 0.6), 1 + between(-0.03, 0.03))
    middle = ((right + foot[0]) / 2 + between(-0.05, 0.12), 0.5)
    down = _curve((top[-1, 0], top[-1, 1]), middle, foot)
    y = between(0.4, 0.88)
    x = float(np.interp(y, [0, 0.5, 1], [right, middle[0], foot[0]]))
    if rng.random() < 0.4:
        y = min(y, 0.68)
        start = (x - between(0.15, 0.45), y + between(-0.02, 0.1))
        back = _curve(foot, ((foot[0] + start[0]) / 2 - between(0, 0.12), (1 + start[1]) / 2), start)
        return [np.vstack([top, down, back[1:], [(x + between(0.15, 0.45), y + between(-0.08, 0.06))]])]
    ends = [(x - between(0.15, 0.35), y + between(-0.04, 0.06)), (x + between(0.15, 0.35), y + between(-0.06, 0.04))]
    return [np.vstack([top, down]), np.array(ends)]


def _nine(rng: Random) -> list[Points]:
    """Draw a 9 with a small head and a tail that curls to the left."""
    between = rng.uniform
    wide, high = between(0.1, 0.3), between(0.07, 0.25)
    start = between(-80, 10)
    head = _arc(0.5, high, wide, high, start, start - between(300, 400))
    x, belly = 0.5 + wide * between(0.4, 1.1), between(0, 0.4)
    tail = [
        (head[-1, 0], head[-1, 1]),
        (x, high + high * between(0, 0.5)),
        (x + belly, between(0.65, 0.8)),
        (x - between(0.1, 0.2) + 0.5 * belly, between(0.93, 1)),
        (x - between(0.35, 0.7), 1 + between(-0.08, 0.03)),
    ]
    if rng.random() < 0.4:
        tail.append((x - between(0.6, 0.8), between(0.8, 0.95)))
    return [np.vstack([head, _curve(*tail)])]


GLYPHS: dict[int, Callable[[Random], list[Points]]] = {1: _one, 4: _four, 6: _six, 7: _seven, 9: _nine}


def _arc(x: float, y: float, wide: float, high: float, start: float, end: float) -> Points:
    """Return an arc of an ellipse around (x, y), between two angles in degrees."""
    angles = np.radians(np.linspace(start, end, 20))
    return np.stack([x + wide * np.cos(angles), y + high * np.sin(angles)], 1)


def _curve(*through: tuple[float, float], steps: int = 5) -> Points:
    """Return a Catmull-Rom spline through the points, with `steps` points per segment."""
    p = np.array(through)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    between = b + t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - a - 3 * c + d))) / 2
    return np.vstack([between.reshape(-1, 2), p[-2:-1]])


def _paint(strokes: list[Points], rng: Random) -> npt.NDArray[np.uint8]:
    """Return the strokes, narrowed and slanted at random, as an image, uint8 (28, 28)."""
    pen = rng.uniform(*_PEN_WIDTH)
    shape = np.array([[rng.uniform(*_WIDTH), rng.uniform(*_SLANT)], [0, 1]])
    strokes = [stroke @ shape.T for stroke in strokes]
    points = np.vstack(strokes)
    scale = (BOX - pen) / (points.max(0) - points.min(0)).max()
    starts, ends = (np.vstack([stroke[part] for stroke in strokes]) for part in (slice(None, -1), slice(1, None)))
    lengths = np.hypot(*(ends - starts).T)
    centre = ((starts + ends) / 2 * lengths[:, None]).sum(0) / lengths.sum()
    picture = Image.new("L", (FIELD * _FINE, FIELD * _FINE))
    brush = ImageDraw.Draw(picture)
    radius = pen * _FINE / 2
    for stroke in strokes:
        line = [(float(x), float(y)) for x, y in ((stroke - centre) * scale + FIELD / 2) * _FINE]
        brush.line(line, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (line[0], line[-1]):
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(picture.reduce(_FINE))

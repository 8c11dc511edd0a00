"""MNIST pictures as pen strokes: their skeleton, traced as a person's pen would have gone."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Stroke = list[tuple[float, float]]  # (x, y) in 0..1 of the picture's side
ENLARGED = 4
FIELD = 28
THRESHOLD = 150  # of 255: lower fills small loops, higher breaks thin strokes; 150 replays best


def mnist(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images uint8 (n, 28, 28) and labels uint8 (n,) of 'train' or 't10k'."""
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def unipen(path: Path) -> Iterator[tuple[int, list[Stroke]]]:
    """(label, strokes) of each digit in a file of UNIPEN's format that holds its own points, as UCI's pendigits-orig.

    There x goes to the right and y up, in 0..500.
    """
    label, strokes = -1, list[Stroke]()
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(".SEGMENT"):
            if strokes:
                yield label, strokes
            label, strokes = int(line.split('"')[1]), []
        elif line.startswith(".PEN_DOWN"):
            strokes.append([])
        elif line.strip() and not line.startswith("."):
            x, y = line.split()
            strokes[-1].append((int(x) / 500, 1 - int(y) / 500))
    if strokes:
        yield label, strokes


def strokes_of(image: NDArray[np.uint8]) -> list[Stroke]:
    """The strokes of a picture, uint8 (28, 28): its skeleton cut at the crossings, smoothed."""
    side = FIELD * ENLARGED
    large = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    ink = np.pad(large > THRESHOLD, 1)
    lines = _trace(_thin(ink))
    strokes = []
    for line in lines:
        if len(line) < ENLARGED * 1.5 and len(lines) > 1:
            continue  # a spur that thinning leaves on a thick stroke
        points = np.array(line, float)
        if len(points) > 4:
            padded = np.vstack([points[:1], points[:1], points, points[-1:], points[-1:]])
            points = sum(padded[i : i + len(points)] for i in range(5)) / 5
            points = np.vstack([points[::3], points[-1:]])
        strokes.append([((x - 0.5) / side, (y - 0.5) / side) for y, x in points])
    return strokes


def _thin(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Zhang and Suen's thinning."""
    ink = ink.copy()
    while True:
        before = ink.sum()
        for step in (0, 1):
            p = np.stack([np.roll(ink, (-dy, -dx), (0, 1)) for dy, dx in RING])
            count = p.sum(0)
            turns = (~p & np.roll(p, -1, 0)).sum(0)
            n, e, s, w = p[0], p[2], p[4], p[6]
            open_ = (~(n & e & s) & ~(e & s & w)) if step == 0 else (~(n & e & w) & ~(n & s & w))
            ink &= ~((count >= 2) & (count <= 6) & (turns == 1) & open_)
        if ink.sum() == before:
            return ink


RING = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]


def _trace(skeleton: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Walk the skeleton from its ends and crossings; what is left are rings."""
    left = {(int(y), int(x)) for y, x in np.argwhere(skeleton)}
    near = {p: [(p[0] + dy, p[1] + dx) for dy, dx in RING if (p[0] + dy, p[1] + dx) in left] for p in left}
    lines = []
    starts = sorted(left, key=lambda p: (len(near[p]) != 1, p))
    for start in starts:
        while start in left or any(q in left for q in near[start]):
            line = [start]
            left.discard(start)
            while options := [q for q in near[line[-1]] if q in left]:
                line.append(min(options, key=lambda q, line=line: _turn(line, q)))  # type: ignore[misc]
                left.discard(line[-1])
            closing = [q for q in near[line[-1]] if q not in line[-3:] and q in near]
            if closing:
                line.append(closing[0])
            lines.append(line)
            if len(line) == 1:
                break
    return lines


def _turn(line: list[tuple[int, int]], point: tuple[int, int]) -> float:
    """How much a line would turn by going on to `point`: -1 straight on, 1 back."""
    ahead, behind = np.subtract(point, line[-1]), np.subtract(line[-1], line[max(0, len(line) - 6)])
    return float(-(behind @ ahead) / (np.linalg.norm(ahead) * (np.linalg.norm(behind) + 1e-9)))


def painted(
    strokes: list[Stroke], *, pen: float, fill: float = 0.75, slant: float = 0.0, turn: float = 0.0, side: int = 280
) -> NDArray[np.uint8]:
    """The drawing, uint8 (side, side), as the page would paint it.

    Args:
        strokes: in 0..1.
        pen: the pen's width, of the side.
        fill: the digit's longer side, of the side.
        slant: sideways for each step upwards.
        turn: radians, clockwise.
        side: pixels.
    """
    points = np.concatenate([np.array(stroke) for stroke in strokes])
    low, high = points.min(0), points.max(0)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ np.array([[1, -slant], [0, 1]])
    large = 2 * side
    picture = Image.new("L", (large, large))
    brush = ImageDraw.Draw(picture)
    radius = pen * large / 2
    for stroke in strokes:
        at = (np.array(stroke) - (low + high) / 2) / max((high - low).max(), 1e-3) * fill @ turned.T + 0.5
        line = [(x * large, y * large) for x, y in at.tolist()]
        brush.line(line, fill=255, width=max(1, round(2 * radius)))
        for x, y in line:
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))

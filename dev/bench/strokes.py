"""MNIST pictures as pen strokes: their skeleton, traced as a person's pen would have gone."""

from __future__ import annotations

import gzip
import re
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
    """Return images, uint8 (n, 28, 28), and labels, uint8 (n,), of 'train' or 't10k'."""
    images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


_SEGMENT = re.compile(r'\.SEGMENT\s+(?:CHARACTER|DIGIT)\s+([\d:,-]+)\s+\S+\s+"(\d)"')


def unipen(path: Path) -> Iterator[tuple[int, list[Stroke]]]:
    """Yield (label, strokes) of each digit in a file in the format of UNIPEN, such as the one of UCI pendigits-orig.

    The files that it includes are read from the folder `include` in one of its parent folders. x goes to the right and
    y up. The strokes are scaled to 0..1 of the digit's longer side.
    """
    components, segments = list[tuple[bool, Stroke]](), list[tuple[str, str]]()
    _read_unipen(path, components, segments)
    for parts, label in segments:
        strokes = [np.array(points) for down, points in _delineated(components, parts) if down and points]
        if strokes:
            low, high = (f([f(stroke, 0) for stroke in strokes], 0) for f in (np.min, np.max))
            side = max(1, (high - low).max())
            yield int(label), [[(x, 1 - y) for x, y in ((stroke - low) / side).tolist()] for stroke in strokes]


def _read_unipen(path: Path, components: list[tuple[bool, Stroke]], segments: list[tuple[str, str]]) -> None:
    """Append a file's components, each with whether the pen was down, and the delineations and labels of its digits."""
    inside = False
    for line in path.read_text(encoding="latin-1").splitlines():
        if line.startswith((".PEN_DOWN", ".PEN_UP")):
            inside = True
            if components and not components[-1][1]:
                components.pop()  # an empty component has no number
            components.append((line.startswith(".PEN_DOWN"), []))
        elif line.startswith(".INCLUDE"):
            for folder in path.parents:
                if (included := folder / "include" / line.split()[1]).exists():
                    _read_unipen(included, components, segments)
                    break
        elif found := _SEGMENT.match(line):
            segments.append(found.groups())  # type: ignore[arg-type] # two groups, which always match
        elif line.startswith("."):
            inside = inside and line.startswith(".DT")
        elif inside and line.strip():
            x, y = line.split()[:2]
            components[-1][1].append((float(x), float(y)))


def _delineated(components: list[tuple[bool, Stroke]], parts: str) -> Iterator[tuple[bool, Stroke]]:
    """Yield the components, or parts of them, of an expression such as `1:40-3,5`; `1:40`: point 40 of component 1."""
    for part in parts.split(","):
        (first, start), (last, end) = ((*map(int, end.split(":")), None)[:2] for end in (part.split("-") * 2)[:2])
        for number in range(first, min(last + 1, len(components))):
            down, points = components[number]
            until = len(points) if number < last or end is None else end + 1
            yield down, points[start if number == first and start else 0 : until]


def strokes_of(image: NDArray[np.uint8]) -> list[Stroke]:
    """Return the strokes of a picture, uint8 (28, 28): its skeleton, cut at the crossings and smoothed."""
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
    """Return the skeleton of a shape, by Zhang and Suen's method."""
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
    """Follow the skeleton from its ends and crossings, then the remaining rings."""
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
    """Return how much a line would turn if it continued to `point`, from -1 (straight) to 1 (back)."""
    ahead, behind = np.subtract(point, line[-1]), np.subtract(line[-1], line[max(0, len(line) - 6)])
    return float(-(behind @ ahead) / (np.linalg.norm(ahead) * (np.linalg.norm(behind) + 1e-9)))


def painted(
    strokes: list[Stroke], *, pen: float, fill: float = 0.75, slant: float = 0.0, turn: float = 0.0, side: int = 280
) -> NDArray[np.uint8]:
    """Return the drawing, uint8 (side, side), as the page would paint it.

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

"""Drawings of one digit and of digits that touch: they overlap, a stroke connects them, or their edges meet."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from strokes import mnist, strokes_of

Ink = NDArray[np.uint8]
Random = np.random.Generator
WAYS = ("kiss", "overlap", "stroke")


class Style(NamedTuple):
    """How one writer writes: with a pen, or as MNIST's image shows; the pen's width, the slant and the width."""

    pen: bool
    width: float
    slant: float
    stretch: float
    height: float


class Group(NamedTuple):
    """A drawing: its ink, its digits, how they touch, and the ink of each."""

    ink: Ink
    label: str
    way: str
    layers: list[Ink]


class Writer:
    """Draws digits of MNIST with random styles."""

    def __init__(self, folder: Path, part: str, first: int, last: int, count: int) -> None:
        """Take the images from `first` to `last`, and trace the strokes of `count` of them."""
        images, labels = mnist(folder, part)
        self.images, self.labels = images[first:last], labels[first:last]
        chosen = np.random.default_rng(7).permutation(len(self.images))[:count]
        traced = [(strokes_of(self.images[i]), str(self.labels[i])) for i in chosen]
        self.strokes = [(strokes, label) for strokes, label in traced if strokes]

    def style(self, r: Random) -> Style:
        """Return a random style."""
        width, slant, stretch = r.uniform(0.03, 0.14), r.normal(0, 0.15), np.exp(r.normal(0, 0.12))
        return Style(bool(r.random() < 0.6), float(width), float(slant), float(stretch), float(r.uniform(40, 110)))

    def digit(self, r: Random, style: Style) -> tuple[Ink, str]:
        """Return the ink of a digit, cropped, and its label."""
        high, turn = style.height * r.uniform(0.88, 1.12), r.normal(0, 0.06)
        slant, stretch = style.slant + r.normal(0, 0.04), style.stretch * np.exp(r.normal(0, 0.05))
        shape = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        shape = shape @ np.array([[stretch, -slant], [0, 1]])
        if style.pen:
            strokes, label = self.strokes[r.integers(len(self.strokes))]
            ink = _drawn([np.array(stroke) @ shape.T for stroke in strokes], high, style.width * style.height)
        else:
            n = r.integers(len(self.images))
            ink, label = _enlarged(self.images[n], shape, high), str(self.labels[n])
        return (cropped(ink), label) if (ink > 40).any() else self.digit(r, style)

    def single(self, r: Random, *, wide: bool) -> Group:
        """Return one digit; a wide one is up to 1.6 times as wide as it was written."""
        style = self.style(r)._replace(slant=float(r.normal(0, 0.22)))
        style = style._replace(stretch=style.stretch * float(np.exp(r.uniform(-0.2, 0.45)))) if wide else style
        ink, label = self.digit(r, style)
        return Group(ink, label, "single", [ink])

    def group(self, r: Random, count: int, ways: tuple[str, ...] = WAYS) -> Group:
        """Return digits of one style that touch, or nearly touch if one of the ways is "near"."""
        while True:
            style, way = self.style(r), str(r.choice(ways))
            digits = [self.digit(r, style) for _ in range(count)]
            layers = _joined(r, [ink for ink, _ in digits], style, way)
            ink = np.max(layers, axis=0)
            areas = cv2.connectedComponentsWithStats((ink > 64).astype(np.uint8), connectivity=8)[2][1:, 4]
            if way == "near" or areas.max() >= 0.93 * areas.sum():
                (top, bottom), (left, right) = (np.flatnonzero(ink.any(axis=axis))[[0, -1]] for axis in (1, 0))
                area = slice(top, bottom + 1), slice(left, right + 1)
                label = "".join(label for _, label in digits)
                return Group(ink[area], label, way, [layer[area] for layer in layers[:count]])


def cropped(ink: Ink) -> Ink:
    """Return ink without its blank sides."""
    rows, columns = np.flatnonzero(ink.max(axis=1) > 40), np.flatnonzero(ink.max(axis=0) > 40)
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _line(ink: Ink, points: NDArray[np.float64], width: float) -> None:
    near = np.round(np.concatenate([points, points[-1:]]) * 16).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(ink, [near], False, (255,), max(1, round(width)), cv2.LINE_AA, 4)


def _drawn(strokes: list[NDArray[np.float64]], high: float, width: float) -> Ink:
    points = np.concatenate(strokes)
    low, top = points.min(0), points.max(0)
    scale, room = high / max(top[1] - low[1], 0.3), int(width) + 4
    size = ((top - low) * scale + 2 * room).astype(int) + 1
    large = np.zeros((2 * size[1], 2 * size[0]), np.uint8)
    for stroke in strokes:
        _line(large, ((stroke - low) * scale + room) * 2, 2 * max(1.2, width))
    return np.asarray(cv2.resize(large, size.tolist(), interpolation=cv2.INTER_AREA), np.uint8)


def _enlarged(image: Ink, shape: NDArray[np.float64], high: float) -> Ink:
    rows = np.flatnonzero(image.max(axis=1) > 60)
    scale = high / max(rows[-1] - rows[0] + 1, 12)
    side = int(28 * scale * 1.7 * max(1.0, shape[0, 0]))
    move = side / 2 - scale * shape @ np.array([13.5, 13.5])
    large = cv2.warpAffine(image, np.c_[scale * shape, move], (side, side), flags=cv2.INTER_CUBIC)
    return np.clip((large.astype(np.float32) - 60) * 2, 0, 255).astype(np.uint8) if scale > 1.5 else large


def _joined(r: Random, digits: list[Ink], style: Style, way: str) -> list[Ink]:
    """Return the ink of each digit, moved together on one sheet, then that of the strokes that connect them."""
    high = max(len(digit) for digit in digits)
    sheet = np.zeros((round(1.6 * high), sum(digit.shape[1] for digit in digits) + len(digits) * high), np.uint8)
    layers, links = list[Ink](), list[Ink]()
    for digit in digits:
        top = len(sheet) // 2 - len(digit) // 2 + round(float(r.normal(0, 0.06)) * high)
        top, left = min(max(top, 0), len(sheet) - len(digit)), 2
        if layers:
            before = sheet[top : top + len(digit)] > 90
            ends = np.where(before.any(axis=1), before.shape[1] - before[:, ::-1].argmax(axis=1), -(10**6))
            starts = np.where((digit > 90).any(axis=1), (digit > 90).argmax(axis=1), 10**6)
            left = max(int((np.roll(ends, d) - starts).max()) for d in (-1, 0, 1))
            left += {
                "kiss": -int(r.integers(0, 2)),
                "overlap": -max(1, int(r.uniform(0.01, 0.08) * high)),
                "stroke": max(2, int(r.uniform(0.04, 0.3) * high)),
                "near": max(2, int(r.uniform(0.02, 0.25) * high)),
            }[way]
        layer = np.zeros_like(sheet)
        layer[top : top + len(digit), max(left, 0) : max(left, 0) + digit.shape[1]] = digit
        if layers and way == "stroke":
            links.append(_link(r, layers[-1], layer, high, style.width * style.height if style.pen else 0.1 * high))
        layers.append(layer)
        sheet = np.maximum(sheet, layer)
    return layers + links


def _link(r: Random, left: Ink, right: Ink, high: int, width: float) -> Ink:
    """Return a stroke between two digits: at some height, or from an end of the left one to one of the right one."""
    link, (a, b) = np.zeros_like(left), (np.argwhere(ink > 128) for ink in (left, right))
    if r.random() < 0.5:
        level = r.uniform(0, len(left))
        start = a[np.argmin(abs(a[:, 0] - level) - 0.7 * a[:, 1])]
        end = b[np.argmin(abs(b[:, 0] - level - r.normal(0, 0.1) * high) + 0.7 * b[:, 1])]
    else:
        start = a[np.argmax(a[:, 1] + r.choice([-1, 1]) * 0.5 * a[:, 0])]
        end = b[np.argmin(b[:, 1] + r.choice([-1, 1]) * 0.5 * b[:, 0])]
    middle, t = (start + end) / 2 + (r.normal(0, 0.08) * high, 0), np.linspace(0, 1, 12)[:, None]
    _line(link, ((1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end)[:, ::-1], width)
    return link

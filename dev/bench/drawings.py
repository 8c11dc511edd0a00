"""Digits that are not MNIST's, to measure how a network does on other writers, pens and screens.

`scans`: scikit-learn's digits. `moved`: MNIST images rotated, slanted and stretched. `pen`: MNIST images reduced to
their skeleton and drawn again with a round pen of even width. `sketched`: digits drawn from stroke templates in the
ways people write them (open and closed 4, 7 with and without bar, 9 with straight and curled tail, 1 with and without
serif). All get the treatment that MNIST had, and none is used in training.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

Images = npt.NDArray[np.uint8]
Labelled = tuple[Images, npt.NDArray[np.uint8]]
Points = npt.NDArray[np.float64]  # (n, 2): x to the right, y down, the digit within about 0..1


def as_mnist(picture: npt.NDArray[np.float64]) -> Images:
    """Return a picture with ink 0..255 in MNIST's form: cropped, fit into 20 x 20, centre of mass in the middle."""
    rows, columns = np.nonzero(picture > 24)
    picture = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = 20 / max(picture.shape)
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = np.asarray(Image.fromarray(picture.astype(np.float32)).resize(size, Image.Resampling.BOX), dtype=np.float64)
    page = np.zeros((28, 28))
    y, x = ndimage.center_of_mass(small)
    top = int(np.clip(round(13.5 - y), 0, 28 - small.shape[0]))
    left = int(np.clip(round(13.5 - x), 0, 28 - small.shape[1]))
    page[top : top + small.shape[0], left : left + small.shape[1]] = small
    return np.clip(page.round(), 0, 255).astype(np.uint8)


def scans() -> Labelled:
    """Return scikit-learn's 1,797 digits of 8 x 8, enlarged."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    enlarged = [
        ndimage.zoom(image.reshape(8, 8) * (255 / 16), 5, order=1, grid_mode=True, mode="grid-constant")
        for image in images
    ]
    return np.stack([as_mnist(image) for image in enlarged]), labels.astype(np.uint8)


def moved(data: Labelled, seed: int = 0) -> Labelled:
    """Return `data` rotated by up to 15 degrees, slanted by up to 0.3 and stretched by up to a quarter."""
    rng = np.random.default_rng(seed)
    out = []
    for image in data[0]:
        angle, slant, stretch = rng.uniform(-np.pi / 12, np.pi / 12), rng.uniform(-0.3, 0.3), rng.uniform(-0.25, 0.25)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.array([[1, 0], [slant, 1]]) @ np.diag([np.exp(-stretch / 2), np.exp(stretch / 2)]) / 3
        middle = np.array([13.5, 13.5]) - matrix @ np.array([59.5, 59.5])
        out.append(
            as_mnist(
                np.clip(ndimage.affine_transform(image.astype(float), matrix, middle, (120, 120), order=1), 0, 255)
            )
        )
    return np.stack(out), data[1]


def pen(data: Labelled, seed: int = 0) -> Labelled:
    """Return `data` reduced to skeletons and drawn again with a round pen 1.2 to 3.2 pixels wide."""
    rng = np.random.default_rng(seed)
    large = np.stack(
        [ndimage.gaussian_filter(ndimage.zoom(image.astype(float), 4, order=1), 2) > 110 for image in data[0]]
    )
    kept, out = [], []
    for i, skeleton in enumerate(thin(large)):
        if skeleton.sum() < 8:
            continue
        kept.append(i)
        reach = rng.uniform(1.2, 3.2) * 2
        out.append(as_mnist(255 * np.clip(reach + 0.5 - ndimage.distance_transform_edt(~np.pad(skeleton, 8)), 0, 1)))
    return np.stack(out), data[1][kept]


def thin(shapes: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the skeletons of many shapes `(n, h, w)`, by Zhang and Suen's method."""
    shapes = np.pad(shapes, ((0, 0), (1, 1), (1, 1))).astype(np.uint8)
    while True:
        before = int(shapes.sum())
        for phase in (0, 1):
            c = shapes[:, 1:-1, 1:-1]
            p = [
                shapes[:, 1 + y : shapes.shape[1] - 1 + y, 1 + x : shapes.shape[2] - 1 + x]
                for y, x in ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
            ]
            count = sum(p[1:], p[0].copy())
            turns = sum(((a == 0) & (b == 1)).astype(np.uint8) for a, b in zip(p, [*p[1:], p[0]], strict=True))
            n, e, s, w = p[0], p[2], p[4], p[6]
            sides = ((n & e & s) | (e & s & w)) if phase == 0 else ((n & e & w) | (n & s & w))
            c[(c == 1) & (count >= 2) & (count <= 6) & (turns == 1) & (sides == 0)] = 0
        if int(shapes.sum()) == before:
            return shapes[:, 1:-1, 1:-1].astype(bool)


# Each way of writing a digit is a list of strokes; a stroke that begins with "~" is a curve through its points.
_WAYS: dict[int, list[list[str]]] = {
    0: [
        ["~ .5,0 .15,.2 .05,.55 .25,.95 .6,.98 .9,.6 .85,.2 .5,0"],
        ["~ .6,.02 .2,.15 .05,.55 .3,.98 .75,.85 .93,.4 .65,.03 .4,.1"],
        ["~ .55,0 .3,.3 .25,.7 .45,1 .7,.7 .75,.3 .5,.02"],
    ],
    1: [
        [".5,0 .5,1"],
        [".62,0 .4,1"],
        [".25,.25 .5,0 .5,1"],
        [".25,.25 .5,0 .5,1", ".25,1 .75,1"],
        ["~ .5,0 .52,.5 .48,1"],
        [".3,.3 .55,0 .45,1"],
    ],
    2: [
        ["~ .1,.25 .3,.02 .7,.05 .85,.3 .6,.6 .1,1", ".1,1 .9,1"],
        ["~ .1,.2 .45,0 .8,.2 .7,.5 .3,.85 .1,.95 .2,.75 .4,.9 .7,1 .95,.9"],
        ["~ .15,.3 .4,0 .8,.15 .7,.55 .1,.97 .5,.93 .95,1"],
        ["~ .1,.1 .6,0 .85,.2 .55,.6 .1,1", "~ .1,1 .4,.95 .9,.97"],
    ],
    3: [
        ["~ .1,.12 .5,0 .85,.2 .7,.42 .4,.48", "~ .4,.48 .8,.55 .92,.78 .6,1 .1,.92"],
        [".1,.03 .85,.03 .45,.42", "~ .45,.42 .85,.55 .85,.85 .45,1 .1,.9"],
        ["~ .15,.1 .6,0 .8,.2 .5,.45 .35,.47 .6,.48 .9,.7 .6,1 .1,.93"],
    ],
    4: [
        [".2,0 .1,.55 .9,.55", ".7,.25 .65,1"],
        [".65,0 .08,.65 .95,.65", ".65,0 .65,1"],
        [".15,.05 .12,.5 .85,.5", ".8,0 .75,1"],
        ["~ .2,0 .1,.35 .25,.55 .8,.45", ".85,0 .8,.5 .75,1"],
        [".3,0 .1,.6 .95,.58", ".6,.35 .55,1"],
        [".7,1 .7,0 .05,.6 .95,.62"],
        ["~ .1,.05 .1,.4 .35,.55 .75,.4", ".8,.02 .7,1"],
    ],
    5: [
        [".85,.02 .25,.02 .18,.42", "~ .18,.42 .55,.35 .9,.65 .65,.98 .1,.92"],
        [".25,.05 .2,.42", "~ .2,.42 .6,.38 .85,.7 .55,1 .1,.9", ".25,.05 .9,.02"],
        ["~ .9,.02 .5,.03 .25,.1 .2,.4 .5,.42 .85,.65 .6,.98 .1,.95"],
    ],
    6: [
        ["~ .7,0 .3,.3 .12,.7 .4,1 .8,.85 .75,.58 .45,.52 .15,.72"],
        ["~ .45,0 .15,.5 .15,.85 .5,1 .85,.8 .6,.55 .2,.7"],
        ["~ .85,.05 .5,.05 .15,.45 .12,.85 .5,1 .82,.78 .55,.58 .2,.68"],
    ],
    7: [
        [".1,.02 .9,.02 .4,1"],
        [".1,.02 .9,.02 .4,1", ".3,.5 .8,.5"],
        [".1,.15 .12,.02 .88,.02 .5,1"],
        ["~ .1,.08 .5,.02 .9,.03 .65,.4 .5,1"],
        [".08,.05 .92,.02 .45,1", ".25,.55 .75,.45"],
        ["~ .1,.1 .3,.02 .6,.12 .9,.03 .6,.5 .45,1"],
    ],
    8: [
        ["~ .8,.15 .5,0 .2,.2 .4,.42 .75,.65 .7,.95 .35,1 .15,.8 .4,.5 .75,.3 .75,.1"],
        ["~ .5,.48 .2,.25 .5,0 .8,.25 .5,.48", "~ .5,.48 .12,.75 .5,1 .88,.75 .5,.48"],
        ["~ .8,.1 .4,.02 .2,.25 .5,.47 .85,.75 .5,1 .15,.8 .45,.5 .85,.15"],
    ],
    9: [
        ["~ .8,.2 .5,0 .15,.2 .3,.48 .65,.42 .8,.15", ".8,.15 .72,1"],
        ["~ .82,.15 .45,.02 .12,.28 .4,.5 .8,.25 .82,.2 .8,.7 .55,.98 .15,.92"],
        ["~ .75,.1 .4,0 .15,.25 .4,.45 .75,.25 .78,.12 .75,.5 .65,1"],
        ["~ .8,.1 .35,.05 .15,.3 .45,.48 .8,.2", "~ .8,.15 .8,.6 .6,.95 .3,1 .15,.85"],
        ["~ .85,.08 .5,0 .15,.22 .35,.42 .7,.3 .85,.08", ".85,.08 .5,1"],
    ],
}


def sketched(count: int, seed: int = 0) -> Labelled:
    """Return `count` digits drawn from templates, each bent, slanted, stretched and drawn with its own pen."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    images = []
    for label in labels:
        ways = _WAYS[int(label)]
        images.append(_sketch(ways[rng.integers(len(ways))], rng))
    return np.stack(images), labels.astype(np.uint8)


def _sketch(way: list[str], rng: np.random.Generator) -> Images:
    angle, slant, stretch = rng.normal(0, 0.17), rng.normal(0, 0.25), rng.normal(0, 0.3)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, slant], [0, 1]]) @ np.diag([0.75 * np.exp(stretch), 1.0])
    bend = rng.normal(0, 0.08, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))
    strokes = []
    for text in way:
        curved = text.startswith("~")
        points = np.array([[float(v) for v in pair.split(",")] for pair in text.lstrip("~ ").split()])
        points = points + rng.normal(0, 0.045, points.shape)
        points = _curve(points) if curved else _line(points)
        wave = np.stack([(bend[0][axis] * np.sin(4 * points + bend[1][axis])).sum(1) for axis in (0, 1)], axis=1)
        strokes.append((points + wave - 0.5) @ matrix.T)
    return _draw(strokes, rng.uniform(0.06, 0.15))


def _line(points: Points) -> Points:
    parts = [np.linspace(a, b, 12, endpoint=False) for a, b in pairwise(points)]
    return np.concatenate([*parts, points[-1:]])


def _curve(points: Points) -> Points:
    """Return a Catmull-Rom curve through the points."""
    p = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    t = np.linspace(0, 1, 10)[:, None]
    a, b, c, d = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return curve.reshape(-1, 2)


def _draw(strokes: list[Points], width: float) -> Images:
    every = np.concatenate(strokes)
    low, high = every.min(0), every.max(0)
    scale = 160 / (high - low).max()
    radius = width * 160 / 2
    size = tuple(int(v) for v in (high - low) * scale + 2 * radius + 4)
    picture = Image.new("L", size)
    draw = ImageDraw.Draw(picture)
    for stroke in strokes:
        at = [tuple(p) for p in (stroke - low) * scale + radius + 2]
        draw.line(at, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (at[0], at[-1]):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return as_mnist(np.asarray(picture, dtype=np.float64))

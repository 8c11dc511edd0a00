"""The fifteen corruptions of MNIST-C, at the severities of the published data set, made from images of a test set.

Mu and Gilmer, MNIST-C: A Robustness Benchmark for Computer Vision (2019, arXiv:1906.02337); several are those of
Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (ICLR 2019,
arXiv:1903.12261). The parameters are theirs; this code is ours, so single pixels differ from the published files.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from digits.data.dataset import Dataset
from digits.data.preprocessing import FIELD
from digits.tasks.task import Task

COUNT = 1000  # images of the test set that are corrupted, evenly spaced, the same for each corruption
_MIDDLE = (FIELD - 1) / 2  # shears, rotations and scalings keep it

Levels = NDArray[np.floating[Any]]  # (n, 28, 28), ink in 0..1
Random = np.random.Generator


def corrupt(test: Dataset, task: Task, seed: int = 0) -> dict[str, Dataset]:
    """Return a corrupted data set of at most COUNT images by the corruption's name; none for other than pen drawings.

    The parameters are in pixels of MNIST's images, so drawings of another size have none.
    """
    if task.reading != "pen" or task.shape != (FIELD, FIELD) or not len(test):
        return {}
    count = min(COUNT, len(test))
    chosen = test[np.arange(count) * len(test) // count]
    result = {}
    for n, (name, function) in enumerate(CORRUPTIONS.items()):
        levels = function(chosen.images.astype(np.float32) / 255, np.random.default_rng([seed, n]))
        images = (np.clip(levels, 0, 1) * 255).round().astype(np.uint8)
        result[name] = Dataset(images, chosen.labels)
    return result


def _shot_noise(levels: Levels, generator: Random) -> Levels:
    return generator.poisson(levels * 3) / 3


def _impulse_noise(levels: Levels, generator: Random) -> Levels:
    return np.where(generator.random(levels.shape) < 0.17, generator.integers(0, 2, levels.shape), levels)


def _glass_blur(levels: Levels, generator: Random) -> Levels:
    """Blur, exchange pixels with neighbours, and blur. The published images are blurred only from top to bottom."""
    result, images = _blurred(levels, 0.7, (1, 7)), np.arange(len(levels))
    for _ in range(2):
        for row in range(FIELD - 1, 1, -1):
            for column in range(FIELD - 1, 1, -1):
                up, left = generator.integers(-1, 1, (2, len(levels))) * generator.integers(0, 2, len(levels))
                here, there = (images, row, column), (images, row + up, column + left)
                result[here], result[there] = result[there], result[here]
    return _blurred(result, 0.7, (1, 7))


def _motion_blur(levels: Levels, generator: Random) -> Levels:
    """Blur along a line of 21 pixels to one side, with the weights of a half Gaussian, as ImageMagick does."""
    weights = np.exp(-(np.arange(21) ** 2) / (2 * 3.0**2))
    result = np.empty_like(levels)
    for n, angle in enumerate(np.radians(generator.uniform(-45, 45, len(levels)))):
        kernel = np.zeros((41, 41))
        along = np.ceil(np.outer([np.sin(angle), np.cos(angle)], np.arange(21)) - 0.5).astype(int) + 20
        np.add.at(kernel, tuple(along), weights / weights.sum())
        result[n] = cv2.filter2D(levels[n], -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return result


def _shear(levels: Levels, generator: Random) -> Levels:
    angle, zero = 0.4 * _signs(generator, len(levels)), np.zeros(len(levels))
    return _warped(levels, [[zero + 1, -np.sin(angle)], [zero, np.cos(angle)]])


def _scale(levels: Levels, generator: Random) -> Levels:  # noqa: ARG001 - of the corruptions' common form
    one = np.ones(len(levels))
    return _warped(levels, [[one / 0.7, 0 * one], [0 * one, one / 0.7]])


def _rotate(levels: Levels, generator: Random) -> Levels:
    angle = 0.4 * _signs(generator, len(levels))
    return _warped(levels, [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _brightness(levels: Levels, generator: Random) -> Levels:  # noqa: ARG001
    return levels + 0.5


def _translate(levels: Levels, generator: Random) -> Levels:
    padded = np.pad(levels, ((0, 0), (3, 3), (3, 3)))
    corners = 3 + 3 * _signs(generator, 2 * len(levels)).astype(int).reshape(-1, 2)
    return np.array([image[y : y + FIELD, x : x + FIELD] for image, (x, y) in zip(padded, corners, strict=True)])


def _stripe(levels: Levels, generator: Random) -> Levels:  # noqa: ARG001
    outside = (np.arange(FIELD) < 7) | (np.arange(FIELD) >= 21)
    return np.where(outside, 1 - levels, levels)


def _fog(levels: Levels, generator: Random) -> Levels:
    """Add a cloud of the diamond-square algorithm. One cloud serves 64 images, each with another part of it."""
    clouds = np.concatenate([_clouds(generator) for _ in range(0, len(levels), 64)])[: len(levels)]
    highest = levels.max(axis=(1, 2), keepdims=True)
    return np.asarray((levels + 3 * clouds) * highest / (highest + 3))


def _clouds(generator: Random, side: int = 256) -> Levels:
    """Return 64 parts of a cloud, (64, 28, 28) in 0..1."""
    cloud, step, height = np.zeros((side, side)), side, 100.0

    def between(total: NDArray[np.float64]) -> NDArray[np.float64]:
        return total / 4 + height * generator.uniform(-height, height, total.shape)

    while step >= 2:
        half = step // 2
        corners = cloud[::step, ::step]
        below = corners + np.roll(corners, -1, 0)
        cloud[half::step, half::step] = centres = between(below + np.roll(below, -1, 1))
        cloud[::step, half::step] = between(centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1))
        cloud[half::step, ::step] = between(centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0))
        step, height = half, height / 1.4
    cloud = (cloud - cloud.min()) / np.ptp(cloud)
    parts = cloud.reshape(8, side // 8, 8, side // 8).swapaxes(1, 2)[:, :, :FIELD, :FIELD]
    return np.asarray(parts.reshape(-1, FIELD, FIELD))


def _spatter(levels: Levels, generator: Random) -> Levels:
    """Splash mud: what of a blurred noise is above a level covers the ink with a dark grey."""
    liquid = _blurred(generator.normal(0.65, 0.3, levels.shape), 1, (9, 9))
    mud = _blurred((liquid > 0.65).astype(float), 1.5, (13, 13))
    mud[mud < 0.8] = 0
    return levels * (1 - mud) + mud * 63 / 255


def _dotted_line(levels: Levels, generator: Random) -> Levels:
    first, last = generator.integers(0, 27, (2, len(levels)))
    return levels + _line(0, first, 27, last) * (np.arange(FIELD) // 2 % 2)


def _zigzag(levels: Levels, generator: Random) -> Levels:
    start = generator.integers(0, 27, len(levels)).astype(float)
    turn = np.arctan(generator.integers(-5, 5, len(levels)) / 23)
    length = 23 / np.cos(turn)
    along = [0 * turn, *(4.0 * n + 2 + 0 * turn for n in range(6)), length]
    across = [0 * turn, *(2.0 * (-1) ** n + 0 * turn for n in range(6)), -1 / (length - 20)]
    points = [
        (2 + np.cos(turn) * x - np.sin(turn) * y, start + np.sin(turn) * x + np.cos(turn) * y)
        for x, y in zip(along, across, strict=True)
    ]
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        levels = np.clip(levels + _line(x, y, next_x, next_y), 0, 1)
    return levels


def _canny_edges(levels: Levels, generator: Random) -> Levels:  # noqa: ARG001
    """Keep the edges that Canny's detector finds, with the deviation 1 and the thresholds 0.1 and 0.2."""
    unit, result = 1000, np.empty_like(levels)
    padded = np.pad(levels, ((0, 0), (4, 4), (4, 4)))
    for n, image in enumerate(_blurred(padded, 1, (9, 9)) * unit):
        x, y = (cv2.Sobel(image, cv2.CV_32F, *order).round().astype(np.int16) for order in ((1, 0), (0, 1)))
        result[n] = cv2.Canny(x, y, 0.1 * unit, 0.2 * unit, L2gradient=True)[4:-4, 4:-4] / 255
    return result


def _signs(generator: Random, count: int) -> NDArray[np.float64]:
    return generator.choice([-1.0, 1.0], count)


def _blurred(levels: Levels, deviation: float, size: tuple[int, int]) -> Levels:
    """Return the images under a Gaussian filter of `size` (width, height) pixels."""
    return np.array([cv2.GaussianBlur(x, size, deviation, borderType=cv2.BORDER_REPLICATE) for x in levels])


def _warped(levels: Levels, matrix: list[list[NDArray[np.float64]]]) -> Levels:
    """Return the images under linear maps, (2, 2, n), that lead from the result to the image and keep the middle."""
    turns = np.moveaxis(np.array(matrix), 2, 0)
    maps = np.concatenate([turns, _MIDDLE - turns.sum(axis=2, keepdims=True) * _MIDDLE], axis=2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pairs = zip(levels, maps, strict=True)
    return np.array([cv2.warpAffine(image, each, (FIELD, FIELD), flags=flags) for image, each in pairs])


def _line(x: ArrayLike, y: ArrayLike, end_x: ArrayLike, end_y: ArrayLike) -> Levels:
    """Return lines between points, which fade over 2.3 pixels up and down. Each coordinate is (n,) or a number."""
    x, y, end_x, end_y = (np.reshape(np.asarray(value, float), (-1, 1, 1)) for value in (x, y, end_x, end_y))
    columns, rows = np.arange(FIELD), np.arange(FIELD)[:, None]
    distance = np.abs(rows - (y + (end_y - y) / (end_x - x) * (columns - x)))
    level = np.clip(np.log(1 - np.minimum(distance, 2.3 - 1e-10) / 2.3) + 1, 0, 1)
    return np.asarray(level * ((columns >= np.floor(x)) & (columns < np.ceil(end_x))))


CORRUPTIONS: dict[str, Callable[[Levels, Random], Levels]] = {
    "shot noise": _shot_noise,
    "impulse noise": _impulse_noise,
    "glass blur": _glass_blur,
    "motion blur": _motion_blur,
    "shear": _shear,
    "scale": _scale,
    "rotation": _rotate,
    "brightness": _brightness,
    "translation": _translate,
    "stripe": _stripe,
    "fog": _fog,
    "spatter": _spatter,
    "dotted line": _dotted_line,
    "zigzag": _zigzag,
    "Canny edges": _canny_edges,
}

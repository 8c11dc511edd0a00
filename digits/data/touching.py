"""A cut through the ink of a digit that may be two which touch. The model, which reads both sides, decides."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from digits.data.preprocessing import Ink, crop, to_mnist

_HIGH = 64  # pixels to which ink is reduced
_SLANTS = (-0.15, 0.15, 0.45)  # of the straight cuts, to the right per unit up
_PARTS = 3  # of a slant's columns; each one's best cut is tried
_WIDEST = 1.5  # greatest length of a cut through ink, in widths of the strokes
_TALL = 0.8  # least height of both sides, of the ink's
_WHOLE = 0.9  # least share of a side's ink that is connected
_LIKELY = 0.9  # least probability of the digits on both sides
_SURE = 0.99  # least probability of a digit that may be as wide as _WIDTHS
_NARROW = 0.8  # greatest width of others, of _WIDTHS
# Width of each digit, of its height, that 99.5 % of MNIST's training images do not exceed.
_WIDTHS = (1.45, 1.0, 1.7, 1.25, 1.25, 1.7, 1.25, 1.4, 1.25, 1.1)


def sides(ink: Ink) -> tuple[Ink, ...]:
    """Return both sides of the shortest cut through ink, uint8 (height, width), as images in MNIST's form, or ().

    There is none unless each side is about as high as the ink and almost all connected.
    """
    own = crop(ink)
    scale = min(1.0, _HIGH / max(own.shape))
    size = max(1, round(own.shape[1] * scale)), max(1, round(own.shape[0] * scale))
    own = np.asarray(cv2.resize(own, size, interpolation=cv2.INTER_AREA), np.uint8)
    mask = (own >= max(1, int(own.max()) // 4)).astype(np.uint8)
    distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)
    stroke = 4 * float(distance[distance > 0].mean())
    height, width = mask.shape
    found = list[tuple[float, NDArray[np.bool_]]]()
    for slant in _SLANTS:
        column = np.arange(width) + np.round(slant * (np.arange(height)[:, None] - height / 2)).astype(int)
        column -= column.min()
        ink_of = cv2.blur(np.bincount(column[mask > 0]).astype(np.float32)[None], (max(1, int(stroke / 3)) | 1, 1))[0]
        used = np.flatnonzero(ink_of)
        middle = np.arange(*np.quantile(used[[0, -1]], (0.2, 0.8)).astype(int))
        for part in np.array_split(middle, _PARTS):
            if len(part) and (length := float(ink_of[part].min()) / stroke) < _WIDEST:
                found.append((length, column >= part[ink_of[part].argmin()]))
    for _, right in sorted(found, key=lambda each: each[0]):
        if all(_stands_alone(mask & side) for side in (~right, right)):
            return tuple(to_mnist(np.where(side, own, np.uint8(0))) for side in (~right, right))
    return ()


def _stands_alone(mask: NDArray[np.uint8]) -> bool:
    """Return whether the largest connected part of one side is high and almost all of its ink."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if len(stats) < 2:
        return False
    most = stats[1 + stats[1:, 4].argmax()]
    return bool(most[3] >= _TALL * len(mask) and most[4] >= _WHOLE * stats[1:, 4].sum())


def may_be_two(width: float, whole: ArrayLike, both: ArrayLike) -> bool:
    """Return whether ink may be two digits: it is wider than the one that it is read as, or both its sides are digits.

    Less width suffices if the answer is less likely. `width` is that of the ink, of its height, or 0; `whole` are the
    probabilities (10,) of the ink and `both` (2, 10) those of its sides, or none. The sides of a 0 look like
    other digits, never like 0s.
    """
    answer, read = int(np.argmax(whole)), np.asarray(both)
    if width > 0 and width > _WIDTHS[answer] * (1 if np.max(whole) >= _SURE else _NARROW):
        return True
    if not read.size or read.max(axis=1).min() < _LIKELY:
        return False
    return answer != 0 or bool((read.argmax(axis=1) == 0).any())

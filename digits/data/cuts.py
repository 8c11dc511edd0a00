"""Cuts through ink that may be several digits which touch, from its top to its bottom.

A cut is a seam of least cost (Avidan and Shamir, Seam Carving for Content-Aware Image Resizing, 2007) near a slanted
line. It may bend around strokes, as the path of a falling drop does (Congedo et al., 1995).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data.preprocessing import Ink, crop
from digits.data.rules import find_connected

_HIGH = 56  # greatest height in pixels of ink that is cut
_WIDE = 3  # greatest width, of _HIGH
_SLANTS = (-0.2, 0.15, 0.5)  # of the lines, to the right per unit up
_SPACING = 0.12  # distance of two lines, of the height
_MARGIN = 0.12  # share of the width on both sides without a line
_BEND = 0.02  # cost of a column to the side, in pixels of full ink
_LONGEST = 3  # greatest length of a cut through ink, in widths of the strokes
_TALL = 0.6  # least height of both sides, of the ink's
_WHOLE = 0.9  # least share of a side's ink that is connected
_DIFFERENT = 0.08  # least share of the ink that two cuts put on different sides


def reduce(ink: Ink) -> Ink:
    """Return the ink, uint8 (height, width), cropped and reduced to the size at which it is cut."""
    own = crop(ink)
    height, width = own.shape
    scale = min(1.0, _HIGH / height, _WIDE * _HIGH / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(own, size, interpolation=cv2.INTER_AREA), np.uint8)


def find_cuts(ink: Ink, most: int) -> list[NDArray[np.bool_]]:
    """Return the shortest cuts through ink of `reduce`, at most `most`, the shortest first.

    Each is the mask of what is on its right side, (height, width).
    """
    strongest = max(1, int(ink.max()))
    mask = (ink >= max(1, strongest // 4)).astype(np.uint8)
    distance = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)
    stroke = max(1.0, 4 * float(distance[distance > 0].mean()))
    cost, starts = _seams(ink.astype(np.float32) / strongest)
    chosen = list[NDArray[np.bool_]]()
    for n in np.argsort(cost, kind="stable"):
        if cost[n] > _LONGEST * stroke or len(chosen) == most:
            break
        right = np.arange(ink.shape[1]) >= starts[n][:, None]
        least = _DIFFERENT * cv2.countNonZero(mask)
        if any(cv2.countNonZero(mask * (right != other)) < least for other in chosen):
            continue
        if all(_stands_alone(mask * side) for side in (~right, right)):
            chosen.append(right)
    return chosen


def _seams(level: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the costs of seams through ink in 0..1, (n,), and where their right side begins, (n, height)."""
    height, width = level.shape
    count = max(3, round(width / height / _SPACING))
    half = round(0.5 * _SPACING * height) + 1
    centres = np.tile(np.linspace(_MARGIN, 1 - _MARGIN, count) * width, len(_SLANTS))
    slants = np.repeat(_SLANTS, count)
    lines = centres[:, None] + slants[:, None] * (height / 2 - np.arange(height))
    columns = np.round(lines).astype(int)[..., None] + np.arange(-half, half + 1)  # (n, height, 2 half + 1)
    padded = np.pad(level, ((0, 0), (1, 1)))
    near = padded[np.arange(height)[:, None], np.clip(columns + 1, 0, width + 1)]
    wide = np.full((len(near), near.shape[2] + 2), np.inf, level.dtype)
    total = wide[:, 1:-1]
    total[:] = near[:, 0]
    steps = np.empty((height, *total.shape), np.int8)
    for row in range(1, height):  # no more temporary arrays than needed, because most of the time goes to small ones
        left, right = wide[:, :-2] + _BEND, wide[:, 2:] + _BEND
        best = np.minimum(left, total)
        np.less(total, left, out=steps[row], casting="unsafe")
        steps[row][right < best] = 2
        np.minimum(best, right, out=best)
        np.add(best, near[:, row], out=total)
    every = np.arange(len(total))
    place = total.argmin(axis=1)
    starts, cost = np.empty(columns.shape[:2], np.intp), total[every, place]
    for row in range(height - 1, -1, -1):
        starts[:, row] = columns[every, row, place]
        if row:
            place = place + steps[row, every, place] - 1
    return cost, starts


def _stands_alone(mask: NDArray[np.uint8]) -> bool:
    """Return whether the largest connected part of one side is high and almost all of its ink."""
    stats = find_connected(mask)[1]
    if len(stats) < 2:
        return False
    most = stats[1 + stats[1:, 4].argmax()]
    return bool(most[3] >= _TALL * len(mask) and most[4] >= _WHOLE * stats[1:, 4].sum())

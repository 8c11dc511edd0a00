"""Connected parts of a mask, also across narrow gaps in strokes, and without marks that are no strokes of a pen."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data.rules import Mask, closed, find_connected

SEED = 0.035  # least longer side of a digit, of the mean of the picture's sides
_GAP = 0.5  # greatest width of a gap in a stroke, of the stroke's width
_DASH = 1.6  # the same, if none of the joined parts is large
_DASHES = 25  # greatest number of dashes; more pieces are noise, unless they are alike
_LEAST_DASHES = 3  # of a dashed digit
_WIDER_GAP = 1.2  # greatest gap before a further dash, of the widest in the digit
_RINGS = 2  # greatest number of joined parts that are examined for a ring
_SIDE = 0.97  # greatest width or height of a ring's side, of the ring's
_EMPTY = 0.85  # least share of the hull of the area within a 0 that is empty
_INNER = 0.3  # least area within a 0, of the rectangle around it
_MOST_DASH = 0.7  # greatest size of a dash, of the joined parts'
_MANY = 150  # pieces of strokes; more are noise, text or paper, and cost too much
_MOST_DOTS = 600  # the same, if all are alike
_ALIKE = 0.4  # least median of the areas of pieces that are alike, of the largest: some dots touch another one
_LARGE = 500_000  # pixels of a picture in which pieces are joined; more cost too much
_BROAD = 1.2  # greatest width of parts that are joined, of their height: more are digits side by side
_MOST = 0.97  # greatest size of a piece, of the joined parts': a larger one is a box or a line next to a digit
_THIN = 0.5  # width of strokes, of the digit's, below which they are no part of it
_THINNER = 0.7  # the same of faint strokes that touch the digit
_FAINT = 0.45  # the same of their mean strength
TALL = 0.8  # least height of two pieces side by side, of the joined parts', that are digits
MAX_PARTS = 40  # greatest number of parts that are examined; the largest


def find_parts(mask: Mask) -> tuple[NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
    """Return the connected parts of a mask: the numbers of the largest, each pixel's number, and OpenCV's stats.

    A narrow gap in a stroke, as at a fold of the paper, does not separate parts, unless they are together as wide as
    digits side by side, or one of them is about as large as all together. Nor does a gap between dashes.
    """
    numbers, stats = find_connected(mask)
    order = _largest(stats)
    alike = len(stats) > 2 and np.median(stats[1:, 4]) > _ALIKE * stats[1:, 4].max()
    if not 2 < len(stats) <= (_MOST_DOTS if alike else _MANY) or mask.size > _LARGE:
        return order, numbers, stats
    stroke = 4 * cv2.mean(cv2.distanceTransform(mask, cv2.DIST_L2, 3), mask)[0]
    few = len(stats) <= _DASHES
    for gap, most in ((_GAP, _MOST), (_DASH, _MOST_DASH))[: 1 + (few or alike)]:
        side = int(min(gap * stroke, SEED * np.sqrt(mask.size))) | 1  # an even one would move the parts
        if side < 3:
            continue
        joined = closed(mask, np.ones((side, side), np.uint8))
        whole, around = find_connected(joined)
        if len(around) == len(stats):
            continue
        owners = _owners(order, numbers, stats, whole)
        apart = stats[order, 2:4].max(axis=1) > most * around[owners, 2:4].max(axis=1)
        apart = np.bincount(owners, apart, len(around)) > 0
        # Two digits are both high. If there are other pieces, too, the high ones may be strokes, as in a display's 0.
        tall = stats[order, 3] > TALL * around[owners, 3]
        pieces, high = (np.bincount(each, minlength=len(around)) for each in (owners, owners[tall]))
        apart |= (pieces > 1) & (pieces == high)
        # A circle around a digit is as wide and as high as both.
        wide = (stats[order, 2:4] > _SIDE * around[owners, 2:4]).all(axis=1)
        sides = (pieces > 1) & (np.bincount(owners, wide, len(around)) == 0)
        broad = around[:, 2] > _BROAD * around[:, 3]
        for n in np.flatnonzero(apart & sides)[: _RINGS * few]:
            if broad[n]:
                continue
            x, y, width, height = around[n, :4]
            area = slice(y, y + height), slice(x, x + width)
            apart[n] = not _makes_ring(whole[area] == n, mask[area])
        if few or not alike:  # dots are no digits
            apart |= broad
        apart[0] = False
        # The pieces that stay apart are numbered after the joined parts. What is not a part has an empty row.
        numbers = np.where(apart.take(whole), numbers + len(around), whole)
        kept = order[apart[owners]]
        left = np.zeros_like(stats)
        left[kept] = stats[kept]
        stats = np.concatenate([around * ~apart[:, None], left])
        order = _largest(stats)
    return order, numbers, stats


def find_dashes(numbers: NDArray[np.int32], digit: list[int], mask: Mask) -> set[int]:
    """Return the numbers of the parts that are no farther from a digit of dashes than its dashes are from each other.

    `numbers`, (height, width), are those of the parts, and `digit` the digit's. One that has few pieces has no dashes.
    """
    own = np.where(np.isin(numbers, digit), mask, np.uint8(0))
    count = cv2.connectedComponents(own, connectivity=8)[0] - 1
    if count < _LEAST_DASHES:
        return set()
    kind = cv2.DIST_LABEL_CCOMP
    away, nearest = cv2.distanceTransformWithLabels(cv2.bitwise_not(own), cv2.DIST_L2, 3, labelType=kind)
    gaps = np.full(count + 1, np.inf)
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        edge = np.nonzero(nearest[one] != nearest[other])
        between = away[one][edge] + away[other][edge]
        np.minimum.at(gaps, nearest[one][edge], between)
        np.minimum.at(gaps, nearest[other][edge], between)
    near = (away <= _WIDER_GAP * gaps[1:].max()) & (mask > own)
    return set(np.flatnonzero(np.bincount(numbers[near])).tolist())


def _owners(
    order: NDArray[Any], numbers: NDArray[np.int32], stats: NDArray[np.int32], whole: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return the joined part that each of the largest pieces is in, read at the first pixel of the piece's top row."""
    return np.array([
        whole[y, x + np.argmax(numbers[y, x : x + width] == number)]
        for number, (x, y, width) in zip(order, stats[order, :3], strict=True)
    ])  # fmt: skip


def _makes_ring(joined: NDArray[np.bool_], mask: Mask) -> bool:
    """Return whether pieces that are joined enclose an empty area half as high, as the two sides of a 0 do."""
    if _high_gaps(mask):
        return False
    after = _high_gaps(np.where(joined, np.uint8(255), mask))
    if len(after) != 1:
        return False
    area = cv2.countNonZero(after[0])
    # What stands in a box leaves less of it empty, and two digits enclose less.
    return area > _EMPTY * cv2.contourArea(_hull(after[0])) and area > _INNER * mask.size


def _hull(mask: Mask) -> NDArray[np.int32]:
    outline = max(cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0], key=len)
    return np.asarray(cv2.convexHull(outline), np.int32)


def _high_gaps(ink: Mask) -> list[Mask]:
    """Return the areas that ink encloses and that are at least half as high as all of it."""
    height, width = ink.shape
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(cv2.bitwise_not(ink), connectivity=4)
    x, y, wide, high = stats[:, :4].T
    inner = (x > 0) & (y > 0) & (x + wide < width) & (y + high < height) & (high > 0.5 * height)
    return [np.where(numbers == n, np.uint8(255), np.uint8(0)) for n in np.flatnonzero(inner[1:]) + 1]


def _largest(stats: NDArray[np.int32]) -> NDArray[Any]:
    """Return the numbers of the largest parts."""
    sizes = np.max(stats[1:, 2:4], axis=1)
    order: NDArray[Any] = 1 + np.argsort(-sizes, kind="stable")[: min(MAX_PARTS, np.count_nonzero(sizes))]
    return order


def without_marks(mask: Mask, strength: NDArray[np.float32]) -> Mask:
    """Remove ink much thinner or fainter than the part with most ink, such as a box's pieces or a desk's grain.

    What touches a stronger stroke, such as the rim of a stain, is removed if it is both. `strength`, (height, width),
    is that of the ink.
    """
    numbers, stats = find_connected(mask)
    widths, powers = measure_pens(mask, numbers, strength)
    main = 1 + int(stats[1:, 4].argmax())
    kept = (widths >= _THIN * widths[main]) & (powers >= _FAINT * powers[main])
    mask = np.where(kept.take(numbers), mask, np.uint8(0))
    peak = float(np.percentile(strength[numbers == main], 75))
    strong = np.where(strength >= _FAINT * peak, mask, np.uint8(0))
    faint = mask & ~cv2.dilate(strong, np.ones((5, 5), np.uint8))  # not the edges of strokes
    if not faint.any():
        return mask
    pen = measure_pens(strong, (strong > 0).astype(np.int32), strength)[0][1]
    _, numbers = cv2.connectedComponents(faint, connectivity=8)
    thin = measure_pens(faint, numbers, strength)[0] < _THINNER * pen
    return np.where(thin[numbers] & (numbers > 0), np.uint8(0), mask)


def measure_pens(
    mask: Mask, numbers: NDArray[np.int32], strength: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean width of the strokes, and their mean strength, of each part of a mask."""
    inner = cv2.erode(mask, cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    inked = mask > 0
    areas, edges = np.bincount(numbers[inked]), np.bincount(numbers[inked & (inner == 0)])
    return 2 * areas / np.maximum(edges, 1), np.bincount(numbers[inked], strength[inked]) / np.maximum(areas, 1)

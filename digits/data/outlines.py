"""Digits that are drawn as the outline of a broad stroke: the area within the outline is ink, too."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data.preprocessing import Ink
from digits.data.rules import Mask, find_connected, thickness

_LONG = 8  # least area of the inside of an outline, of its squared thickness; that of a round 0 is about 2
_UNEVEN = 1.6  # greatest thickness of the inside anywhere, of its thickness
_BROAD = 0.2  # greatest thickness of the inside, of its longer side
_BOX = 0.86  # least area of a box, of the rectangle around it; an ellipse has 0.79
_SLIM = 0.35  # greatest width of a 1, of its height
_SPAN = 0.85  # least sides of the inside, of the outline's rectangle
_ALIKE = 0.6  # least thickness of a further outline's inside, of the first one's
_LEAST = 0.03  # least longer side of the inside, of the mean of the picture's sides
_AREAS = 2  # greatest sum of the examined rectangles, in areas of the picture
_RINGS = 4  # greatest number of parts within an outline; an 8 has two
_BROADEST = 0.35  # greatest thickness of a hatched stroke, of the digit's longer side
_ROW = 1.5  # greatest thickness of a hatched stroke, of the longer side of the gaps in it
_HATCHES = 6  # least number of gaps between the lines that hatch a stroke
_MOST_GAPS = 150  # greatest number of gaps that are examined for hatches; more cost too much
_MOST_HATCHED = 4  # greatest number of hatched digits; more cost too much
_CUT = 0.4  # greatest width of an outline where the border cuts it, of its longer side
_MANY = 8  # greatest number of gaps that are examined


def find_insides(mask: Mask) -> Mask:
    """Return the area within the outlines of broad strokes in a mask, (height, width); empty if there is none.

    Such an area is a long band of even thickness, thicker than the line around it, that reaches all sides of the
    part of the ink that encloses it. The inside of a 0, 6 or 8 that is written in single strokes is no band.
    """
    result = np.zeros_like(mask)
    _, gaps, stats, _ = cv2.connectedComponentsWithStats(cv2.bitwise_not(mask), connectivity=4)
    height, width = mask.shape
    x, y, wide, high = stats[:, :4].T
    enclosed = (x > 0) & (y > 0) & (x + wide < width) & (y + high < height)
    large = np.maximum(wide, high) >= _LEAST * np.sqrt(mask.size)
    enclosed &= large
    enclosed[0] = False  # the ink
    result |= _find_hatched(mask, gaps, stats, np.flatnonzero(enclosed))
    order = np.flatnonzero(enclosed | (large & _are_cut_once(gaps, stats)))
    order = order[np.argsort(-stats[order, 2:4].max(axis=1))][:_MANY]
    order = order[np.cumsum(np.prod(stats[order, 2:4], axis=1)) <= _AREAS * mask.size]
    if not len(order):
        return result
    bands = list[tuple[int, float, NDArray[np.uint8], tuple[slice, slice]]]()
    for n in order.tolist():  # the largest first
        left, top, columns, rows = stats[n, :4]
        place = slice(top, top + rows), slice(left, left + columns)
        inside = np.where(gaps[place] == n, np.uint8(255), np.uint8(0))
        distance = cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
        thick = 4 * float(distance[distance > 0].mean())  # of a band; less than that of a disc
        if 2 * distance.max() < _UNEVEN * thick and thick < _BROAD * max(columns, rows) and not _is_box(inside):
            bands.append((n, thick, inside, place))
    if not any(stats[n, 4] >= _LONG * thick**2 for n, thick, *_ in bands):
        return result
    parts, around = find_connected(mask)
    found = list[tuple[float, float, NDArray[np.uint8], tuple[slice, slice]]]()
    for n, thick, inside, place in bands:
        outer = around[_find_owner(parts, inside, place)]
        line = float(sum(outer[2:4] - stats[n, 2:4])) / 4
        spans = (stats[n, 2:4] >= _SPAN * outer[2:4]).all()
        if spans and thick > 1.5 * line and _holds_rings(stats[n], around, stats, line):
            found.append((stats[n, 4] / thick**2, thick, inside, place))
    main = max(found, key=lambda each: each[0], default=None)
    if main is None or main[0] < _LONG:
        return result
    for _, thick, inside, place in found:
        # What another outline encloses is the open part of a 0, 6, 8 or 9.
        enclosed = result[place[0].start, place[1]].any() and result[place[0].stop - 1, place[1]].any()
        if not enclosed and thick >= _ALIKE * main[1] and _ALIKE * thick <= main[1]:
            result[place] |= inside
    return result


def _are_cut_once(gaps: NDArray[np.int32], stats: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which gaps touch the picture's border in one short place, as the inside of an outline that it cuts."""
    border = np.concatenate([gaps[0], gaps[1:, -1], gaps[-1, -2::-1], gaps[-2:0:-1, 0]])
    places = np.bincount(border[border != np.roll(border, 1)], minlength=len(stats))
    cut: NDArray[np.bool_] = (places == 1) & (np.bincount(border, minlength=len(stats)) < _CUT * stats[:, 2:4].max(1))
    cut[0] = False  # the ink
    return cut


def _find_owner(parts: NDArray[np.int32], inside: Mask, place: tuple[slice, slice]) -> int:
    """Return the number of the part of the ink that encloses a gap, or most of one that the border cuts."""
    rows, columns = place
    if rows.start and columns.start and rows.stop < parts.shape[0] and columns.stop < parts.shape[1]:
        return int(parts[rows.start - 1, columns.start + int(np.argmax(inside[0]))])
    top, left = min(rows.start, 1), min(columns.start, 1)
    near = parts[rows.start - top : rows.stop + 1, columns.start - left : columns.stop + 1]
    wide = np.zeros(near.shape, np.uint8)
    wide[top : top + len(inside), left : left + inside.shape[1]] = inside
    adjacent = near[cv2.dilate(wide, np.ones((3, 3), np.uint8)) > 0]
    return int(np.bincount(adjacent[adjacent > 0]).argmax())


def _find_hatched(mask: Mask, gaps: NDArray[np.int32], stats: NDArray[np.int32], enclosed: NDArray[np.intp]) -> Mask:
    """Return the gaps between the lines that hatch a broad stroke: many of one part of the ink, and alike."""
    result = np.zeros_like(mask)
    if not _HATCHES <= len(enclosed) <= _MOST_GAPS:
        return result
    parts, around = find_connected(mask)
    distance = cv2.distanceTransform(cv2.bitwise_not(mask), cv2.DIST_L2, 3)
    thick = 4 * np.bincount(gaps.ravel(), distance.ravel(), len(stats)) / np.maximum(stats[:, 4], 1)
    owners = np.array([
        parts[y - 1, x + int(np.argmax(gaps[y, x : x + width] == n))]
        for n, (x, y, width) in zip(enclosed, stats[enclosed, :3], strict=True)
    ])  # fmt: skip
    hatched = np.flatnonzero(np.bincount(owners) >= _HATCHES)
    if len(hatched) > _MOST_HATCHED:
        return result
    for n in hatched:
        x, y, width, height = around[n, :4]
        place = slice(y, y + height), slice(x, x + width)
        own = enclosed[owners == n]
        alike = own[thick[own] < _UNEVEN * np.median(thick[own])]
        inner = np.where(np.isin(gaps[place], alike), np.uint8(255), np.uint8(0))
        whole = np.where(parts[place] == n, np.uint8(255), inner)
        # The lines of squared paper enclose areas, too, but not in one row, and they cross the picture. Those of a row
        # of boxes do so as well, but it is a rectangle.
        long = float(np.median(stats[own, 2:4].max(axis=1)))
        grid = width == mask.shape[1] or height == mask.shape[0] or _is_box(whole, _SLIM if height > width else 0.0)
        if not grid and thickness(whole) < min(_BROADEST * max(width, height), _ROW * long):
            result[place] |= inner
    return result


def _holds_rings(band: NDArray[np.int32], parts: NDArray[np.int32], gaps: NDArray[np.int32], line: float) -> bool:
    """Return whether all parts of the ink within a band are rings, as the inner outline of a 0, and not a digit.

    `parts` and `gaps` are OpenCV's stats of the ink and of the paper; `line` is the width of the line.
    """
    within = parts[1:][_are_within(parts[1:], band) & (parts[1:, 4] > line * line)]
    return len(within) <= _RINGS and all(
        (_are_within(gaps[1:], ring) & ((ring[2:4] - gaps[1:, 2:4]).sum(axis=1) < 6 * line + 4)).any()
        for ring in within
    )


def _is_box(inside: Mask, slim: float = _SLIM) -> bool:
    """Return whether an area has the outline of a rectangle that is wider than `slim`, of its length, as no 1 is."""
    outline = max(cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0], key=len)
    _, sides, _ = cv2.minAreaRect(outline)
    return bool(min(sides) > slim * max(sides) and cv2.contourArea(outline) > _BOX * sides[0] * sides[1])


def _are_within(inner: NDArray[np.int32], outer: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return which rectangles of OpenCV's stats are within another one."""
    before, after = inner[:, :2] > outer[:2], inner[:, :2] + inner[:, 2:4] < outer[:2] + outer[2:4]
    return np.asarray(np.concatenate([before, after], axis=1).all(axis=1), np.bool_)


def fill(dark: Ink, strength: NDArray[np.float32], at: float) -> bool:
    """Write ink into the areas within outlines, and return whether there are any.

    `dark` is a picture with dark ink, `strength` that of its ink, and `at` the strength that separates ink from paper.
    """
    mask = np.where(strength > at, np.uint8(255), np.uint8(0))
    insides = find_insides(mask)
    if not insides.any():
        return False
    ring = (cv2.dilate(insides, np.ones((5, 5), np.uint8)) & mask) > 0
    for image in (dark, strength):
        image[insides > 0] = np.median(image[ring])
    return True


def filled(ink: Ink, inside: Mask) -> Ink:
    """Return a drawing's ink with the areas within outlines filled. `inside` may be a reduced mask of them."""
    if not inside.any():
        return ink
    wide = cv2.dilate(inside, np.ones((3, 3), np.uint8))  # up to the middle of the line
    result: Ink = np.maximum(ink, cv2.resize(wide, ink.shape[::-1], interpolation=cv2.INTER_NEAREST))
    return result

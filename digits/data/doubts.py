"""Signs that the digit of a picture may be another one, or not complete: parts of the ink that were left out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data.parts import Part, weight
from digits.data.pieces import measure_pens
from digits.data.rules import Mask, thickness
from digits.data.underlines import UNDER

_NUMBER = 0.25  # least score of a number next to an upright line that may be the side of a frame, of the line's
_STROKE = 0.3  # least size of a stroke that makes a digit doubtful if it is left out, of the digit's
_NEAR = 0.1  # greatest distance of a stroke of any pen, of the digit's longer side
_LONG = 2.2  # greatest size of a stroke of the same pen, of the digit's
_SAME_PEN = 1.4, 1.25  # greatest ratio of the widths and of the strengths of strokes of one pen
_INSIDE = 0.25  # least ink within a frame that makes what it surrounds doubtful, of the digit's
_WOBBLE = 0.1  # greatest distance of a frame's line from a convex one, of the digit's longer side
_THIN = 2  # greatest width of a frame's line, of the digit's strokes
_COARSE = 120  # least pixels of a frame's side that are examined


def misses_digit(row: list[Part], rows: list[list[Part]], others: list[Part]) -> bool:
    """Return whether a row of digits may lack one, or may be one side of a frame around another row.

    `others` are the parts that were left out.
    """
    if len(row) > 1:
        return any(p.stands_by(row) and not (p.flat or p.thin) for p in others)
    numbers = [each for each in rows if len(each) > 1 and row[0].is_side(each)]
    return any(weight(each) > _NUMBER * weight(row) for each in numbers)


def leaves_stroke(
    members: list[Part], others: list[Part], mask: Mask, numbers: NDArray[np.int32], strength: NDArray[np.float32]
) -> bool:
    """Return whether a stroke was left out that may belong to the digit.

    It is no farther from the digit than the digit's strokes are wide; or it is as wide and strong as they are, and no
    farther than the digit is large. If the border cuts it, it must be both near and alike. `members` and `others` are
    the digit's parts and the rest; `strength`, (height, width), is that of the ink.
    """
    area = left, top, right, bottom = around(members)
    size = max(right - left, bottom - top)
    strokes = [p for p in others if _STROKE * size < p.size < _LONG * size and p.distance(*area) < size]
    strokes = [p for p in strokes if not (p.solid or p.surrounds(members) or any(p.is_minus(m) for m in members))]
    near = [p for p in strokes if p.distance(*area) < _NEAR * size and (p.size < 1.2 * size or not p.inside(mask))]
    near = _find_close(members, near, mask, numbers)
    alike = [p for p in strokes if (p.inside(mask) or p in near) and not p.under(top, bottom)]
    return any(p.inside(mask) for p in near) or _are_alike(members, alike, mask, numbers, strength)


def _find_close(members: list[Part], parts: list[Part], mask: Mask, numbers: NDArray[np.int32]) -> list[Part]:
    """Return the strokes that are as close to the digit as the digit's strokes are wide, and are no underlines."""
    if not parts:
        return []
    left, top, right, bottom = around(members + parts)
    place = numbers[top:bottom, left:right]
    own = np.where(np.isin(place, [p.number for p in members]), mask[top:bottom, left:right], np.uint8(0))
    width = 4 * cv2.mean(cv2.distanceTransform(own, cv2.DIST_L2, 3), own)[0]
    away = cv2.distanceTransform(cv2.bitwise_not(own), cv2.DIST_L2, 3)
    found = []
    for part in parts:
        columns = np.flatnonzero(((away <= width) & (place == part.number)).any(axis=0)) + left - part.x
        # An underline is longer on both sides of what stands over it.
        if len(columns) and not (part.flat and min(columns[0], part.width - columns[-1]) > UNDER * part.width):
            found.append(part)
    return found


def _are_alike(
    members: list[Part], far: list[Part], mask: Mask, numbers: NDArray[np.int32], strength: NDArray[np.float32]
) -> bool:
    """Return whether a stroke is about as wide and as strong as the digit's strokes."""
    if not far:
        return False
    pens = np.array(measure_pens(mask, numbers, strength))
    own = np.average(pens[:, [p.number for p in members]], axis=1, weights=[p.area for p in members])
    ratios = np.abs(np.log(pens[:, [p.number for p in far]] / own[:, None]))
    return bool((ratios < np.log(_SAME_PEN)[:, None]).all(axis=0).any())


def frame_holds_stroke(row: list[Part], others: list[Part], numbers: NDArray[np.int32]) -> bool:
    """Return whether a line around a row of digits has a stroke within, as a box or circle that another digit touches.

    `others` are the parts that were left out. The area within a line alone is about convex, also if the line is open.
    """
    x0, y0, x1, y1 = around(row)
    outer = [p for p in others if p.x <= x0 and p.y <= y0 and p.x + p.width >= x1 and p.y + p.height >= y1]
    if not outer:
        return False
    frame, digit = min(outer, key=lambda p: p.size), max(row, key=lambda p: p.score)
    step = 1 + frame.size // _COARSE  # a line with gaps is as good
    line, stroke = (_mask_of(part, numbers, step) for part in (frame, digit))
    if not (line.any() and stroke.any()) or thickness(line) > _THIN * thickness(stroke):
        return False
    _, areas = cv2.connectedComponents(cv2.bitwise_not(line), connectivity=4)
    y, x = np.argwhere(stroke)[0] + ((digit.y - frame.y) // step, (digit.x - frame.x) // step)
    within = _fill_hull(line) & _fill_hull(np.where(areas == areas[y, x], np.uint8(255), np.uint8(0)))
    side = 2 * int(_WOBBLE * digit.size / step) + 1
    inner = cv2.erode(within, np.ones((side, side), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
    return step**2 * cv2.countNonZero(line & inner) > _INSIDE * digit.area


def _mask_of(part: Part, numbers: NDArray[np.int32], step: int) -> Mask:
    """Return every `step`-th pixel of a part."""
    own = numbers[part.y : part.y + part.height : step, part.x : part.x + part.width : step] == part.number
    return np.where(own, np.uint8(255), np.uint8(0))


def _fill_hull(mask: Mask) -> Mask:
    hull = cv2.convexHull(cv2.findNonZero(mask))
    return np.asarray(cv2.fillConvexPoly(np.zeros_like(mask), hull, (255,)), np.uint8)


def around(parts: list[Part]) -> tuple[int, int, int, int]:
    """Return the rectangle around parts."""
    right, bottom = max(p.x + p.width for p in parts), max(p.y + p.height for p in parts)
    return min(p.x for p in parts), min(p.y for p in parts), right, bottom

"""Signs in a number that are no digits, and strokes of another pen: the model would read many of them as 1s."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_NARROW = 0.3  # greatest width of a sign, of its length
_BEYOND = 0.03  # least height by which a sign extends beyond the parts next to it, of its own
_HIGH = 1.03  # least height of a slash, of the parts next to it
_BENT = 0.03  # least depth of a bracket's bend, of its height
_ONE_PEN = 1.3  # greatest ratio of the widths of one pen's strokes; printed digits have 1.2 at most


class Shape(NamedTuple):
    """A part of a number: its top and bottom, its slant, how deep it is bent to the right, and whether it is narrow.

    `pen` is the mean width of its strokes in pixels.
    """

    top: int
    bottom: int
    slant: float
    bend: float
    narrow: bool
    pen: float


def shape_of(own: NDArray[np.bool_], top: int) -> Shape:
    """Return the shape of a part in a rectangle, (height, width), that begins at the row `top`."""
    rows = np.flatnonzero(own.any(axis=1))
    own, top = own[rows[0] : rows[-1] + 1], top + int(rows[0])
    mask = own.astype(np.uint8)
    moments, sides = cv2.moments(mask, binaryImage=True), cv2.minAreaRect(cv2.findNonZero(mask))[1]
    middles = [float(np.nonzero(third)[1].mean()) if third.any() else 0.0 for third in np.array_split(own, 3)]
    bend = (middles[1] - (middles[0] + middles[2]) / 2) / len(own)
    slant = -moments["mu11"] / max(moments["mu02"], 1e-6)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    pen = 4 * cv2.mean(cv2.distanceTransform(padded, cv2.DIST_L2, 5), padded)[0]
    return Shape(top, top + len(own), slant, bend, min(sides) < _NARROW * max(sides), pen)


def find_signs(shapes: list[Shape]) -> set[int]:
    """Return the places of the parts of a number, from left to right, that may be a slash or a bracket, not a digit.

    Such a part is narrow and longer than its neighbours at both ends; or it stands between two, is somewhat higher, and
    more slanted than one of them. Brackets are bent to both sides of all that is between them.
    """
    found = set[int]()
    for place, sign in enumerate(shapes):
        near = shapes[max(0, place - 1) : place] + shapes[place + 1 : place + 2]
        if not sign.narrow or not near:
            continue
        high = sign.bottom - sign.top
        margin = _BEYOND * high
        longer = all(sign.top + margin < other.top and sign.bottom - margin > other.bottom for other in near)
        slanted = sign.slant > min(other.slant for other in near)
        higher = high > _HIGH * max(other.bottom - other.top for other in near)
        if longer or (slanted and higher and len(near) == 2):
            found.add(place)
    first, last = shapes[0], shapes[-1]
    if first.narrow and last.narrow and first.bend < -_BENT and last.bend > _BENT:
        found |= {0, len(shapes) - 1}
    return found


def are_of_two_pens(shapes: list[Shape]) -> bool:
    """Return whether the strokes of a number differ in width more than those of one pen, as if a pen were there."""
    pens = [shape.pen for shape in shapes]
    return max(pens) > _ONE_PEN * min(pens)

"""Connected parts of a picture's ink, and how much each looks like a digit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data.pieces import SEED
from digits.data.preprocessing import Ink
from digits.data.rules import Mask, mask_of, thickness

_REACH = 0.16  # greatest distance of a part of the digit, of the digit's longer side
_NEIGHBOUR = 0.3  # a digit of the same number has at least this share of the first one's score
_LIKENESS = 0.15  # least likeness of a digit
_HELD = 0.95  # least share of a part's rectangle in that of a box around it
_FILLED = 0.85  # least ink of a disc, of the area within its outline
_BENT = 3  # greatest width of the rectangle around a straight line, of the line's
_TILT = 0.25  # steepest slope of an underline
_BOX = 1.5  # least height of a box, of the digits' in it
_EDGE = 4  # greatest distance in pixels of a stroke's edge


@dataclass(frozen=True, eq=False)  # parts are compared thousands of times, each only with itself
class Part:
    """A connected part of the ink: its number, rectangle, area and score as a digit, 0 if it cannot be one.

    `flat`: a level stroke. `line`: a straight one. `solid`: a spot, an area or a frame.
    """

    number: int
    x: int
    y: int
    width: int
    height: int
    area: int
    score: float
    flat: bool
    solid: bool
    line: bool = True

    @cached_property
    def size(self) -> int:
        """Return the longer side."""
        return max(self.width, self.height)

    def inside(self, mask: Mask) -> bool:
        """Return whether the part does not touch the border of the mask, in which it was found."""
        height, width = mask.shape
        return self.x > 1 and self.y > 1 and self.x + self.width < width - 1 and self.y + self.height < height - 1

    def under(self, top: int, bottom: int) -> bool:
        """Return whether the part is a line under a digit, which the bar of a 7 and an arc are not."""
        return self.flat and self.line and self.y + self.height / 2 > bottom - 0.1 * (bottom - top)

    def is_minus(self, digit: Part) -> bool:
        """Return whether the part is a level stroke before or after a digit, at the middle of its height."""
        middle = (self.y + self.height / 2 - digit.y) / digit.height
        return self.flat and self.gap(digit) > 0 and 0.25 < middle < 0.75

    def stands_by(self, row: list[Part]) -> bool:
        """Return whether the part may be a digit of a number that was not recognised as one."""
        return self.width < 2 * self.height and bool(find_neighbours([self], row, 1.2).any())

    @property
    def thin(self) -> bool:
        """Return whether the part is an upright line."""
        return self.width < 0.1 * self.height

    def equals(self, other: Part) -> bool:
        """Return whether two upright lines start and end at the same heights."""
        ends = abs(self.y - other.y), abs(self.y + self.height - other.y - other.height)
        return max(ends) < 0.1 * self.height

    def is_side(self, row: list[Part]) -> bool:
        """Return whether the part is an upright line that extends beyond the digits of a row, as the side of a box."""
        if not row or not self.thin or self in row:
            return False
        margin = 0.03 * self.height
        bottom = max(p.y + p.height for p in row)
        return self.y + margin < min(p.y for p in row) and self.y + self.height - margin > bottom

    def gap(self, other: Part) -> int:
        """Return the number of columns between both; negative if they share some."""
        return max(self.x - other.x - other.width, other.x - self.x - self.width)

    def surrounds(self, parts: list[Part]) -> bool:
        """Return whether the rectangle holds most of a smaller part that is not tiny, or of several, as a box does."""
        inner = [p for p in parts if 0.05 * self.size < p.size < self.size and self._holds(p)]
        sizes = sorted((p.size / self.size for p in inner), reverse=True)
        return bool(sizes) and (sizes[0] > 0.3 or sum(sizes[1:]) > 0.1)

    def _holds(self, other: Part) -> bool:
        # What reaches a side is a piece of the same stroke, as of a broken 0, and does not stand within it.
        near = 0.02 * self.size
        if other.x - self.x < near or self.x + self.width - other.x - other.width < near:
            return False
        if other.y - self.y < near or self.y + self.height - other.y - other.height < near:
            return False
        columns = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        if columns <= 0:
            return False
        rows = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return rows > 0 and columns * rows > _HELD * other.width * other.height

    def distance(self, x0: int, y0: int, x1: int, y1: int) -> float:
        """Return the distance of the rectangle from another one."""
        return float(
            np.hypot(max(x0 - self.x - self.width, self.x - x1, 0), max(y0 - self.y - self.height, self.y - y1, 0))
        )


def find_neighbours(parts: list[Part], others: list[Part], reach: float = 2.0) -> NDArray[np.bool_]:
    """Return whether each two can be digits of a number, (parts, others).

    They are about as high, at the same height, and not farther apart than `reach` times their height.
    """
    one = np.array([(p.x, p.y, p.width, p.height) for p in parts]).reshape(-1, 1, 4)
    other = np.array([(p.x, p.y, p.width, p.height) for p in others]).reshape(1, -1, 4)
    start, end = np.maximum(one, other), np.minimum(one[..., :2] + one[..., 2:], other[..., :2] + other[..., 2:])
    gap, shared = start[..., 0] - end[..., 0], end[..., 1] - start[..., 1]
    low, high = np.minimum(one[..., 3], other[..., 3]), start[..., 3]
    result: NDArray[np.bool_] = (low > 0.5 * high) & (shared > 0.5 * low) & (gap < reach * high)
    return result


def without_sides(row: list[Part]) -> list[Part]:
    """Remove the upright lines of a box: thin, and higher at both ends than what else is in the row."""
    thin = [p for p in row if p.thin]
    for line in sorted(thin, key=lambda p: -p.height):
        inner = [p for p in row if not p.thin or not p.equals(line)]
        if line.is_side(inner) and max(p.score for p in inner) > 0.6 * line.score:
            return inner
    return row


def weight(row: list[Part]) -> float:
    """Return the score of a row as a number: the more digits, the higher."""
    return float(max(p.score for p in row) * np.sqrt(len(row)))


def find_row(seed: Part, digits: list[Part], neighbours: NDArray[np.bool_], mask: Mask) -> list[Part]:
    """Return a digit, and those that stand in a row with it, as in a number. `neighbours`: of `find_neighbours`."""
    row = [digits.index(seed)]
    waiting = np.array([p.inside(mask) and p.score >= _NEIGHBOUR * seed.score for p in digits])
    waiting[row] = False
    while (found := np.flatnonzero(neighbours[row].any(axis=0) & waiting)).size:
        row += found.tolist()
        waiting[found] = False
    return without_sides([digits[n] for n in row])


def find_between(row: list[Part], parts: list[Part], mask: Mask) -> list[Part]:
    """Return the pieces of further digits in a row, which rules have cut."""
    top, bottom = min(p.y for p in row), max(p.y + p.height for p in row)
    height = max(p.height for p in row)
    level = [p for p in parts if p.inside(mask) and p.size > 0.2 * height]
    level = [p for p in level if p.y > top - 0.1 * height and p.y + p.height < bottom + 0.1 * height]
    return [p for p in level if len(row) > 1 and any(p.gap(digit) < 0.8 * height for digit in row)]


def find_nearby(digit: Part, parts: list[Part], mask: Mask) -> tuple[list[Part], tuple[int, int, int, int]]:
    """Return the parts that belong to a digit, as the bar of a 5, and the rectangle around all."""
    x0, y0, x1, y1 = digit.x, digit.y, digit.x + digit.width, digit.y + digit.height
    members = list[Part]()
    while True:
        reach = _REACH * max(x1 - x0, y1 - y0)
        near = [p for p in parts if p not in members and p.distance(x0, y0, x1, y1) <= reach]
        near = [p for p in near if p.size < 1.2 * digit.size and p.area >= 0.01 * digit.area]
        near = [p for p in near if not (p.under(y0, y1) or p.is_minus(digit)) and p.inside(mask)]
        if not near:
            return members, (x0, y0, x1, y1)
        members += near
        x0, y0 = min(x0, *(p.x for p in near)), min(y0, *(p.y for p in near))
        x1, y1 = max(x1, *(p.x + p.width for p in near)), max(y1, *(p.y + p.height for p in near))


def without_box(parts: list[Part]) -> list[Part]:
    """Remove the left and right side of a box, which are much higher than all that is between them."""
    sides = sorted((p for p in parts if p.thin), key=lambda p: -p.height)[:2]
    if len(sides) < 2 or not sides[0].equals(sides[1]):
        return parts
    inner = [p for p in parts if min(q.x for q in sides) < p.x < max(q.x for q in sides)]
    if not sides[0].is_side(inner) or sides[0].height < _BOX * max(p.height for p in inner):
        return parts
    return [p for p in parts if p not in sides]


class Light(NamedTuple):
    """A picture with dark ink, the paper around it, the ink's strength in 0..255, and the widest stroke."""

    dark: Ink
    paper: Ink
    strength: NDArray[np.float32]
    widest: float


def examine(number: int, stats: NDArray[np.int32], numbers: NDArray[np.int32], light: Light) -> Part:
    """Return a connected part with its score: 0 if it cannot be a digit, more for a large, strong, central one."""
    x, y, width, height, area = (int(v) for v in stats)
    own = mask_of(numbers[y : y + height, x : x + width], number)
    size, thick = max(width, height), thickness(own)
    outline = max(cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
    _, sides, _ = cv2.minAreaRect(outline)
    long, short = max(sides), min(sides)
    flat = width > 3 * height or (long > 4 * short and width > 2 * height)
    inner = cv2.contourArea(outline)
    rectangle = short > 0.35 * long and inner > 0.95 * long * short
    thinnest = 20 if short < 0.62 * long else 6  # a display's 0 is half as wide as high
    frame = rectangle and (area > 0.5 * width * height or size > thinnest * thick)
    solid = thick > 0.5 * size or frame or (area > 0.5 * inner and short > 0.35 * long and _has_four_corners(outline))
    # A round label with a light digit on it.
    disc = short > 0.35 * long and area > _FILLED * inner and inner > 0.9 * cv2.contourArea(cv2.convexHull(outline))
    solid = solid or disc
    score = 0.0
    if size >= SEED * np.sqrt(numbers.size) and not (flat or solid):
        likeness = _likeness(own, x, y, thick, short < 2 * thick, light)
        score = size * likeness if likeness > _LIKENESS else 0.0
    line = short <= _BENT * thick and height - thick <= _TILT * width
    return Part(number, x, y, width, height, area, score, flat, solid, line)


def _has_four_corners(outline: NDArray[np.int32]) -> bool:
    """Return whether an outline is a convex quadrilateral, as that of a sheet seen at an angle."""
    corners = cv2.approxPolyDP(outline, 0.02 * cv2.arcLength(outline, True), True)
    return len(corners) == 4 and cv2.isContourConvex(corners)


def _likeness(own: Mask, x: int, y: int, thick: float, straight: bool, light: Light) -> float:
    """Return how likely a part at (x, y) is a digit, from 0 to 1.3: by its strength, place, width and edges."""
    (height, width), (rows, columns) = own.shape, light.dark.shape
    below, right = np.divmod(np.flatnonzero(own), width)
    inked = (below + y) * columns + right + x  # places in the whole picture, which cost less than a mask
    power = _median(light.strength.take(inked))
    size, middle = max(width, height), np.hypot((x + width / 2) / columns - 0.5, (y + height / 2) / rows - 0.5)
    result = (0.3 + min(power, 255) / 255) * (1 - 0.5 * float(middle))
    result *= min(1.0, max(0.0, 1.6 - 3 * thick / size), max(0.0, 2.4 - 4 * thick / light.widest))
    # What follows makes a part less likely only, and costs most.
    ends = [x <= 1, x + width >= columns - 1, y <= 1, y + height >= rows - 1]
    if result <= _LIKENESS or all(ends) or (straight and (all(ends[:2]) or all(ends[2:]))):
        return 0.0
    if any(ends):
        result *= 0.25
    ink, paper = (_median(image.take(inked)) for image in (light.dark, light.paper))
    # The gaps between strokes are parts of the other polarity, but beyond the strokes around them is no paper.
    near, reach = light.dark[y : y + height, x : x + width], max(3, size // 8)
    far = light.dark[max(0, y - reach) : y + height + reach, max(0, x - reach) : x + width + reach]
    if far.size > near.size:
        level = int((ink + paper) / 2)
        bright = np.count_nonzero(far > level) - np.count_nonzero(near > level)
        result *= min(1.0, 2 * bright / (far.size - near.size))
    if result <= _LIKENESS:
        return 0.0
    # A stroke has an edge everywhere; a part of a wide area ends where the closing's square does.
    top, left = max(0, y - _EDGE), max(0, x - _EDGE)
    dark = light.dark[top : y + height + _EDGE, left : x + width + _EDGE]
    wide = np.zeros_like(dark)
    wide[y - top : y - top + height, x - left : x - left + width] = own
    ring = cv2.dilate(wide, np.ones((7, 7), np.uint8)) - cv2.dilate(wide, np.ones((3, 3), np.uint8))
    rise = cv2.subtract(dark, cv2.erode(dark, np.ones((9, 9), np.uint8)))
    sharp = cv2.countNonZero(cv2.threshold(rise, int(0.3 * (paper - ink)), 255, cv2.THRESH_BINARY)[1] & ring)
    edges = sharp / cv2.countNonZero(ring) if ring.any() else 1.0
    return float(result * min(1.0, max(0.0, (edges - 0.5) / 0.35)))


def _median(values: NDArray[Any]) -> float:
    """Return the median, as np.median does, in a quarter of the time for few values."""
    middle = values.size // 2
    if values.size % 2:
        return float(np.partition(values, middle)[middle])
    low, high = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return (float(low) + float(high)) / 2

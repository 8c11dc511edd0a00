"""The digit among the connected parts of a mask: the likeliest part, or a row of them as a number, and its pieces."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data.doubts import around, frame_holds_stroke, leaves_stroke, misses_digit
from digits.data.parts import (
    Light,
    Part,
    examine,
    find_between,
    find_nearby,
    find_neighbours,
    find_row,
    weight,
    without_box,
)
from digits.data.pieces import find_dashes, find_parts
from digits.data.rules import Mask

_RIVAL = 0.6  # a second digit has at least this share of the first one's score
_PERHAPS = 0.4  # the same of a part that makes the digit doubtful, such as a pen on the paper
_GAP = 0.04  # least gap between a digit and a ring around it, of the digit's longer side
_BARS = 5  # least number of thin upright strokes in a row that make a number doubtful
_SEEDS = 4  # greatest number of parts that are tried as the first digit of a number
_AREAS = 3  # greatest sum of the examined rectangles, in areas of the picture: many nested rings would cost too much
_ROUNDS = 3  # greatest number of searches for further dashes
_STACKED = 1.5  # least height of the dashes of a digit together, of the highest one's
_NEAR = 0.1  # greatest distance of a dash, of the digit's longer side


class Candidate(NamedTuple):
    """A digit that may be the picture's.

    Attributes:
        score: the higher, the more likely.
        strength: the picture's ink in 0..255.
        mask: the digit, and the others if it is doubtful.
        doubtful: whether other parts are about as likely.
        alone: whether all parts are digits.
    """

    score: float
    strength: NDArray[np.float32]
    mask: Mask
    doubtful: bool
    alone: bool

    def lies_in(self, other: Candidate) -> bool:
        """Return whether the rectangle around another one, of the other polarity, holds all ink of this one."""
        x, y, width, height = cv2.boundingRect(other.mask)
        return cv2.countNonZero(self.mask[y : y + height, x : x + width]) == cv2.countNonZero(self.mask)

    def touches(self, other: Candidate) -> bool:
        """Return whether there is no gap between the ink of both."""
        reach = 2 * int(_GAP * max(cv2.boundingRect(self.mask)[2:])) + 3
        return bool((cv2.dilate(self.mask, np.ones((reach, reach), np.uint8)) & other.mask).any())


def choose(light: Light, mask: Mask) -> Candidate | None:
    """Return the digit among the connected parts of a mask, with the parts that belong to it."""
    order, numbers, stats = find_parts(mask)
    order = order[np.cumsum(np.prod(stats[order, 2:4], axis=1)) <= _AREAS * mask.size]
    parts = [examine(int(n), stats[n], numbers, light) for n in order]
    digits = _find_digits(parts)
    if not digits:
        return None
    rows = _find_rows(digits, mask)
    row = max(rows, key=weight)
    members, areas = _gather(row, parts, mask)
    perhaps, rivals = _find_rivals(row, digits, members, mask)
    members += _find_dashes(row, members, parts, mask, numbers)
    others = [p for p in parts if p not in members and p not in rivals]
    doubtful = bool(perhaps) or sum(p.thin for p in row) >= _BARS  # a bar code rather than as many 1s
    doubtful = doubtful or misses_digit(row, rows, others)
    doubtful = doubtful or (len(row) == 1 and leaves_stroke(members, others, mask, numbers, light.strength))
    doubtful = doubtful or frame_holds_stroke(row, others, numbers)
    area = max(row, key=lambda p: p.score).area
    alone = all(p.area < 0.05 * area and not min(p.distance(*place) for place in areas) for p in others)
    chosen = np.zeros(len(stats), np.uint8)
    chosen[[p.number for p in members + rivals]] = 255
    return Candidate(weight(row), light.strength, chosen.take(numbers) & mask, doubtful, alone)


def _find_digits(parts: list[Part]) -> list[Part]:
    """Return the parts that may be digits, the likeliest first, without what surrounds others."""
    likely = [p for p in parts if p.score > 0]
    return sorted(without_box([p for p in likely if not p.surrounds(likely)]), key=lambda p: -p.score)


def _find_rows(digits: list[Part], mask: Mask) -> list[list[Part]]:
    """Return the digits in a row with each of the likeliest ones.

    A number outweighs a single part that looks somewhat more like a digit.
    """
    seeds = digits[:1] + [p for p in digits[1:_SEEDS] if p.inside(mask)]
    neighbours = find_neighbours(digits, digits)
    return [find_row(p, digits, neighbours, mask) for p in seeds]


def _gather(row: list[Part], parts: list[Part], mask: Mask) -> tuple[list[Part], list[tuple[int, int, int, int]]]:
    """Return the digits of a row and the pieces that belong to them, and the rectangle of each."""
    members, areas = list(row), list[tuple[int, int, int, int]]()
    waiting = [p for p in parts if p not in members and not (p.solid or p.is_side(row) or p.surrounds(row))]
    members += find_between(row, waiting, mask)
    waiting = [p for p in waiting if p not in members]
    for digit in list(members):
        near, area = find_nearby(digit, waiting, mask)
        members, waiting, areas = members + near, [p for p in waiting if p not in near], [*areas, area]
    return members, areas


def _find_rivals(row: list[Part], digits: list[Part], members: list[Part], mask: Mask) -> tuple[list[Part], list[Part]]:
    """Return the parts that may be the digit instead of a row, and those of them that are about as likely."""
    best = max(p.score for p in row)
    others = [p for p in digits if p not in members and p.inside(mask) and not p.is_side(row)]
    perhaps = [p for p in others if p.score >= _PERHAPS * best]
    return perhaps, [p for p in perhaps if p.score >= _RIVAL * best]


def _find_dashes(
    row: list[Part], members: list[Part], parts: list[Part], mask: Mask, numbers: NDArray[np.int32]
) -> list[Part]:
    """Return the parts that are no farther from a digit of dashes than its dashes are from each other."""
    found = list[Part]()
    for _ in range(_ROUNDS):
        area = left, top, right, bottom = around(members + found)
        if len(row) > 1 and bottom - top < _STACKED * max(p.height for p in row):
            break  # a number
        size = max(right - left, bottom - top)
        near = [p for p in parts if p not in members + found and p.distance(*area) <= _NEAR * size]
        near = [p for p in near if p.size < 1.2 * size and p.inside(mask) and not p.surrounds(members)]
        if not near:
            break
        left, top, right, bottom = around(members + found + near)
        digit = [p.number for p in members + found]
        dashes = find_dashes(numbers[top:bottom, left:right], digit, mask[top:bottom, left:right])
        found += [p for p in near if p.number in dashes]
    return found

"""The digits that a picture may show, in one polarity: the connected parts of its ink that look like digits.

A morphological closing of the picture with a square that no stroke can hold gives the paper around each stroke, also in
a shadow and next to a dark table (black-hat transform: Serra, Image Analysis and Mathematical Morphology, 1982). What
differs from it are strokes. They are binarised at two levels, long straight lines are removed, and the connected part
that looks most like a digit is kept with the parts near it.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data import outlines
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
from digits.data.pieces import find_dashes, find_parts, without_marks
from digits.data.rules import Mask, closed, cut, find_rules, thickness
from digits.data.underlines import UNDER

_KERNEL = 0.3  # side of the closing's square, of the mean of the picture's sides
_RIVAL = 0.6  # a second digit has at least this share of the first one's score
_PERHAPS = 0.4  # the same of a part that makes the digit doubtful, such as a pen on the paper
_LOST = 0.1  # least share of a digit's ink that the higher level has lost
_BARS = 5  # least number of thin upright strokes in a row that make a number doubtful
_NUMBER = 0.25  # least score of a number next to an upright line that may be the side of a frame, of the line's
_SEEDS = 4  # greatest number of parts that are tried as the first digit of a number
_AREAS = 3  # greatest sum of the examined rectangles, in areas of the picture: many nested rings would cost too much
_BROAD = 1.2  # greatest width of a single digit, of its height
_TINY = 0.01  # greatest area of a speck, of the ink's
_ROUNDS = 3  # greatest number of searches for further dashes
_STACKED = 1.5  # least height of the dashes of a digit together, of the highest one's
_STROKE = 0.3  # least size of a stroke that makes a digit doubtful if it is left out, of the digit's
_NEAR = 0.1  # greatest distance of a dash, of the digit's longer side
MIN_CONTRAST = 24  # of 255; a picture with less is empty paper


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


def find_candidates(level: NDArray[np.uint8], negative: bool) -> list[Candidate]:
    """Return the digits found in one polarity at the levels that separate ink from paper, and dark ink from faint."""
    dark = 255 - level if negative else level
    if min(level.shape) > 100:
        dark = cv2.medianBlur(dark, 3)
    side = max(3, int(_KERNEL * float(np.sqrt(level.size)))) | 1
    paper = closed(dark, np.ones((side, side), np.uint8))
    hat = (paper - dark).astype(np.float32)
    # Ink takes away a share of the light, so that it is as strong in a shadow; in the dark, noise would be, too.
    strength: NDArray[np.float32] = np.multiply(hat, 255 / np.maximum(paper.astype(np.float32), 60))
    low = max(MIN_CONTRAST, 3 * float(np.percentile(strength[::3, ::3], 25)))  # noise is below the closing, too
    if strength.max() < low:
        return []
    split = max(_split(strength, low), low)
    levels = low + 0.35 * (split - low), split
    filled = outlines.fill(dark, strength, levels[0])
    lines = find_rules(_above(strength, levels[0]))
    light = Light(dark, paper, strength, side)
    masks = (cut(_above(strength, at), lines, strength) for at in levels)
    found = [candidate for mask in masks if (candidate := choose(light, mask))]
    if filled:  # an outline that the border cuts is not closed
        found = [c._replace(doubtful=c.doubtful or is_cut(c.mask)) for c in found]
    if not found:  # shadows may be most of what is dark
        darkest = choose(light, cut(_above(strength, _split(strength, split)), lines, strength))
        return [darkest] if darkest else []
    return _complete(*found) if len(found) == 2 and found[1].score > found[0].score else found


def _above(strength: NDArray[np.float32], level: float) -> Mask:
    return np.where(strength > level, np.uint8(255), np.uint8(0))


def _split(strength: NDArray[np.float32], low: float) -> float:
    """Return the strength that separates the faint from the dark ink above a level (Otsu's)."""
    above = np.clip(strength[strength > low], 0, 255).astype(np.uint8).reshape(-1, 1)
    return cv2.threshold(above, 0, 255, cv2.THRESH_OTSU)[0] if len(above) else 255.0


def _complete(lower: Candidate, higher: Candidate) -> list[Candidate]:
    """Leave out the digit of the higher level if it has lost strokes, as in a lamp's glare, or is in pieces there."""
    kept = without_marks(lower.mask, lower.strength)
    x, y, width, height = cv2.boundingRect(kept)
    low, high = (mask[y : y + height, x : x + width] for mask in (kept, higher.mask))
    if cv2.countNonZero(higher.mask) > cv2.countNonZero(high) or max(low.shape) > 2 * max(cv2.boundingRect(high)[2:]):
        return [lower, higher]
    reach = 2 * min(int(thickness(high)), 10) + 1
    lost = cv2.countNonZero(low & ~cv2.dilate(high, np.ones((reach, reach), np.uint8)))
    if lost > _LOST * cv2.countNonZero(low):
        return [lower._replace(doubtful=True)]
    # On squared paper, the digits of a number are pieces of what is connected at the lower level.
    broken = width <= _BROAD * height and _count_pieces(high) > _count_pieces(low) + 1
    return [lower] if broken else [lower, higher]


def is_cut(mask: Mask) -> bool:
    """Return whether ink touches the border."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _count_pieces(mask: Mask) -> int:
    """Return how many connected parts that are not tiny the ink has."""
    areas = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:, 4]
    return int(np.count_nonzero(areas > _TINY * areas.sum()))


def choose(light: Light, mask: Mask) -> Candidate | None:
    """Return the digit among the connected parts of a mask, with the parts that belong to it."""
    order, numbers, stats = find_parts(mask)
    order = order[np.cumsum(np.prod(stats[order, 2:4], axis=1)) <= _AREAS * mask.size]
    parts = [examine(int(n), stats[n], numbers, light) for n in order]
    likely = [p for p in parts if p.score > 0]
    digits = without_box([p for p in likely if not p.surrounds(likely)])
    digits.sort(key=lambda p: -p.score)
    if not digits:
        return None
    # A number outweighs a single part that looks somewhat more like a digit.
    seeds = digits[:1] + [p for p in digits[1:_SEEDS] if p.inside(mask)]
    neighbours = find_neighbours(digits, digits)
    rows = [find_row(p, digits, neighbours, mask) for p in seeds]
    row = max(rows, key=weight)
    seed = max(row, key=lambda p: p.score)
    members, areas = list(row), list[tuple[int, int, int, int]]()
    waiting = [p for p in parts if p not in members and not (p.solid or p.is_side(row) or p.surrounds(row))]
    members += find_between(row, waiting, mask)
    waiting = [p for p in waiting if p not in members]
    for digit in list(members):
        near, area = find_nearby(digit, waiting, mask)
        members, waiting, areas = members + near, [p for p in waiting if p not in near], [*areas, area]
    perhaps = [p for p in digits if p not in members and p.inside(mask) and p.score >= _PERHAPS * seed.score]
    perhaps = [p for p in perhaps if not p.is_side(row)]
    rivals = [p for p in perhaps if p.score >= _RIVAL * seed.score]
    members += _find_dashes(row, members, parts, mask, numbers)
    others = [p for p in parts if p not in members and p not in rivals]
    missed = len(row) > 1 and any(p.stands_by(row) and not (p.flat or p.thin) for p in others)
    bars = sum(p.thin for p in row) >= _BARS  # a bar code rather than as many 1s
    # A line may be one side of a frame around a number rather than a 1.
    missed |= len(row) == 1 and any(
        len(each) > 1 and seed.is_side(each) and weight(each) > _NUMBER * weight(row) for each in rows
    )
    missed |= len(row) == 1 and _leaves_stroke(members, others, mask, numbers)
    alone = all(p.area < 0.05 * seed.area and not min(p.distance(*area) for area in areas) for p in others)
    doubtful = bool(perhaps) or missed or bars
    chosen = np.zeros(len(stats), np.uint8)
    chosen[[p.number for p in members + rivals]] = 255
    return Candidate(weight(row), light.strength, chosen[numbers] & mask, doubtful, alone)


def _find_dashes(
    row: list[Part], members: list[Part], parts: list[Part], mask: Mask, numbers: NDArray[np.int32]
) -> list[Part]:
    """Return the parts that are no farther from a digit of dashes than its dashes are from each other."""
    found = list[Part]()
    for _ in range(_ROUNDS):
        area = left, top, right, bottom = _around(members + found)
        if len(row) > 1 and bottom - top < _STACKED * max(p.height for p in row):
            break  # a number
        size = max(right - left, bottom - top)
        near = [p for p in parts if p not in members + found and p.distance(*area) <= _NEAR * size]
        near = [p for p in near if p.size < 1.2 * size and p.inside(mask) and not p.surrounds(members)]
        if not near:
            break
        left, top, right, bottom = _around(members + found + near)
        digit = [p.number for p in members + found]
        dashes = find_dashes(numbers[top:bottom, left:right], digit, mask[top:bottom, left:right])
        found += [p for p in near if p.number in dashes]
    return found


def _leaves_stroke(members: list[Part], others: list[Part], mask: Mask, numbers: NDArray[np.int32]) -> bool:
    """Return whether a stroke that was left out is no farther from the digit than the digit's strokes are wide."""
    area = _around(members)
    size = max(area[2] - area[0], area[3] - area[1])
    near = [p for p in others if _STROKE * size < p.size < 1.2 * size and p.distance(*area) < _NEAR * size]
    near = [p for p in near if p.inside(mask) and not p.solid and not p.surrounds(members)]
    near = [p for p in near if not any(p.is_minus(digit) for digit in members)]
    if not near:
        return False
    left, top, right, bottom = _around(members + near)
    place = numbers[top:bottom, left:right]
    own = np.where(np.isin(place, [p.number for p in members]), mask[top:bottom, left:right], np.uint8(0))
    width = 4 * cv2.mean(cv2.distanceTransform(own, cv2.DIST_L2, 3), own)[0]
    away = cv2.distanceTransform(cv2.bitwise_not(own), cv2.DIST_L2, 3)
    for part in near:
        columns = np.flatnonzero(((away <= width) & (place == part.number)).any(axis=0)) + left - part.x
        # An underline is longer on both sides of what stands over it.
        if len(columns) and not (part.flat and min(columns[0], part.width - columns[-1]) > UNDER * part.width):
            return True
    return False


def _around(parts: list[Part]) -> tuple[int, int, int, int]:
    """Return the rectangle around parts."""
    right, bottom = max(p.x + p.width for p in parts), max(p.y + p.height for p in parts)
    return min(p.x for p in parts), min(p.y for p in parts), right, bottom

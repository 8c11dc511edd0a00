"""The ink of one digit in a picture that shows other things too: edges, rules, boxes, shadows, holes, other strokes.

The digit is dark on light, or light on dark for the negative (`candidates.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data import outlines
from digits.data.candidates import MIN_CONTRAST, find_candidates, is_cut
from digits.data.choice import Candidate, choose
from digits.data.parts import Light, examine
from digits.data.pieces import find_parts, without_marks
from digits.data.preprocessing import FIELD, Ink
from digits.data.rules import Mask, find_connected, without_bars
from digits.data.underlines import without_underline

SIDE = 448  # mean of the sides in pixels at which a picture is analysed
_NEGATIVE = 0.75  # weight of light ink, if there is dark ink too
_CLOSE = 0.85  # the ink may be dark or light if the lower score is above this share of the higher one
_INNER = 0.25  # least score of a digit within ink of the other polarity that may be a ring around it, of the ring's
_MARKS = 0.08  # greatest share of a drawing's ink in parts that are no strokes of its pen
_FIRM = 0.7  # least strength of marks that may be the digit, of what is left
_HIGH = 0.5  # least height of a part of a number that is counted, of the highest part's
_SMALL = 70  # height in pixels of a number in small digits


class Reading(NamedTuple):
    """The ink of a picture, uint8 (height, width) from 0 (paper) to 255, and whether it may not be the digit's."""

    ink: Ink
    doubtful: bool = False


def read(level: NDArray[np.uint8]) -> Reading:
    """Return the ink of the digit in a picture, uint8 (height, width), dark on light or light on dark.

    A drawing without anything else, and any picture of MNIST's size, gives its difference to the border unchanged.
    Otherwise the ink has at most SIDE * SIDE pixels, or as many as the picture if it shows a number in small digits. A
    picture without a digit gives no ink.
    """
    plain = difference_to_border(level)
    if max(level.shape) <= 2 * FIELD * _pixel(level):
        return Reading(plain)
    strip = max(level.shape) > 3 * min(level.shape)
    side = 0.8 * SIDE if strip else SIDE  # a strip's pixels cost more time
    scale = min(1.0, side / float(np.sqrt(level.size)))
    if drawn := _find_drawn(plain, scale):
        return drawn
    found, negative = _search(level, scale, (False, True))
    if not found.ink.any() and _stands_alone(plain):
        return Reading(plain)
    x, y, width, height = cv2.boundingRect(found.ink)
    if scale > 0.8 or not 0 < height <= (_SMALL if width > 1.5 * height else FIELD):
        return found
    # A number in small digits is read again, in more detail.
    reach = (3 if width > 1.5 * height else 8) * height  # the first digit of a number may be all that was found
    top, left = max(0, round((y - height) / scale)), max(0, round((x - reach) / scale))
    bottom, right = round((y + 2 * height) / scale), round((x + width + reach) / scale)
    near = level[top:bottom, left:right]
    detail = min(1.0, side / float(np.sqrt(near.size)))
    if detail < 1.25 * scale:
        return found
    again, _ = _search(near, detail, (negative,))
    ink = np.zeros((round(level.shape[0] * detail), round(level.shape[1] * detail)), np.uint8)
    area = ink[round(top * detail) :, round(left * detail) :][: again.ink.shape[0], : again.ink.shape[1]]
    area[:] = again.ink[: area.shape[0], : area.shape[1]]
    lost = _count_high(ink) < _count_high(found.ink)  # some of the number's digits
    return found if lost else Reading(ink, again.doubtful)


def _count_high(ink: Ink) -> int:
    """Return how many connected parts of ink are about as high as the highest."""
    mask = cv2.threshold(ink, 64, 255, cv2.THRESH_BINARY)[1]
    heights = find_connected(mask)[1][1:, 3]
    return int(np.count_nonzero(heights >= _HIGH * heights.max(initial=0)))


def _search(level: NDArray[np.uint8], scale: float, polarities: tuple[bool, ...]) -> tuple[Reading, bool]:
    """Return the ink of the digit in a picture that is reduced by `scale` before, and whether it is lighter than paper.

    `polarities` are the ones that are tried: False for dark ink, True for light ink.
    """
    small = without_bars(_reduced(level, scale))
    found = {n: max(find_candidates(small, n), key=lambda c: c.score, default=None) for n in polarities}
    best, unclear = _likelier(found.get(False), found.get(True))
    if best is None:
        return Reading(np.zeros_like(small)), False
    kept = without_marks(best.mask, best.strength)
    mask, underlined = without_underline(kept)
    doubtful = best.doubtful or underlined or unclear or _may_lose_digit(best, kept)
    peak = float(np.percentile(best.strength[mask > 0], 75))
    soft = cv2.GaussianBlur(cv2.dilate(mask, np.ones((3, 3), np.uint8)), (3, 3), 0).astype(np.float32) / 255
    ink = np.clip((best.strength / peak - 0.2) / 0.7, 0, 1) * soft
    return Reading((ink * 255).round().astype(np.uint8), doubtful), best is found.get(True)


def _may_lose_digit(found: Candidate, kept: Mask) -> bool:
    """Return whether what was taken for thin marks may be the digit, because the rest is a pen on the paper."""
    marks = found.mask & ~kept
    firm = cv2.mean(found.strength, marks)[0] > _FIRM * cv2.mean(found.strength, kept)[0]
    return firm and _count_high(kept) < _count_high(found.mask)


def _likelier(dark: Candidate | None, light: Candidate | None) -> tuple[Candidate | None, bool]:
    """Return which of dark and light ink is likelier to be the picture's digit, and whether it may be the other."""
    if not (dark and light):
        return dark or light, False
    # Most ink is dark, and a shadow's edge next to a stroke encloses a light part that looks like one.
    scores = dark.score, _NEGATIVE * light.score
    best, other = (light, dark) if scores[1] > scores[0] else (dark, light)
    if other.score > _INNER * best.score and other.lies_in(best):
        # It may be a digit on a sign with a ring. If it touches the ring, it may also be the paper within a thick 0.
        touching = other.touches(best)
        return best if touching else other, touching
    return best, min(scores) > _CLOSE * max(scores)


def _reduced(level: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    height, width = (max(1, round(side * scale)) for side in level.shape)
    return np.asarray(cv2.resize(level, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _pixel(level: NDArray[np.uint8]) -> int:
    """Return the side of the squares that a picture consists of, if a smaller one was enlarged pixel by pixel, or 1."""
    changes = [
        np.flatnonzero((level[1:] != level[:-1]).any(axis=1)),
        np.flatnonzero((level[:, 1:] != level[:, :-1]).any(axis=0)),
    ]
    return int(np.gcd.reduce(np.concatenate([*changes, np.array(level.shape) - 1]) + 1))


def difference_to_border(level: NDArray[np.uint8]) -> Ink:
    """Return the difference of each pixel to the median of the border, from 0 (paper) to 255."""
    border = np.concatenate([level[0], level[-1], level[:, 0], level[:, -1]]).astype(np.float32)
    # A table of the 256 levels costs less than the same for each pixel.
    ink = np.abs(np.arange(256, dtype=np.float32) - np.median(border))
    strongest = float(max(ink[level.min()], ink[level.max()]))
    if strongest < MIN_CONTRAST:
        return np.zeros(level.shape, np.uint8)
    # The paper of a scan is uneven, so differences as large as those along the border count as paper.
    paper = float(np.abs(border - np.median(border)).max())
    paper = min(1.5 * paper, 0.5 * strongest)
    result: Ink = np.clip((ink - paper) * (255 / (strongest - paper)), 0, 255).round().astype(np.uint8)[level]
    return result


def _find_drawn(plain: Ink, scale: float) -> Reading | None:
    """Return the ink of a drawing that shows nothing else, on paper that is even as no camera shows it, or None."""
    ink = _reduced(plain, scale)
    if np.mean(np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]]) > 0) > 0.1:
        return None
    inside = outlines.find_insides(cv2.threshold(ink, 100, 255, cv2.THRESH_BINARY)[1])
    ink |= inside
    found = choose(*_drawn(ink))
    if found is None or not found.alone:
        return None
    mask, underlined = without_underline(found.mask)
    if underlined or mask is not found.mask:
        return None
    thin = found.mask & ~without_marks(found.mask, found.strength)
    if cv2.countNonZero(thin) > _MARKS * cv2.countNonZero(found.mask):
        return None
    reach = 2 * (max(cv2.boundingRect(found.mask)[2:]) // 5) + 1
    # A sum over each square, whose cost does not grow with the square, as that of a dilation would.
    near = cv2.boxFilter(found.mask, cv2.CV_32S, (reach, reach), normalize=False, borderType=cv2.BORDER_CONSTANT)
    anything = cv2.threshold(plain, 0, 255, cv2.THRESH_BINARY)[1]  # also a camera's faint noise
    if _reduced(anything, scale)[near == 0].any():
        return None
    # An outline that the border cuts is not closed.
    return Reading(outlines.filled(plain, inside), found.doubtful or bool(inside.any() and is_cut(found.mask)))


def _drawn(ink: Ink) -> tuple[Light, Mask]:
    """Return the ink of a drawing on even paper as a picture with dark ink, and as a mask."""
    light = Light(255 - ink, np.full_like(ink, 255), ink.astype(np.float32), max(ink.shape))
    return light, cv2.threshold(ink, 100, 255, cv2.THRESH_BINARY)[1]


def _stands_alone(ink: Ink) -> bool:
    """Return whether even paper shows one thing alone, such as a digit with very thick or blurred strokes.

    A spot, a frame or a level line is no digit.
    """
    light, mask = _drawn(ink)
    order, numbers, stats = find_parts(mask)
    if len(order) != 1 or is_cut(ink):
        return False
    part = examine(int(order[0]), stats[order[0]], numbers, light)
    return not (part.flat or part.solid)

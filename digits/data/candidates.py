"""The digits that a picture may show, in one polarity, at the levels that separate ink from paper.

A morphological closing of the picture with a square that no stroke can hold gives the paper around each stroke, also in
a shadow and next to a dark table (black-hat transform: Serra, Image Analysis and Mathematical Morphology, 1982). What
differs from it are strokes. They are binarised at two levels, and long straight lines are removed (`choice.py` then
finds the digit among the connected parts).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from digits.data import outlines
from digits.data.choice import Candidate, choose
from digits.data.parts import Light
from digits.data.pieces import without_marks
from digits.data.rules import Mask, closed, cut, find_connected, find_grid, find_rules, thickness

_KERNEL = 0.3  # side of the closing's square, of the mean of the picture's sides
_SHARED = 0.9  # least share of a digit's ink that the lower level has, too, if it is the same digit
_LOST = 0.1  # least share of a digit's ink that the higher level has lost
_BROAD = 1.2  # greatest width of a single digit, of its height
_TINY = 0.01  # greatest area of a speck, of the ink's
_GLARE = 8  # least difference of the paper's brightness along a digit in a lamp's glare, of 255
_FALLING = 0.9  # least correlation of the paper's brightness and the faintness of the ink, if glare is the cause
_FADED = 0.8  # greatest strength of the ink in the glare, of that elsewhere
_FAINTEST = 0.25  # least strength of ink that is made stronger, of that elsewhere
MIN_CONTRAST = 24  # of 255; a picture with less is empty paper


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
    faint = _above(strength, levels[0])
    lines = find_rules(faint)
    if not (lines[0].any() or lines[1].any()):
        lines = find_grid(faint)
    light = Light(dark, paper, strength, side)
    masks = (cut(_above(strength, at), lines, strength) for at in levels)
    found = [candidate for mask in masks if (candidate := choose(light, mask))]
    if filled:  # an outline that the border cuts is not closed
        found = [c._replace(doubtful=c.doubtful or is_cut(c.mask)) for c in found]
    if not found:  # shadows may be most of what is dark
        darkest = choose(light, cut(_above(strength, _split(strength, split)), lines, strength))
        return [darkest] if darkest else []
    return _complete(found[0], found[1], paper) if len(found) == 2 else [_without_glare(found[0], paper)]


def _above(strength: NDArray[np.float32], level: float) -> Mask:
    return np.asarray(cv2.threshold(strength, level, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _split(strength: NDArray[np.float32], low: float) -> float:
    """Return the strength that separates the faint from the dark ink above a level (Otsu's)."""
    above = np.clip(strength[strength > low], 0, 255).astype(np.uint8).reshape(-1, 1)
    return cv2.threshold(above, 0, 255, cv2.THRESH_OTSU)[0] if len(above) else 255.0


def _complete(lower: Candidate, higher: Candidate, paper: NDArray[np.uint8]) -> list[Candidate]:
    """Leave out the digit of the higher level if it has lost strokes, as in a lamp's glare, or is in pieces there."""
    even = _without_glare(lower, paper)
    if higher.score <= lower.score:
        return [even, higher]
    kept = without_marks(lower.mask, lower.strength)
    x, y, width, height = cv2.boundingRect(kept)
    low, high = (mask[y : y + height, x : x + width] for mask in (kept, higher.mask))
    apart = cv2.countNonZero(low & high) < _SHARED * cv2.countNonZero(higher.mask)
    if apart or max(low.shape) > 2 * max(cv2.boundingRect(high)[2:]):
        return [even, higher]
    if even is not lower:
        return [even]
    reach = 2 * min(int(thickness(high)), 10) + 1
    lost = cv2.countNonZero(low & ~cv2.dilate(high, np.ones((reach, reach), np.uint8)))
    if lost > _LOST * cv2.countNonZero(low):
        return [lower._replace(doubtful=True)]
    # On squared paper, the digits of a number are pieces of what is connected at the lower level.
    broken = width <= _BROAD * height and _count_pieces(high) > _count_pieces(low) + 1
    return [lower] if broken else [lower, higher]


def _without_glare(found: Candidate, paper: NDArray[np.uint8]) -> Candidate:
    """Make a digit's ink equally strong everywhere if it is fainter where the paper is brighter, as in a lamp's glare.

    A lamp's reflection adds the same light to ink and paper, so that the share of light that ink takes away is lower.
    """
    share = _fit_glare(found.mask, found.strength, paper)
    if share is not None:
        share = _fit_glare(without_marks(found.mask, found.strength), found.strength, paper)
    return found if share is None else found._replace(strength=found.strength / share[paper])


def _fit_glare(mask: Mask, strength: NDArray[np.float32], paper: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """Return the share of the ink's strength that is left at each of the 256 levels of paper; None without glare."""
    x, y, width, height = cv2.boundingRect(mask)
    area = slice(y, y + height), slice(x, x + width)
    strong = strength[area] >= cv2.dilate(strength[area], np.ones((5, 5), np.uint8))  # the middle of strokes
    cores = strong & (mask[area] > 0)
    bright, power = paper[area][cores], strength[area][cores]
    if not len(bright) or power.min() > _FADED * power.max():
        return None
    dimmest, brightest = (int(at) for at in np.percentile(bright, (5, 100)))
    if brightest - dimmest < _GLARE or np.corrcoef(bright, power)[0, 1] > -_FALLING:
        return None
    line = np.polyval(np.polyfit(bright, power, 1), np.arange(256))
    share: NDArray[np.float32] = np.clip(line / line[dimmest], _FAINTEST, 1).astype(np.float32)
    return share if share[brightest] < _FADED else None


def is_cut(mask: Mask) -> bool:
    """Return whether ink touches the border."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _count_pieces(mask: Mask) -> int:
    """Return how many connected parts that are not tiny the ink has."""
    areas = find_connected(mask)[1][1:, 4]
    return int(np.count_nonzero(areas > _TINY * areas.sum()))

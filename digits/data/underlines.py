"""Level lines under a digit: the foot of a 2 belongs to it, and an underline does not."""

from __future__ import annotations

import cv2
import numpy as np

from digits.data.rules import Mask, level_lines

UNDER = 0.15  # least length of an underline on both sides of what stands on it, of its own length
_FOOT = 0.8  # greatest length of a printed digit's foot, of its height
_HEAD = 0.35  # greatest width of what stands on a printed foot, of its height; a 4 or 7 on an underline is wider
_TAIL = 0.6  # least length of a 2's foot on one side of the rest, of its own length


def without_underline(mask: Mask) -> tuple[Mask, bool]:
    """Remove a level line at the foot of a digit that touches it, and return whether it may be the digit's own foot.

    The line is an underline if it is longer than what stands on it, on both sides: the foot of a 2 is not.
    """
    x, y, width, height = cv2.boundingRect(mask)
    own = mask[y : y + height, x : x + width]
    foot, lines = int(0.7 * height), np.zeros_like(own)
    top = max(0, foot - width // 10 - 2)  # the tilt of a line
    lines[top:] = level_lines(own[top:], 0.5 * width)
    lines[:foot] = 0
    if not lines.any():
        return mask, False
    rows, columns = np.nonzero(lines)
    left, right = columns.min(), columns.max()
    if left == right:
        return mask, False
    slope, offset = np.polyfit(columns, rows, 1)
    below = np.arange(height)[:, None] - (slope * np.arange(width) + offset)  # distance of each pixel from the line
    half = 0.5 * len(rows) / (right - left + 1) + 1.5
    standing = own & np.where((below < -half) & (below > -half - 4), np.uint8(255), np.uint8(0))
    touching = np.flatnonzero(standing.any(axis=0))
    if not len(touching):
        return mask, False
    free, most = sorted(np.array([touching[0] - left, right - touching[-1]]) / (right - left))
    if free < UNDER / 3:
        return mask, False
    body = np.nonzero(own & np.where(below < -half, np.uint8(255), np.uint8(0)))[1]
    short = right - left < _FOOT * height
    broad = int(np.ptp(body)) > _HEAD * height
    if short and not (broad and free >= UNDER):  # a printed 1 or 2; an underlined 7 may look like this 2
        return mask, broad
    if np.count_nonzero(own[below > half + 0.1 * height]):
        return mask, False  # the bar of a printed 4
    if free < UNDER and most > _TAIL:
        return mask, True
    removed = abs(below) <= half
    removed[:, touching[0] : touching[-1] + 1] = False  # a round foot is within the line
    result = mask.copy()
    result[y : y + height, x : x + width][removed] = 0
    return result, bool(short or free < 1.5 * UNDER)

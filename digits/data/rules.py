"""Straight lines that are not a digit's: ruled and squared paper, tables, boxes, a scan's bars.

A line is what an opening with a long thin rectangle leaves of the ink's mask, sheared by each slope.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.uint8]  # (height, width), 0 or 255

_STRONGER = 1.1  # least strength of ink that is seen on a line, of the line's
_WIDER = 4.0  # least width of what is no line, of the lines' median
_TILT = 0.25  # steepest slope of a rule
_ROW = 1.5  # least width of a row of boxes, of its height
_WHOLE = 0.9  # least length of a line of a row of boxes, of the row's side
_LEAST = 20  # pixels; a smaller row of boxes has no digits that could be read
RULE = 0.55  # least length of a ruled line, of the picture's side: longer than a digit's own straight strokes


def find_rules(mask: Mask) -> tuple[Mask, Mask]:
    """Return the level and the upright lines longer than a digit's strokes, tilted by up to 14 degrees."""
    height, width = mask.shape
    found = [
        level_lines(mask, RULE * width, _TILT),
        level_lines(np.ascontiguousarray(mask.T), RULE * height, _TILT).T,
    ]
    through = np.zeros_like(mask), np.zeros_like(mask)
    if not any(lines.any() for lines in found):
        return through
    # What is much wider than most lines is a stroke or an area.
    parts = [find_connected(lines) for lines in found]
    widths = np.concatenate([stats[1:, 4] / stats[1:, 2 + axis] for axis, (_, stats) in enumerate(parts)])
    thick = max(8, min(int(_WIDER * np.median(widths)), min(height, width) // 20))
    solid = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((thick, thick), np.uint8))
    counts = [0, 0]
    for axis, (lines, (numbers, stats)) in enumerate(zip(found, parts, strict=True)):
        wide = np.bincount(numbers[solid > 0], minlength=len(stats)) > 0.5 * stats[:, 4]
        wide[0] = True
        start, side = stats[:, axis], stats[:, 2 + axis]
        counts[axis] = int((~wide & (side >= 0.8 * RULE * mask.shape[1 - axis])).sum())
        ends = (start <= 0.06 * mask.shape[1 - axis]) & (start + side >= 0.94 * mask.shape[1 - axis])
        lines &= ~solid
        through[axis][:] = np.where((ends & ~wide).take(numbers), lines, np.uint8(0))
    # A single line within the picture may be a 1 or the bar of a 7; a box has two of each direction, rules are many.
    for axis, lines in enumerate(found):
        if counts[axis] > 2 or min(counts) > 1:
            through[axis][:] |= lines
    return through


def find_grid(mask: Mask) -> tuple[Mask, Mask]:
    """Return the level and the upright lines of a row of boxes, whatever its size: the part of the mask that is widest.

    Its outer lines reach from end to end, and three or more are upright, so that no digit is taken for one.
    """
    lines = np.zeros_like(mask), np.zeros_like(mask)
    stats = find_connected(mask)[1][1:]
    if not len(stats):
        return lines
    x, y, width, height, _ = (int(n) for n in stats[np.argmax(stats[:, 2])])
    if width < _ROW * height or min(width, height) < _LEAST:
        return lines
    area = slice(y, y + height), slice(x, x + width)
    row = mask[area]
    level = level_lines(row, _WHOLE * width)
    upright = level_lines(np.ascontiguousarray(row.T), _WHOLE * height).T
    if _count(level) == 2 and _count(upright) > 2:
        lines[0][area], lines[1][area] = level, upright
    return lines


def _count(lines: Mask) -> int:
    return cv2.connectedComponents(lines, connectivity=8)[0] - 1


def level_lines(mask: Mask, length: float, tilt: float = 0.1) -> Mask:
    """Return the straight parts of a mask that are level and have at least a length. `tilt` is their steepest slope."""
    rows, columns = mask.shape
    step = max(1, columns // 100)  # a hundred columns suffice, and cost less
    short = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((1, 2 * step - 1), np.uint8))
    short = cv2.resize(short, (max(1, columns // step), rows), interpolation=cv2.INTER_AREA)
    # Transposed, because a filter along the columns of few long rows costs half as much.
    short = np.ascontiguousarray(cv2.threshold(short, 100, 255, cv2.THRESH_BINARY)[1].T)
    reach = max(2, int(length / step))
    found = np.zeros_like(short)
    slopes = 2 * min(round(60 * tilt), max(1, round(0.25 * tilt * columns))) + 1  # two pixels apart at the sides
    for slope in np.linspace(-tilt, tilt, slopes) * step:
        shear = np.array([[1, slope, -slope * short.shape[0] / 2], [0, 1, 0]], np.float64)
        level = cv2.warpAffine(short, shear, short.shape[::-1], flags=cv2.INTER_NEAREST)
        if cv2.reduce(level, 0, cv2.REDUCE_AVG).max() < 230 * reach / short.shape[0]:
            continue
        kernel = np.ones((reach, 1), np.uint8)
        if cv2.hasNonZero(core := cv2.erode(level, kernel)):  # an opening in two steps, because most find nothing
            level = cv2.dilate(core, kernel)
            found |= cv2.warpAffine(level, shear, short.shape[::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    result: Mask = cv2.resize(np.ascontiguousarray(found.T), (columns, rows), interpolation=cv2.INTER_NEAREST)
    return result


def cut(mask: Mask, rules: tuple[Mask, Mask], strength: NDArray[np.float32]) -> Mask:
    """Remove rules from a mask, but not the strokes that cross them, nor ink on them that is clearly stronger.

    `rules` are the level and the upright lines; `strength`, (height, width), is that of the ink.
    """
    lines = rules[0] | rules[1]
    if not lines.any():
        return mask
    wide = cv2.dilate(lines, np.ones((3, 3), np.uint8))
    kept = mask & ~wide
    # Edges of both are as faint as the camera makes them.
    ink, line = (float(np.percentile(strength[part > 0], 80)) if part.any() else 0.0 for part in (kept, mask & lines))
    if ink > _STRONGER * line:
        kept |= np.where(strength > (ink + line) / 2, wide & mask, np.uint8(0))
    reach = min(2 * int(thickness(lines)) + 3, 21)  # the cost grows with its square
    bridged = kept.copy()
    for axis, own in enumerate(rules):
        if own.any():  # Along a line, a wide kernel would join the digits of a number.
            size = (reach, reach // 3 | 1)
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size if axis else size[::-1])
            bridged |= closed(kept, kernel) & cv2.dilate(own, np.ones((3, 3), np.uint8))
    result: Mask = kept | (bridged & mask)
    return result


def find_connected(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the number of the connected part that each pixel of a mask is in, 0 outside, and OpenCV's stats."""
    # OpenCV measures parts with numbers of 16 bits in half of the time. All four pixels of a square are of one part.
    few = (mask.shape[0] + 1) * (mask.shape[1] + 1) < 4 * np.iinfo(np.uint16).max
    kind = cv2.CV_16U if few else cv2.CV_32S
    _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8, ltype=kind)
    return np.asarray(numbers, np.int32), np.asarray(stats, np.int32)


def mask_of(numbers: NDArray[np.int32], number: int) -> Mask:
    """Return the pixels of a part, given those of all parts."""
    return np.asarray(cv2.inRange(numbers, number, number), np.uint8)


def closed(image: NDArray[np.uint8], kernel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the morphological closing with a symmetric kernel, in the time of a wide picture also for a tall one."""
    if image.shape[0] <= image.shape[1]:
        return np.asarray(cv2.morphologyEx(image, cv2.MORPH_CLOSE, kernel), np.uint8)
    # OpenCV filters few long rows up to ten times as fast as many short ones.
    turned = cv2.morphologyEx(np.ascontiguousarray(image.T), cv2.MORPH_CLOSE, kernel)
    return np.ascontiguousarray(turned.T)


def without_bars(level: Mask) -> Mask:
    """Cover each dark bar along the border, as a scanner leaves, with the paper next to it."""
    result, paper = level.copy(), float(np.median(level))
    for turn in range(4):
        side, covered = np.rot90(level, turn), np.rot90(result, turn)
        bright = np.percentile(side[: max(4, len(side) // 6)], 90, axis=1)
        end = int(np.argmin(bright < 0.5 * paper))  # 0 without a bar, and if it is no bar but an area
        # The edge of a slanted shadow, unlike a bar's, leaves most of a row dark.
        if end and end + 2 < len(bright) and (inside := np.median(side[end + 2])) > 0.75 * paper:
            covered[: end + 2] = inside
    return result


def thickness(mask: Mask) -> float:
    """Return the greatest thickness of the strokes in pixels."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    return 2 * float(cv2.distanceTransform(padded, cv2.DIST_L2, 3).max())

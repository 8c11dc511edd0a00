"""The forms of generated digits: strokes of a pen at random, in a box that is 1 high and about 1 wide.

x points to the right and y down. A form function takes the random numbers and returns the strokes of one digit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]  # (n, 2): x and y
Random = np.random.Generator


def _zero(rng: Random) -> list[Points]:
    """Draw a 0 with a rising or upright slash, within the ring or far beyond it."""
    between = rng.uniform
    wide, start = between(0.2, 0.5), between(0, 360)
    ring = _arc(0.5, 0.5, wide, 0.5, start, start - between(335, 390))
    angle = np.radians(between(*((35, 80) if rng.random() < 0.8 else (80, 100))))  # a level one would make an 8
    across, up = np.cos(angle), np.sin(angle)
    radius = 1 / np.hypot(across / wide, up / 0.5)
    length = radius * between(0.7, 1.1) if rng.random() < 0.4 else radius * between(1.1, 1.4) + between(0, 0.5)
    x, y, below = 0.5 + between(-0.05, 0.05), 0.5 + between(-0.07, 0.07), length * between(0.8, 1.2)
    return [ring, np.array([(x + across * length, y - up * length), (x - across * below, y + up * below)])]


def _one(rng: Random) -> list[Points]:
    """Draw a 1 with a flag and sometimes a foot."""
    between, kind = rng.uniform, rng.random()
    if kind < 0.1:
        return _one_with_near_flag(rng)
    if kind < 0.6:
        return _one_with_round_or_wide_flag(rng, wide=kind > 0.32)
    top, foot = (between(0.5, 0.8), 0.0), (between(0.3, 0.6), 1.0)
    low = between(0.15, 0.65)
    flag = (top[0] - 0.05 - low * between(0.5, 1.5), low)  # a flatter long flag would be the top of a 7
    if rng.random() < 0.55:  # a short flag, as in print
        foot = (top[0] - between(-0.05, 0.15), 1.0)
        flag = (top[0] - between(0.12, 0.35), between(0.05, 0.22))
    bent = ((flag[0] + top[0]) / 2 + between(-0.05, 0.05), flag[1] / 2 + between(-0.06, 0.06))
    strokes = [np.array([flag, bent, top, foot])]
    return [*strokes, _foot(rng, foot)] if rng.random() < 0.5 else strokes


def _foot(rng: Random, stem: tuple[float, float]) -> Points:
    """Return the foot of a 1 whose stem ends there."""
    ends = (stem[0] - rng.uniform(0.15, 0.55), stem[0] + rng.uniform(0.15, 0.6))
    return np.array([(x, 1 + rng.uniform(-0.05, 0.05)) for x in ends])


def _one_with_near_flag(rng: Random) -> list[Points]:
    """Draw a 1 whose flag rises close to the stem."""
    between = rng.uniform
    top, low = (between(0.5, 0.7), 0.0), between(0.25, 0.6)
    flag = (top[0] - between(0.06, 0.25) - 0.15 * low, low)
    bent = ((flag[0] + top[0]) / 2 - between(-0.02, 0.08), flag[1] / 2 - between(0, 0.06))
    return [np.vstack([_curve(flag, bent, top), [(between(0.35, 0.65), 1.0)]])]


def _one_with_round_or_wide_flag(rng: Random, *, wide: bool) -> list[Points]:
    """Draw a leaning 1. A wide flag rises slowly; another one may begin with a hook and has no corner at the top."""
    between = rng.uniform
    top, low = (between(0.5, 0.8), 0.0), between(0.15, 0.5 if wide else 0.6)
    foot = (top[0] - between(0, 0.5), 1.0)
    flag = (top[0] - 0.05 - low * (between(1.3, 2.0) if wide else between(0.3, 1.3)), low)
    rising = [flag, ((flag[0] + top[0]) / 2 + between(-0.06, 0.07), flag[1] / 2 + between(-0.05, 0.07)), top]
    if not wide and rng.random() < 0.5:
        rising.insert(0, (flag[0] - between(-0.03, 0.06), flag[1] - between(0.03, 0.12)))
    if wide and rng.random() < 0.5:
        stem = np.vstack([_curve(*rising), [foot]])
    else:
        stem = _curve(*rising, (top[0] - between(0, 0.06), between(0.1, 0.2)), foot)
    return [stem, _foot(rng, foot)] if rng.random() < 0.2 else [stem]


def _three(rng: Random) -> list[Points]:
    """Draw a 3 whose notch is slight, so that it resembles a 7."""
    between = rng.uniform
    right, notch, y = between(0.55, 0.8), between(0.05, 0.3), between(0.35, 0.5)
    return [
        _curve(
            (between(0, 0.2), between(0, 0.2)),
            (right - between(0.2, 0.4), between(-0.03, 0.05)),
            (right, between(0.05, 0.18)),
            (right - notch, y),
            (right - notch + between(0, 0.1), y + between(0.03, 0.1)),
            (right + between(-0.1, 0.1), between(0.68, 0.8)),
            (right - between(0.15, 0.4), between(0.95, 1.02)),
            (between(0, 0.25), between(0.85, 1)),
        )
    ]


def _four(rng: Random) -> list[Points]:
    """Draw an open 4 of two strokes; the first is angular or round."""
    between, kind = rng.uniform, rng.random()
    if kind < 0.2:  # an L and a short stroke through its end
        y, width = between(0.62, 0.85), between(0.3, 0.65)
        corner = [(between(0.1, 0.5) * width, 0), (between(0, 0.12), y), (width, y + between(-0.12, 0.03))]
        x = width * between(0.75, 1.02)
        short = [(x + between(0, 0.08), y - between(0.08, 0.35)), (x + between(-0.1, 0.03), between(0.92, 1.08))]
        return [_curve(*corner) if rng.random() < 0.5 else np.array(corner), np.array(short)]
    if kind < 0.45:  # one stroke, as a flash of lightning
        y, width = between(0.4, 0.68), between(0.3, 0.75)
        stroke = [(between(0.2, 0.75) * width, 0), (between(0, 0.1), y), (width, y + between(-0.15, 0.05))]
        stroke.append((width - between(0, 0.35), 1))
        return [_curve(*stroke) if rng.random() < 0.5 else np.array(stroke)]
    if kind < 0.67:  # narrow and with a low bar, at which the second stroke begins
        y, width = between(0.6, 0.85), between(0.3, 0.6)
        corner = [(between(0.1, 0.6) * width, 0), (between(0, 0.1), y), (width, y + between(-0.1, 0.05))]
        x = between(0.6, 1) * width
        down = np.array([(x, y - between(0, 0.25)), (x + between(-0.15, 0.04), between(0.95, 1.15))])
        return [_curve(*corner) if rng.random() < 0.5 else np.array(corner), down]
    y, width = between(0.45, 0.75), between(0.35, 0.9)
    if rng.random() < 0.6:
        first = np.array([
            (between(0.2, 0.5) * width, 0),
            (between(0, 0.1), y + between(-0.05, 0.03)),
            (width, y + between(-0.06, 0.06)),
        ])  # fmt: skip
    else:
        first = _curve(
            (between(0.15, 0.4) * width, 0),
            (between(0, 0.08), 0.7 * y),
            (between(0.05, 0.15), y),
            (width, y + between(-0.1, 0.04)),
        )
    x = between(0.35, 0.75) * width
    second = [(x + between(0, 0.12), between(0.15, 0.45)), (x + between(-0.06, 0.04), between(0.9, 1.1))]
    return [first, np.array(second)]


def _five(rng: Random) -> list[Points]:
    """Draw a 5 of two strokes; the upper one may be apart."""
    between = rng.uniform
    x, y, wide = between(0.1, 0.3), between(0.3, 0.5), between(0.25, 0.45)
    body = _curve(
        (x + between(-0.03, 0.06), between(0.02, 0.16)),
        (x + between(-0.05, 0.02), y),
        (x + 0.6 * wide, y - between(-0.02, 0.08)),
        (x + wide + between(0, 0.15), (1 + y) / 2 + between(-0.03, 0.03)),
        (x + 0.5 * wide, 1),
        (x - between(0, 0.2), 1 - between(0.02, 0.15)),
    )
    bar = [(x + between(-0.05, 0.2), between(-0.06, 0.06)), (x + between(0.4, 0.75), between(-0.12, 0.06))]
    return [body, np.array(bar)]


def _six(rng: Random) -> list[Points]:
    """Draw a 6 with a small bowl, or one of level and upright strokes, as on a display."""
    between = rng.uniform
    if rng.random() < 0.4:
        wide, y = between(0.4, 0.8), between(0.38, 0.6)
        corners = [(wide * between(0.4, 1.1), 0), (0, 0), (0, 1), (wide, 1), (wide, y), (0, y)]
        stroke = np.array(corners) + between(-0.04, 0.04, (6, 2))
        return [_curve(*stroke) if rng.random() < 0.4 else stroke]
    wide, high = between(0.1, 0.28), between(0.1, 0.22)
    x, y = between(0.35, 0.5), 1 - high
    stem = _curve(
        (x - wide + between(0.15, 0.6), 0),
        (x - wide + between(0, 0.25), between(0.25, 0.4)),
        (x - wide + between(-0.02, 0.05), y),
    )
    return [np.vstack([stem, _arc(x, y, wide, high, 180, 180 - between(300, 420))])]


def _seven(rng: Random) -> list[Points]:
    """Draw a 7 with a bar, in one stroke or in two."""
    between = rng.uniform
    left, right = between(0.05, 0.3), between(0.6, 0.95)
    top = _curve((left, between(0, 0.1)), ((left + right) / 2, between(-0.06, 0.05)), (right, between(-0.02, 0.06)))
    if rng.random() < 0.5:
        top = np.vstack([[(left, between(0.12, 0.25))], top])
    foot = (between(0.2, 0.6), 1 + between(-0.03, 0.03))
    middle = ((right + foot[0]) / 2 + between(-0.05, 0.12), 0.5)
    down = _curve((top[-1, 0], top[-1, 1]), middle, foot)
    y = between(0.4, 0.88)
    x = float(np.interp(y, [0, 0.5, 1], [right, middle[0], foot[0]]))
    if rng.random() < 0.4:
        y = min(y, 0.68)
        start = (x - between(0.15, 0.45), y + between(-0.02, 0.1))
        back = _curve(foot, ((foot[0] + start[0]) / 2 - between(0, 0.12), (1 + start[1]) / 2), start)
        return [np.vstack([top, down, back[1:], [(x + between(0.15, 0.45), y + between(-0.08, 0.06))]])]
    ends = [(x - between(0.15, 0.35), y + between(-0.04, 0.06)), (x + between(0.15, 0.35), y + between(-0.06, 0.04))]
    return [np.vstack([top, down]), np.array(ends)]


def _eight(rng: Random) -> list[Points]:
    """Draw an 8 in one stroke that begins at the upper right, at the upper left or at the crossing."""
    between, kind = rng.uniform, rng.random()
    wide, crossing, x = between(0.18, 0.38), between(0.42, 0.6), 0.5 + between(-0.08, 0.06)
    below = between(0.03, 0.2) if kind >= 0.6 else between(0.04, 0.38)
    right, left = (0.5 + wide, crossing * between(0.3, 0.6)), (0.5 - wide, crossing * between(0.4, 0.6))
    head = (0.5 + between(-0.1, 0.03), between(-0.03, 0.03))
    if kind < 0.25:
        start, below = (0.5 + wide * between(0.5, 1.1), between(0.05, 0.22)), between(0.2, 0.42)
        bottom = [(0.5 + below, between(0.7, 0.8)), (0.5, 1), (0.5 - below, between(0.7, 0.8))]
        return [_curve(start, head, left, (x, crossing), *bottom, (x, crossing), (right[0], between(-0.05, 0.3)))]
    loop = [
        (x, crossing),
        (x - below * between(0.6, 1), crossing + (1 - crossing) * between(0.5, 0.7)),
        (x + between(-0.04, 0.04), 1),
        (x + below * between(0.7, 1.1), crossing + (1 - crossing) * between(0.4, 0.7)),
        (x + between(-0.05, 0.03), crossing + between(-0.03, 0.05)),
    ]
    if kind < 0.6:  # the upper loop is open on the left
        start, part = (between(0.1, 0.4), between(0.02, 0.4)), between(0.2, 1)
        end = (x + part * (start[0] - x) + between(-0.08, 0.05), crossing + part * (start[1] - crossing))
        if rng.random() < 0.3:
            end = (x - between(0.2, 0.6), crossing + between(-0.15, 0.05))
        return [_curve(start, head, right, *loop, end)]
    end = (x - between(0.02, 0.2), crossing - between(0, 0.15))
    start = (x + between(-0.1, 0.02), crossing * between(0.85, 1.1))
    return [_curve(start, left, head, right, *loop, *([end] if rng.random() < 0.5 else []))]


def _nine(rng: Random) -> list[Points]:
    """Draw a 9 with a small head and a tail that curls to the left."""
    between = rng.uniform
    wide, high = between(0.1, 0.3), between(0.07, 0.25)
    start = between(-80, 10)
    head = _arc(0.5, high, wide, high, start, start - between(300, 400))
    x, belly = 0.5 + wide * between(0.4, 1.1), between(0, 0.4)
    tail = [
        (head[-1, 0], head[-1, 1]),
        (x, high + high * between(0, 0.5)),
        (x + belly, between(0.65, 0.8)),
        (x - between(0.1, 0.2) + 0.5 * belly, between(0.93, 1)),
        (x - between(0.35, 0.7), 1 + between(-0.08, 0.03)),
    ]
    if rng.random() < 0.4:
        tail.append((x - between(0.6, 0.8), between(0.8, 0.95)))
    return [np.vstack([head, _curve(*tail)])]


Form = tuple[int, Callable[[Random], list[Points]]]  # the label and the function
# Those that vary most are twice as frequent.
_TWICE: tuple[Form, ...] = ((1, _one), (4, _four), (7, _seven), (9, _nine))
FORMS: tuple[Form, ...] = (*_TWICE, (0, _zero), (3, _three), (5, _five), (6, _six), (8, _eight), *_TWICE)


def _arc(x: float, y: float, wide: float, high: float, start: float, end: float) -> Points:
    """Return an arc of an ellipse around (x, y), between two angles in degrees."""
    angles = np.radians(np.linspace(start, end, 20))
    return np.stack([x + wide * np.cos(angles), y + high * np.sin(angles)], 1)


def _curve(*through: tuple[float, float], steps: int = 5) -> Points:
    """Return a Catmull-Rom spline through the points, with `steps` points per segment."""
    p = np.array(through)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    a, b, c, d = (p[i : len(p) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    between = b + t * ((c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * b - a - 3 * c + d))) / 2
    return np.vstack([between.reshape(-1, 2), p[-2:-1]])

"""Pictures of a digit on other things than white paper, or seen by a camera that does not see well.

The table KINDS names them, each with the properties of its sheet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scenes import Scene, desk, half_plane, plain, rgb

WORDS = ("the", "of", "market", "report", "price", "with", "after", "city", "from", "week", "over", "said")


def grain(s: Scene, wide: float, high: float = 0) -> NDArray[np.float32]:
    """Return smooth noise, (side, side), with a standard deviation of 1."""
    noise = s.random.normal(0, 1, (s.side, s.side)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), wide, sigmaY=high or wide)
    return np.asarray(smooth / smooth.std(), np.float32)


def print_text(s: Scene, top: float, bottom: float, scale: float, colour: Any) -> None:
    """Print small text between two heights in 0..1."""
    layer = np.zeros((s.side, s.side), np.uint8)
    for y in np.arange(top, bottom, 34 * scale / s.side):
        at = (int(0.04 * s.side), int(y * s.side))
        line = " ".join(s.random.choice(WORDS, 30))
        cv2.putText(layer, line, at, cv2.FONT_HERSHEY_TRIPLEX, scale, (255,), 1, cv2.LINE_AA)
    s.blend(layer.astype(np.float32) / 255, colour)


def highlighter(s: Scene) -> None:
    """Mark the digit with a highlighter."""
    s.write()
    r, (x0, y0, x1, y1) = s.random, np.array(s.box) / s.side
    middle, high = (y0 + y1) / 2 + r.uniform(-0.05, 0.05), (y1 - y0) * r.uniform(0.5, 1.3)
    ends = (x0 - r.uniform(0.03, 0.15), middle), (x1 + r.uniform(0.03, 0.15), middle + r.normal(0, 0.03))
    a, b = ([round(4 * s.side * v) for v in end] for end in ends)
    mask = s.shape(lambda m: cv2.line(m, a, b, 255, max(2, round(4 * s.side * high))))
    colour = r.choice([(250, 240, 60), (120, 245, 110), (255, 130, 190), (255, 170, 60)])
    s.picture *= 1 - r.uniform(0.7, 1) * mask[..., None] * (1 - colour / 255)


def screen(s: Scene) -> None:
    """Photograph a screen, with moire."""
    s.write()
    r, (y, x) = s.random, np.mgrid[0 : s.side, 0 : s.side]
    for _ in range(2):
        angle, period = r.uniform(0, np.pi), r.uniform(4, 25)
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + 2 * np.sin(3 * x / s.side))
        s.picture *= (1 + r.uniform(0.03, 0.09) * wave)[..., None]


def kraft(s: Scene) -> None:
    """Write on brown paper with fibres."""
    s.picture += 5 * (grain(s, 1) + grain(s, 6, 1))[..., None]
    s.blend(np.clip(grain(s, 0.8) - 2.4, 0, 1), (90, 60, 35))
    s.write()


def newspaper(s: Scene) -> None:
    """Write over small print."""
    print_text(s, 0, 1.05, s.random.uniform(0.3, 0.45), rgb(s.random, 90, 140))
    s.write()


def receipt(s: Scene) -> None:
    """Print faintly between lines of small print."""
    s.colour, (_, top, _, bottom) = rgb(s.random, 130, 165).astype(np.float32), np.array(s.box) / s.side
    for start, end in ((0.03, top - 0.03), (bottom + 0.06, 0.98)):
        print_text(s, start, end, 0.35, rgb(s.random, 150, 180))
    s.write()
    s.picture += 4 * grain(s, 1)[..., None]


def note(s: Scene) -> None:
    """Stick a note, which casts a shadow, on something bright."""
    s.write()
    r, out = s.random, int(s.side * s.random.uniform(1.15, 1.6))
    room = (out - s.side) / 2
    matrix = cv2.getRotationMatrix2D((s.side / 2, s.side / 2), r.uniform(-10, 10), 1)
    matrix[:, 2] += room + r.uniform(-0.5, 0.5, 2) * room
    alpha = cv2.warpAffine(np.ones((s.side, s.side), np.float32), matrix, (out, out))
    cast = cv2.GaussianBlur(np.roll(alpha, out // 40, (0, 1)), (0, 0), 0.02 * out)
    ground = rgb(r, 150, 240) * (1 - r.uniform(0.3, 0.6) * cast[..., None])
    paper = cv2.warpAffine(s.picture, matrix, (out, out), borderMode=cv2.BORDER_REPLICATE)
    s.picture, s.side = (ground + (paper - ground) * alpha[..., None]).astype(np.float32), out


def on_photo(s: Scene) -> None:
    """Write in white on a dark photo."""
    s.picture += 22 * grain(s, s.side / 15)[..., None] * (1, 0.9, 0.7) + 6 * grain(s, 2)[..., None]
    s.picture = np.clip(s.picture, 5, 150)
    s.write()


def at_an_angle(s: Scene) -> None:
    """Photograph a sheet on a desk at an angle."""
    desk(s)
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    seen = 0.02 + 0.96 * corners + s.random.uniform(-0.12, 0.12, (4, 2)).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners * s.side, seen.astype(np.float32) * s.side)
    s.picture = cv2.warpPerspective(s.picture, matrix, (s.side, s.side), borderMode=cv2.BORDER_REPLICATE)


def erased(s: Scene) -> None:
    """Write in pencil where something was erased."""
    old = np.roll(s.ink[:, ::-1], s.random.integers(-s.side // 5, s.side // 5, 2), (0, 1))
    s.blend(cv2.GaussianBlur(np.ascontiguousarray(old), (0, 0), 2) * s.random.uniform(0.15, 0.3), (120, 120, 122))
    s.blend(0.2 * np.clip(grain(s, s.side / 14) - 0.8, 0, 1), (130, 130, 130))
    s.write()


def sheets(s: Scene) -> None:
    """Let a second sheet overlap the first one and cast a shadow."""
    s.write()
    for _ in range(60):
        mask = half_plane(s, (0.1, 0.45), 0.004)
        if 0.02 < mask.mean() < 0.45 and not (mask * cv2.dilate(s.ink, np.ones((9, 9)))).any():
            s.blend(mask, rgb(s.random, 215, 245))
            cast = cv2.GaussianBlur(mask, (0, 0), 0.012 * s.side) * (1 - mask)
            s.picture *= 1 - s.random.uniform(0.3, 0.7) * cast[..., None]
            return


def finger(s: Scene) -> None:
    """Hold the sheet with a finger."""
    s.write()
    for _ in range(60):
        angle, width = s.random.uniform(0, 2 * np.pi), s.random.uniform(0.1, 0.18)
        way = np.array([np.cos(angle), np.sin(angle)])
        tip = 0.5 + way * s.random.uniform(0.33, 0.5)
        a, b = ([round(4 * s.side * v) for v in end] for end in (tip, tip + way))
        mask = s.shape(lambda m, a=a, b=b, w=width: cv2.line(m, a, b, 255, round(4 * s.side * w)))
        if not (mask * cv2.dilate(s.ink, np.ones((9, 9)))).any():
            s.picture *= 1 - 0.3 * np.roll(cv2.GaussianBlur(mask, (0, 0), 8), 6, (0, 1))[..., None]
            s.blend(cv2.GaussianBlur(mask, (0, 0), 2), np.array([205, 150, 125]) * s.random.uniform(0.6, 1.1))
            return


def shaken(s: Scene) -> None:
    """Move the camera while it takes the picture."""
    s.write()
    length = int(s.side * s.random.uniform(0.012, 0.03)) | 1
    kernel, middle = np.zeros((length, length), np.float32), (length // 2, length // 2)
    kernel[middle[0]] = 1
    kernel = cv2.warpAffine(kernel, cv2.getRotationMatrix2D(middle, s.random.uniform(0, 180), 1), (length, length))
    s.picture = cv2.filter2D(s.picture, -1, kernel / kernel.sum())


def night(s: Scene) -> None:
    """Take the picture in little light, with much noise."""
    s.write()
    s.picture *= s.random.uniform(0.25, 0.5)
    s.picture += s.random.normal(0, s.random.uniform(8, 14), s.picture.shape)


def dotted(s: Scene) -> None:
    """Write on dotted paper."""
    gap, radius = s.random.uniform(0.05, 0.09), s.random.uniform(0.003, 0.006)
    mask = np.zeros((4 * s.side, 4 * s.side), np.uint8)
    for x in np.arange(gap / 2, 1, gap):
        for y in np.arange(gap / 2, 1, gap):
            cv2.circle(mask, (int(4 * s.side * x), int(4 * s.side * y)), max(2, round(4 * s.side * radius)), (255,), -1)
    s.blend(s.shape(lambda m: np.copyto(m, mask)), rgb(s.random, 110, 180))
    s.write()


def glare(s: Scene) -> None:
    """Let a lamp shine on a part of the sheet."""
    s.write()
    y, x = np.mgrid[0 : s.side, 0 : s.side] / s.side - s.random.uniform(0.2, 0.8, (2, 1, 1))
    s.picture *= 0.75
    s.blend((s.random.uniform(0.4, 0.7) * np.exp(-(x * x + y * y) / 0.03)).astype(np.float32), (255, 255, 255))


def circled(s: Scene) -> None:
    """Draw a circle around the digit."""
    s.write()
    r, (x0, y0, x1, y1) = s.random, np.array(s.box) / s.side
    radius, stretch = 0.5 * np.hypot(x1 - x0, y1 - y0) + r.uniform(0.03, 0.08), r.uniform(0.9, 1.15)
    turn = np.linspace(0, 2 * np.pi + r.uniform(-0.3, 0.3), 60) + r.uniform(0, 6)
    points = np.stack([np.cos(turn) * stretch + 0.05 * np.sin(2 * turn), np.sin(turn) / stretch], 1) * radius
    points = (4 * s.side * (points + np.array([x0 + x1, y0 + y1]) / 2)).astype(np.int32)
    width = max(2, round(3.2 * s.side * s.pen))
    s.blend(s.shape(lambda m: cv2.polylines(m, [points], False, 255, width, cv2.LINE_AA)), s.colour)


def label(s: Scene) -> None:
    """Write under the small label of a form's field."""
    layer, word = np.zeros((s.side, s.side), np.uint8), str(s.random.choice(["No.", "Number:", "Qty", "Age"]))
    at = max(2, round(s.box[0] - 0.05 * s.side)), round(s.box[1] - 0.05 * s.side)
    cv2.putText(layer, word, at, cv2.FONT_HERSHEY_SIMPLEX, s.side / 900, (255,), 1 + s.side // 400, cv2.LINE_AA)
    s.blend(layer.astype(np.float32) / 255, rgb(s.random, 20, 80))
    s.write()


BLACK = (25, 22, 22)
KINDS: dict[str, tuple[Callable[[Scene], None], dict[str, Any]]] = {
    "highlighter": (highlighter, {"paper": (245, 245, 243)}),
    "photo of a screen": (screen, {}),
    "kraft paper": (kraft, {"paper": (190, 150, 105), "colour": BLACK}),
    "newspaper": (newspaper, {"paper": (215, 212, 200), "pen": 0.04, "fill": 0.55, "colour": (25, 25, 60)}),
    "receipt": (receipt, {"fill": 0.35, "pen": 0.03}),
    "sticky note": (note, {"paper": (250, 230, 110)}),
    "white on a dark photo": (on_photo, {"paper": (60, 65, 55), "colour": (245, 245, 240), "pen": 0.03}),
    "sheet at an angle": (at_an_angle, {}),
    "erased traces": (erased, {"colour": (95, 95, 98), "pen": 0.02}),
    "two sheets": (sheets, {}),
    "finger": (finger, {}),
    "shaken": (shaken, {}),
    "little light": (night, {}),
    "dotted": (dotted, {}),
    "glare": (glare, {}),
    "circled": (circled, {"fill": 0.4}),
    "label of a form": (label, {"fill": 0.42}),
    "JPEG of quality 10": (plain, {}),
}

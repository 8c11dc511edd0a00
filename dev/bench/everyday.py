"""Pictures of a digit on boards, displays, forms and worn paper, on screens, and in scans.

The table KINDS names them, each with the properties of its sheet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from scenes import Scene, board, plain, rgb, ruled
from surfaces import BLACK, grain, print_text

SEGMENTS = ("abcdef", "bc", "abdeg", "abcdg", "bcfg", "acdfg", "acdefg", "abc", "abcdefg", "abcdfg")
ENDS = {"a": (0, 0, 1, 0), "b": (1, 0, 1, 1), "c": (1, 1, 1, 2), "d": (0, 2, 1, 2), "e": (0, 1, 0, 2),
        "f": (0, 0, 0, 1), "g": (0, 1, 1, 1)}  # fmt: skip


def angled_grid(s: Scene) -> None:
    """Photograph squared paper at an angle."""
    ruled(s, (0, 1))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    far = (corners + s.random.uniform(-0.12, 0.12, (4, 2))).astype(np.float32)
    middle = np.array(s.box).reshape(2, 2).mean(0) / s.side
    matrix = cv2.getPerspectiveTransform(((corners - middle) * 0.9 + middle).astype(np.float32) * s.side, far * s.side)
    s.picture = cv2.warpPerspective(s.picture, matrix, (s.side, s.side), borderMode=cv2.BORDER_REPLICATE)


def whiteboard(s: Scene) -> None:
    """Write on a whiteboard with wiped traces and the reflection of lamps."""
    s.picture += 5 * grain(s, s.side / 10, s.side / 40)[..., None]
    old = cv2.GaussianBlur(np.ascontiguousarray(np.roll(s.ink[::-1], s.side // 4, 1)), (0, 0), s.side / 40)
    s.blend(old * s.random.uniform(0.3, 0.6), (150, 150, 165))
    s.write()
    for _ in range(2):
        y, x = np.mgrid[0 : s.side, 0 : s.side] / s.side - s.random.uniform(0.05, 0.95, (2, 1, 1))
        spot = np.exp(-(x * x / s.random.uniform(0.002, 0.02) + y * y / s.random.uniform(0.0005, 0.004)))
        s.blend((s.random.uniform(0.3, 0.6) * spot).astype(np.float32), (255, 255, 255))


def wiped(s: Scene) -> None:
    """Write with chalk on a board that was wiped with broad strokes."""
    for _ in range(3):
        r = s.random
        (x0, x1), y = r.uniform(-0.1, 1.1, 2), r.uniform(0, 1)
        stripe = s.shape(lambda m, y=y, x0=x0, x1=x1: cv2.line(
            m, (int(4 * s.side * x0), int(4 * s.side * y)), (int(4 * s.side * x1), int(4 * s.side * (y + 0.1))),
            255, int(0.5 * s.side)))  # fmt: skip
        soft = cv2.GaussianBlur(stripe, (0, 0), s.side / 50) * np.clip(0.6 + 0.3 * grain(s, 6, 1), 0, 1)
        s.blend((soft * r.uniform(0.1, 0.25)).astype(np.float32), (215, 220, 215))
    board(s)


def thermal(s: Scene) -> None:
    """Print with a worn head, which leaves out lines, between other text."""
    worn = np.clip(1.2 - 0.5 * np.abs(s.random.normal(0, 1, (1, s.side))), 0.25, 1).repeat(s.side, 0)
    s.ink = (s.ink * cv2.GaussianBlur(worn.astype(np.float32), (0, 0), 0.8)).astype(np.float32)
    _, top, _, bottom = np.array(s.box) / s.side
    for start, end in ((0.02, top - 0.05), (bottom + 0.08, 1)):
        print_text(s, start, end, 0.4, rgb(s.random, 90, 120))
    s.write()


def segments(s: Scene) -> None:
    """Show a display of seven segments: dark ones on grey, or light ones on black."""
    r, high = s.random, s.side * s.random.uniform(0.18, 0.28)
    lit, gap, thick = bool(r.random() < 0.5), r.uniform(0.08, 0.13), high * r.uniform(0.12, 0.2)
    x, y = s.side * 0.5 - high / 2 + r.uniform(-0.1, 0.1, 2) * s.side - (0, high / 2)
    masks = []
    for chosen in (SEGMENTS[s.label], "abcdefg"):
        layer = np.zeros((4 * s.side, 4 * s.side), np.uint8)
        for x0, y0, x1, y1 in (ENDS[name] for name in chosen):
            along = gap * np.array([np.sign(x1 - x0), np.sign(y1 - y0)])
            a = 4 * (np.array([x, y]) + high * (np.array([x0, y0]) + along))
            b = 4 * (np.array([x, y]) + high * (np.array([x1, y1]) - along))
            cv2.line(layer, a.astype(int).tolist(), b.astype(int).tolist(), (255,), int(4 * thick))
        masks.append(s.shape(lambda m, layer=layer: np.copyto(m, layer)))
    s.picture[:] = (12, 10, 12) if lit else rgb(r, 150, 190)
    colour = ((255, 40, 30), (60, 255, 90), (90, 200, 255))[r.integers(3)] if lit else (30, 35, 30)
    s.blend(0.06 * masks[1], colour)
    if lit:
        s.blend(0.5 * cv2.GaussianBlur(masks[0], (0, 0), thick / 2), colour)
    s.blend(masks[0], colour)


def equal(s: Scene) -> None:
    """Write in a colour as bright as the paper's."""
    colours = [(215, 60, 70), (0, 140, 70), (40, 110, 240), (150, 95, 30), (190, 50, 190)]
    one, other = s.random.choice(len(colours), 2, replace=False)
    weights = np.array([0.299, 0.587, 0.114])
    s.paper = np.array(colours[one], np.float32)
    s.colour = np.array(colours[other], np.float32)
    s.colour = np.clip(s.colour + float(weights @ (s.paper - s.colour)), 0, 255).astype(np.float32)
    s.picture[:] = s.paper
    s.write()


def window(s: Scene) -> None:
    """Let the bars of a window cast shadows."""
    s.write()
    turn, width, soft = s.random.uniform(-0.3, 0.3), s.random.uniform(0.02, 0.06), s.random.uniform(0.002, 0.012)
    mask = np.zeros((s.side, s.side), np.float32)
    for at in (s.random.uniform(-0.1, 0.3), s.random.uniform(0.4, 0.6), s.random.uniform(0.7, 1.1)):
        for a, b in (((at, -0.5), (at + turn, 1.5)), ((-0.5, at + turn), (1.5, at))):
            ends = [[round(4 * s.side * v) for v in p] for p in (a, b)]
            bars = s.shape(lambda m, e=ends: cv2.line(m, *e, 255, round(4 * s.side * width)))
            mask = np.maximum(mask, bars)
    s.picture *= 1 - s.random.uniform(0.2, 0.45) * cv2.GaussianBlur(mask, (0, 0), soft * s.side)[..., None]


def folded(s: Scene) -> None:
    """Fold the sheet twice, with worn lines."""
    s.write()
    for axis in (0, 1):
        at, low = s.random.uniform(0.2, 0.8), s.random.uniform(0.02, 0.12)
        far = np.clip((np.arange(s.side) / s.side - at) * s.side, 0, 1)
        face = far[:, None] if axis else far[None]
        s.picture *= 1 - low * np.broadcast_to(face, (s.side, s.side))[..., None].astype(np.float32)
        start, end = (-0.1, at), (1.1, at + s.random.normal(0, 0.01))
        colour = s.paper * s.random.uniform(0.6, 0.9)
        s.line(start[:: 2 * axis - 1], end[:: 2 * axis - 1], s.random.uniform(0.002, 0.005), colour)


def stamped(s: Scene) -> None:
    """Stamp a pale ring with words on the sheet."""
    r, colour = s.random, ((120, 130, 215), (215, 125, 130))[s.random.integers(2)]
    middle, radius = [int(4 * s.side * v) for v in r.uniform(0.2, 0.8, 2)], r.uniform(0.15, 0.28)
    for share in (1, 0.8):
        ring = s.shape(lambda m, k=share: cv2.circle(m, middle, int(4 * s.side * radius * k), 255, s.side // 25))
        s.blend(ring * np.clip(0.6 + 0.25 * grain(s, 2), 0, 1), colour)
    layer = np.zeros((4 * s.side, 4 * s.side), np.uint8)
    at = middle[0] - int(2.2 * s.side * radius), middle[1] + s.side // 30
    cv2.putText(layer, "RECEIVED", at, cv2.FONT_HERSHEY_DUPLEX, s.side * radius / 40, (255,), s.side // 90)
    s.blend(s.shape(lambda m: np.copyto(m, layer)) * 0.7, colour)
    s.write()


def spilt(s: Scene) -> None:
    """Spill coffee, which dries with a dark rim."""
    around = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = s.random.uniform(0.12, 0.3) * (1 + 0.15 * np.sin(3 * around + 1) + 0.08 * np.sin(7 * around))
    points = s.random.uniform(0.2, 0.8, 2) + radius[:, None] * np.stack([np.cos(around), np.sin(around)], 1)
    drop = s.shape(lambda m: cv2.fillPoly(m, [(4 * s.side * points).astype(np.int32)], 255))
    rim = np.clip(drop - cv2.erode(drop, np.ones((max(3, s.side // 90),) * 2)), 0, 1)
    s.blend(0.3 * drop + 0.25 * cv2.GaussianBlur(rim, (0, 0), 1), (140, 95, 50))
    s.write()


def screenshot(s: Scene) -> None:
    """Draw in a program with a title, tools and a white or dark field."""
    r, dark = s.random, bool(s.random.random() < 0.4)
    field, frame, ink = ((30, 30, 34), (60, 60, 66), (240, 240, 240)) if dark else ((255,) * 3, (225,) * 3, (20,) * 3)
    out, top, left = int(1.35 * s.side), int(s.side * r.uniform(0.1, 0.2)), int(s.side * r.uniform(0.05, 0.2))
    window_ = np.empty((out, out, 3), np.uint8)
    window_[:] = frame
    window_[: top // 2] = (50, 90, 160)
    for n in range(5):
        cv2.putText(window_, str(r.choice(["File", "Edit", "View", "Help"])), (12 + n * out // 6, top // 3),
                    cv2.FONT_HERSHEY_SIMPLEX, 0.4, (245, 245, 245), 1, cv2.LINE_AA)  # fmt: skip
        at = (left // 5, top + 8 + n * out // 10)
        cv2.rectangle(window_, at, (at[0] + left // 2, at[1] + left // 2), (150, 150, 150), 1)
    s.picture[:] = field
    s.blend(s.ink, ink)
    place = window_[top : top + s.side, left : left + s.side]
    place[:] = s.picture[: place.shape[0], : place.shape[1]].astype(np.uint8)
    cv2.rectangle(window_, (left, top), (left + s.side, top + s.side), (130, 130, 130), 1)
    s.picture, s.side = window_.astype(np.float32), out


def outlined(s: Scene) -> None:
    """Draw the outline of a broad digit, empty or hatched."""
    edge = max(2, int(0.012 * s.side))
    inner = cv2.erode(s.ink, np.ones((edge, edge)))
    if s.random.random() < 0.5:
        y, x = np.mgrid[0 : s.side, 0 : s.side]
        inner *= ((x + y) % (5 * edge) > edge).astype(np.float32)
    s.ink = np.clip(s.ink - inner, 0, 1)
    s.write()


def dashed(s: Scene) -> None:
    """Draw dashed strokes, as to trace them."""
    y, x = np.mgrid[0 : s.side, 0 : s.side]
    period = 2.5 * s.pen * s.side
    wave = np.maximum(np.sin(2 * np.pi * x / period), np.sin(2 * np.pi * y / period))
    s.ink *= (wave > -0.3).astype(np.float32)
    s.write()


def beaded(s: Scene) -> None:
    """Show the digit as a raster of dots, as a matrix display or printer."""
    gap = max(4, int(0.028 * s.side))
    small = cv2.resize(s.ink, (s.side // gap,) * 2, interpolation=cv2.INTER_AREA) > 0.35
    layer = np.zeros((4 * s.side, 4 * s.side), np.uint8)
    for y, x in np.argwhere(small):
        cv2.circle(layer, (int(4 * gap * (x + 0.5)), int(4 * gap * (y + 0.5))), int(1.7 * gap), (255,), -1)
    s.ink = s.shape(lambda m: np.copyto(m, layer))
    s.write()


def minus(s: Scene) -> None:
    """Write a minus sign before the digit."""
    x0, y0, _, y1 = np.array(s.box) / s.side
    gap, middle = s.random.uniform(0.04, 0.1), (y0 + y1) / 2 + s.random.uniform(-0.03, 0.03)
    s.line((x0 - gap - s.random.uniform(0.08, 0.14), middle), (x0 - gap, middle), 0.8 * s.pen, s.colour)
    s.write()


def point(s: Scene) -> None:
    """Write a point after the digit."""
    x1, y1 = np.array(s.box)[2:] / s.side
    at = x1 + s.random.uniform(0.02, 0.05)
    s.line((at, y1), (at, y1), 1.3 * s.pen, s.colour)
    s.write()


def border(s: Scene) -> None:
    """Crop the picture so that the digit touches one or two of its sides."""
    s.write()
    x0, y0, x1, y1 = s.box
    sides = s.random.permutation(4)[: s.random.integers(1, 3)]
    x0, y0, x1, y1 = (
        edge if n in sides else far for n, (edge, far) in enumerate(((x0, 0), (y0, 0), (x1, s.side), (y1, s.side)))
    )
    s.picture = np.ascontiguousarray(s.picture[y0:y1, x0:x1])


def framed(s: Scene) -> None:
    """Draw a box around the digit with the same pen."""
    x0, y0, x1, y1 = np.array(s.box) / s.side
    x0, y0, x1, y1 = np.array([x0, y0, x1, y1]) + s.random.uniform(0.04, 0.1, 4) * (-1, -1, 1, 1)
    corners = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]) + s.random.normal(0, 0.012, (4, 2))
    for a, b in zip(corners, np.roll(corners, -1, 0), strict=True):
        s.line(a, b + s.random.normal(0, 0.008, 2), s.pen, s.colour)
    s.write()


def pavement(s: Scene) -> None:
    """Write with chalk on rough stone."""
    rough = grain(s, 1.5)
    s.picture += (14 * rough + 10 * grain(s, 8))[..., None]
    s.blend(s.ink * np.clip(0.75 + 0.35 * rough, 0, 1).astype(np.float32), s.colour)


def fax(s: Scene) -> None:
    """Scan in black and white, with a dark edge and grains."""
    s.write()
    s.picture += s.random.normal(0, 30, (s.side, s.side, 1))
    s.picture = np.repeat(255.0 * (s.picture.mean(2, keepdims=True) > 140), 3, 2).astype(np.float32)
    s.picture[s.random.random((s.side, s.side)) < 0.002] = 0


def inverted(s: Scene) -> None:
    """Invert a scan with a dark edge."""
    s.write()
    s.picture[:, : int(s.random.uniform(0.01, 0.06) * s.side)] = 20
    s.picture = 255 - s.picture


KINDS: dict[str, tuple[Callable[[Scene], None], dict[str, Any]]] = {
    "squared at an angle": (angled_grid, {}),
    "whiteboard": (whiteboard, {"paper": (225, 228, 230), "pen": 0.025}),
    "wiped board": (wiped, {"colour": (225, 225, 215), "paper": (45, 62, 55), "pen": 0.03}),
    "thermal print": (thermal, {"fill": 0.4, "pen": 0.035, "colour": (60, 60, 70)}),
    "seven segments": (segments, {}),
    "ink as bright as paper": (equal, {}),
    "window": (window, {}),
    "folded": (folded, {}),
    "stamped": (stamped, {"colour": BLACK}),
    "spilt coffee": (spilt, {}),
    "screenshot": (screenshot, {"pen": 0.025}),
    "outline": (outlined, {"pen": 0.1, "fill": 0.55, "side": 500}),
    "dashed": (dashed, {"pen": 0.03}),
    "raster of dots": (beaded, {"pen": 0.05, "fill": 0.6}),
    "minus sign": (minus, {"fill": 0.4}),
    "point": (point, {"fill": 0.4}),
    "at the border": (border, {}),
    "hand-drawn box": (framed, {"fill": 0.42}),
    "pavement": (pavement, {"paper": (120, 118, 112), "colour": (235, 235, 225), "pen": 0.045}),
    "fax": (fax, {}),
    "inverted scan": (inverted, {}),
    "tiny in a large photo": (plain, {"side": 1400, "fill": 0.04, "pen": 0.004}),
    "picture of 60 pixels": (plain, {"side": 60, "fill": 0.6, "pen": 0.05}),
    "JPEG of quality 5": (plain, {}),
}

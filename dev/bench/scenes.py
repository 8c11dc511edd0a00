"""Pictures of a digit on paper, with what else people have in such pictures: light, rules, boxes, edges, marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from strokes import Stroke, painted

Picture = NDArray[np.float32]  # (height, width, 3) in 0..255
INKS = ((40, 60, 130), (45, 45, 48), (20, 20, 25), (150, 35, 40), (25, 80, 60), (90, 60, 130))


class Scene:
    """One sheet while it is made: its paper and ink, with random properties."""

    def __init__(self, strokes: list[Stroke], random: np.random.Generator, **given: Any) -> None:
        self.random, self.label = random, int(given.get("label", 0))
        self.side = int(given.get("side", random.integers(320, 620)))
        self.pen = float(given.get("pen", random.uniform(0.012, 0.035)))
        fill = float(given.get("fill", random.uniform(0.32, 0.6)))
        drawn = painted(strokes, pen=self.pen, fill=fill, turn=float(random.normal(0, 0.05)), side=self.side)
        room = 0.42 * (1 - fill) * self.side
        shift = np.array([[1, 0, random.uniform(-room, room)], [0, 1, random.uniform(-room, room)]], np.float32)
        self.ink = cv2.warpAffine(drawn, shift, (self.side, self.side)).astype(np.float32) / 255
        self.colour = np.array(given.get("colour", INKS[random.integers(len(INKS))]), np.float32)
        self.paper = np.array(given.get("paper", random.uniform(222, 250) + random.normal(0, 4, 3)), np.float32)
        self.picture = np.ones((self.side, self.side, 3), np.float32) * self.paper

    @property
    def box(self) -> tuple[int, int, int, int]:
        """The left, top, right and bottom of the digit."""
        x, y, width, height = cv2.boundingRect((self.ink > 0.3).astype(np.uint8))
        return x, y, x + width, y + height

    def blend(self, alpha: NDArray[np.float32], colour: Any) -> None:
        """Blend a colour into the picture; `alpha`, (side, side) in 0..1, is its share of each pixel."""
        self.picture += (np.asarray(colour, np.float32) - self.picture) * alpha[..., None]

    def shape(self, draw: Callable[[Any], None]) -> NDArray[np.float32]:
        """Return a mask drawn at four times the size."""
        mask = np.zeros((4 * self.side, 4 * self.side), np.uint8)
        draw(mask)
        return cv2.resize(mask, (self.side, self.side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255

    def line(self, start: Any, end: Any, width: float, colour: Any) -> None:
        """Draw a straight line between two points in 0..1; `width` in 0..1."""
        a, b = ([round(4 * self.side * v) for v in p] for p in (start, end))
        self.blend(
            self.shape(lambda m: cv2.line(m, a, b, 255, max(2, round(4 * self.side * width)), cv2.LINE_AA)), colour
        )

    def write(self) -> None:
        """Write the digit."""
        self.blend(self.ink, self.colour)

    def camera(self, *, noise: float = 3, blur: float = 0.6) -> Picture:
        """Return the picture as a camera sees it."""
        seen = cv2.GaussianBlur(self.picture, (0, 0), max(0.3, self.random.uniform(0.5, 1.3) * blur))
        return np.clip(seen + self.random.normal(0, self.random.uniform(0.4, 1.2) * noise, seen.shape), 0, 255)


def rgb(random: np.random.Generator, low: float, high: float) -> NDArray[np.float64]:
    """Return a grey with a slight colour."""
    return random.uniform(low, high) + random.normal(0, 8, 3)


def plain(s: Scene) -> None:
    """Write on plain paper."""
    s.write()


def ruled(
    s: Scene, directions: tuple[int, ...] = (0,), tilt: float = 0.0, strength: tuple[float, float] = (90, 190)
) -> None:
    """Write on ruled or squared paper."""
    r = s.random
    gap, width = r.uniform(0.09, 0.22), r.uniform(0.003, 0.008)
    colour = rgb(r, *strength) + np.array([-15, 0, 30])
    for direction in directions:
        for at in np.arange(r.uniform(-0.5, -0.3), 1.5, gap):
            start, end = [-0.5, at - tilt], [1.5, at + tilt]
            s.line(start[:: 1 - 2 * direction], end[:: 1 - 2 * direction], width, colour)
    s.write()


def margin(s: Scene) -> None:
    """Write on ruled paper with a red margin."""
    at = s.random.uniform(0.04, 0.12)
    s.line((at, -0.1), (at + s.random.normal(0, 0.01), 1.1), s.random.uniform(0.004, 0.009), (200, 60, 70))
    ruled(s)


def form_box(s: Scene, *, tight: bool = False) -> None:
    """Write in the box of a form."""
    x0, y0, x1, y1 = np.array(s.box) / s.side
    pad = s.random.uniform(0.02, 0.035, 4) if tight else s.random.uniform(0.05, 0.16, 4)
    box = np.clip([x0 - pad[0], y0 - pad[1], x1 + pad[2], y1 + pad[3]], 0.02, 0.98)
    width, colour, turn = s.random.uniform(0.004, 0.012), rgb(s.random, 20, 120), s.random.normal(0, 0.006)
    corners = [(box[0] + turn, box[1]), (box[2], box[1] + turn), (box[2] - turn, box[3]), (box[0], box[3] - turn)]
    for a, b in zip(corners, corners[1:] + corners[:1], strict=True):
        s.line(a, b, width, colour)
    s.write()


def comb(s: Scene) -> None:
    """Write in a row of a form's boxes of which the neighbours are cut off."""
    x0, y0, x1, y1 = np.array(s.box) / s.side
    pad, width, colour = s.random.uniform(0.04, 0.07), s.random.uniform(0.004, 0.01), rgb(s.random, 20, 110)
    for y in (y0 - pad, y1 + pad):
        s.line((-0.1, y), (1.1, y), width, colour)
    for x in (x0 - pad, x1 + pad):
        s.line((x, y0 - pad), (x, y1 + pad), width, colour)
    s.write()


def cell(s: Scene, sides: str) -> None:
    """Write in a table's cell of which some edges are in the picture."""
    r, width = s.random, s.random.uniform(0.006, 0.016)
    for edge in sides:
        at = r.uniform(0.0, 0.035)
        at, tilt = (1 - at if edge in "rb" else at), r.normal(0, 0.004)
        a, b = ((at, -0.1), (at + tilt, 1.1)) if edge in "lr" else ((-0.1, at), (1.1, at + tilt))
        s.line(a, b, width, rgb(r, 15, 90))
    s.write()


def bar(s: Scene) -> None:
    """Scan with a dark bar along an edge."""
    s.write()
    side, width = s.random.integers(4), s.random.uniform(0.01, 0.09)
    mask = np.zeros((s.side, s.side), np.float32)
    mask[:, : max(2, round(width * s.side))] = 1
    s.blend(np.rot90(mask, side).copy(), rgb(s.random, 5, 40))


def half_plane(s: Scene, reach: tuple[float, float], soft: float) -> NDArray[np.float32]:
    """Return a mask of everything beyond a line at a random angle."""
    angle = s.random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0 : s.side, 0 : s.side] / s.side - 0.5
    far = x * np.cos(angle) + y * np.sin(angle)
    return np.clip((far - s.random.uniform(*reach)) * s.side / max(soft * s.side, 1) + 0.5, 0, 1).astype(np.float32)


def table(s: Scene) -> None:
    """Photograph the sheet's edge and the dark table."""
    s.write()
    for _ in range(60):
        mask = half_plane(s, (0.25, 0.55), 0.004)
        if 0.01 < mask.mean() < 0.3 and not (mask * cv2.dilate(s.ink, np.ones((15, 15)))).any():
            s.blend(mask, rgb(s.random, 25, 110) + np.array([30, 0, -30]))
            return


def desk(s: Scene) -> None:
    """Photograph a sheet on a darker desk."""
    s.write()
    wide, turn = s.random.uniform(1.15, 1.7), s.random.uniform(-12, 12)
    out = int(s.side * wide)
    room = (out - s.side) / 2
    matrix = cv2.getRotationMatrix2D((s.side / 2, s.side / 2), turn, 1)
    matrix[:, 2] += room + s.random.uniform(-0.6, 0.6, 2) * room
    grain = cv2.GaussianBlur(s.random.normal(0, 1, (out, out)).astype(np.float32), (0, 0), 12, sigmaY=1.5)
    ground = np.ones((out, out, 3)) * (rgb(s.random, 30, 110) + np.array([35, 0, -30])) + (grain * 60)[..., None]
    alpha = cv2.warpAffine(np.ones((s.side, s.side), np.float32), matrix, (out, out))[..., None]
    sheet = cv2.warpAffine(s.picture, matrix, (out, out), borderMode=cv2.BORDER_REPLICATE)
    s.picture, s.side = (ground * (1 - alpha) + sheet * alpha).astype(np.float32), out


def plot(s: Scene, image: NDArray[np.uint8]) -> None:
    """Save a plot of MNIST's picture with white margins."""
    r = s.random
    high = int(r.integers(300, 500))
    wide, inner = int(high * r.uniform(1, 1.4)), int(high * r.uniform(0.3, 0.8))
    canvas = np.full((high, wide, 3), 255, np.uint8)
    shown = cv2.resize(image, (inner, inner), interpolation=int(r.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR])))
    colours = r.choice([cv2.COLORMAP_BONE, cv2.COLORMAP_VIRIDIS, cv2.COLORMAP_INFERNO, -1, -2])
    if colours >= 0:
        shown = cv2.applyColorMap(shown, int(colours))
    else:
        shown = np.repeat((shown if colours == -1 else 255 - shown)[..., None], 3, 2)
    y, x = int((high - inner) * r.uniform(0.4, 0.6)), int((wide - inner) * r.uniform(0.4, 0.6))
    canvas[y : y + inner, x : x + inner] = shown
    if r.random() < 0.4 or colours == -2:
        cv2.rectangle(canvas, (x, y), (x + inner, y + inner), (0, 0, 0), 1)
        for tick in range(0, 28, 5):
            at = int((tick + 0.5) * inner / 28)
            cv2.putText(canvas, str(tick), (x + at - 5, y + inner + 14), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (0, 0, 0), 1)
            cv2.putText(canvas, str(tick), (x - 18, y + at + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.32, (0, 0, 0), 1)
    s.picture = canvas.astype(np.float32)


def neighbour(s: Scene) -> None:
    """Cut off the strokes of a neighbour at the border."""
    s.write()
    for _ in range(s.random.integers(1, 3)):
        right, y = s.random.random() < 0.7, s.random.uniform(0.2, 0.7)
        a, b = s.random.uniform(0.0, 0.035), s.random.uniform(-0.02, 0.01)
        x = (1 - a, 1 - b) if right else (a, b)
        s.line((x[0], y), (x[1], y + s.random.uniform(0.1, 0.3)), s.pen, s.colour)


def holes(s: Scene) -> None:
    """Punch holes."""
    s.write()
    left, radius, colour = s.random.random() < 0.6, s.random.uniform(0.02, 0.05), rgb(s.random, 20, 120)
    near = cv2.dilate(s.ink, np.ones((int(2.6 * radius * s.side),) * 2))
    for y in (0.25, 0.75) if s.random.random() < 0.5 else (0.5,):
        for _ in range(40):
            x = s.random.uniform(radius + 0.01, 0.1)
            at = (int(4 * s.side * (x if left else 1 - x)), int(4 * s.side * (y + s.random.uniform(-0.15, 0.15))))
            if not near[min(at[1] // 4, s.side - 1), at[0] // 4]:
                s.blend(s.shape(lambda m, at=at: cv2.circle(m, at, int(4 * s.side * radius), 255, -1)), colour)
                break


def specks(s: Scene) -> None:
    """Sprinkle specks."""
    s.write()
    for _ in range(s.random.integers(4, 18)):
        at, radius = s.random.uniform(0.03, 0.97, 2), s.random.uniform(0.15, 0.6) * s.pen
        point = [int(v * 4 * s.side) for v in at]
        r = max(3, int(4 * s.side * radius))
        s.blend(s.shape(lambda m, p=point, r=r: cv2.circle(m, p, r, 255, -1)), rgb(s.random, 10, 90))


def underline(s: Scene, *, touching: bool = False) -> None:
    """Underline the digit."""
    s.write()
    x0, _, x1, y1 = np.array(s.box) / s.side
    r, gap = s.random, (s.random.uniform(-0.3, 0.4) * s.pen if touching else s.random.uniform(0.025, 0.09))
    over = r.uniform(-0.02, 0.14, 2)
    middle = (x0 + x1) / 2
    x0, x1 = min(x0 - over[0], middle - 0.1), max(x1 + over[1], middle + 0.1)
    tilt = r.normal(0, 0.012)
    for k in range(2 if r.random() < 0.2 and not touching else 1):
        y = y1 + gap + 1.6 * s.pen * k
        s.line((x0, y + tilt), (x1, y - tilt), s.pen * r.uniform(0.6, 1.1), s.colour)


def shadow(s: Scene, soft: float, depth: tuple[float, float] = (0.4, 0.7)) -> None:
    """Cast a shadow."""
    s.write()
    s.picture *= 1 - (1 - s.random.uniform(*depth)) * half_plane(s, (-0.25, 0.25), soft)[..., None]


def falloff(s: Scene) -> None:
    """Let the light fall off to one side."""
    s.write()
    s.picture *= 1 - s.random.uniform(0.35, 0.65) * half_plane(s, (-0.1, 0.1), 1.3)[..., None]


def vignette(s: Scene) -> None:
    """Let the light fall off from the middle."""
    s.write()
    y, x = np.mgrid[0 : s.side, 0 : s.side] / s.side - s.random.uniform(0.35, 0.65, (2, 1, 1))
    s.picture *= np.clip(1 - s.random.uniform(0.6, 1.3) * (x * x + y * y), 0.1, 1)[..., None].astype(np.float32)


def board(s: Scene) -> None:
    """Write with chalk on a board with smears."""
    smear = cv2.GaussianBlur(s.random.normal(0, 1, (s.side, s.side)).astype(np.float32), (0, 0), s.side / 12)
    s.picture += (smear * s.side / 12 * 12)[..., None]
    grain = np.clip(s.random.normal(0.85, 0.25, s.ink.shape), 0, 1).astype(np.float32)
    s.blend(s.ink * cv2.GaussianBlur(grain, (0, 0), 1), s.colour)


def crease(s: Scene) -> None:
    """Fold the sheet: two faces of different brightness with a thin crease."""
    s.write()
    face = half_plane(s, (-0.25, 0.25), 0.002)
    s.picture *= 1 - s.random.uniform(0.05, 0.18) * face[..., None]
    edge = cv2.GaussianBlur(np.abs(cv2.Laplacian(face, cv2.CV_32F)), (0, 0), 1.0)
    s.picture *= 1 - 0.15 * np.clip(edge, 0, 1)[..., None]


def through(s: Scene) -> None:
    """Let the back's writing show through."""
    back = cv2.GaussianBlur(np.ascontiguousarray(np.roll(s.ink[:, ::-1], s.side // 5, 0)), (0, 0), 1.5)
    s.blend(back * s.random.uniform(0.06, 0.16), s.colour)
    s.write()


def stain(s: Scene) -> None:
    """Put a cup on the sheet."""
    middle, radius = (
        [int(v * 4 * s.side) for v in s.random.uniform(0.2, 0.8, 2)],
        int(s.random.uniform(0.8, 1.4) * s.side),
    )
    ring = s.shape(lambda m: cv2.circle(m, middle, radius, 255, int(0.12 * s.side)))
    s.blend(cv2.GaussianBlur(ring, (0, 0), 3) * s.random.uniform(0.1, 0.25), (150, 100, 50))
    s.write()

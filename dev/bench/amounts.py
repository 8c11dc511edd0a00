"""Are numbers read as people write them? Dates, prices, telephone numbers, postal codes, displays, with other signs.

    python dev/bench/amounts.py model.onnx ../shared/mnist --count 30

Each kind has a layout, which places the strokes of MNIST's test digits and of signs, and a way to draw the picture. The
right answer is the row of digits without the signs. Prints, per kind, the shares of numbers that are right, sure, and
sure and wrong, and some of the last.
"""

from __future__ import annotations

import argparse
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import scenes
from counter import SIGNS as DRAWN
from counter import arc
from everyday import ENDS, SEGMENTS, framed
from pens import Model
from PIL import Image
from scenes import Scene
from strokes import Stroke, mnist, painted, strokes_of
from surfaces import circled

from digits.data.preprocessing import to_mnist
from digits.data.reader import read_images
from digits.tasks.task import BUILT_IN, find

Random = np.random.Generator
Layout = Callable[[list[list[Stroke]], Random], list[Stroke]]


SIGNS: dict[str, list[Stroke]] = DRAWN | {
    ".": [[(0.0, 0.47), (0.01, 0.48)]],
    ",": [[(0.03, 0.44), (0.0, 0.6)]],
    ":": [[(0.0, -0.15), (0.01, -0.14)], [(0.0, 0.35), (0.01, 0.36)]],
    "-": [[(0.0, 0.02), (0.35, 0.0)]],
    "/": [[(0.4, -0.6), (0.0, 0.6)]],
    "=": [[(0.0, -0.1), (0.4, -0.1)], [(0.0, 0.12), (0.4, 0.12)]],
    "(": [arc(0.3, 0, 0.3, 0.65, 0.35, 0.65)],
    ")": [arc(-0.05, 0, 0.3, 0.65, -0.15, 0.15)],
}  # fmt: skip


def place(
    parts: list[tuple[Any, float, float]], random: Random, gaps: tuple[float, float] = (0.15, 0.4)
) -> list[Stroke]:
    """Return strokes side by side. A part is a digit's strokes or a sign's name, its height, and how far down."""
    placed, edge = list[Stroke](), 0.0
    for strokes, high, down in parts:
        if strokes == " ":
            edge += float(random.uniform(0.5, 1.0))
            continue
        sign = isinstance(strokes, str)
        points = np.array([point for stroke in (SIGNS[strokes] if sign else strokes) for point in stroke])
        low, top = points.min(0), points.max(0)
        scale = high * (1 if sign else random.uniform(0.9, 1.1) / max(float(top[1] - low[1]), 0.5))
        up = down + random.uniform(-0.05, 0.05) - (0 if sign else scale * float(low[1] + top[1]) / 2)
        jitter = np.random.default_rng(random.integers(1 << 30)).normal(0, 0.012 if sign else 0, (200, 2))
        for stroke in SIGNS[strokes] if sign else strokes:
            bent = [(x + jitter[n][0], y + jitter[n][1]) for n, (x, y) in enumerate(stroke[:200])]
            placed.append([((x - low[0]) * scale + edge, y * scale + up) for x, y in bent])
        edge += float(top[0] - low[0]) * scale + float(random.uniform(*gaps))
    return placed


def pattern(text: str, **given: Any) -> Layout:
    """Return a layout for a text in which 0 stands for a digit, s for a small raised one, and a space for a gap."""

    def layout(digits: list[list[Stroke]], random: Random) -> list[Stroke]:
        waiting, parts = iter(digits), list[tuple[Any, float, float]]()
        for each in text:
            if each in "0s":
                parts.append((next(waiting), *((1.0, 0.0) if each == "0" else (0.55, -0.22))))
            else:
                parts.append((each, 1.0, 0.0))
        return place(parts, random, **given)

    return layout


def sloped(digits: list[list[Stroke]], random: Random) -> list[Stroke]:
    """Write uphill or downhill, by 7 to 17 degrees."""
    turn = float(random.choice([-1, 1]) * random.uniform(0.12, 0.3))
    row = pattern("0" * len(digits))(digits, random)
    return [[(x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)) for x, y in s] for s in row]


def uneven(digits: list[list[Stroke]], random: Random) -> list[Stroke]:
    """Write digits of which the highest is up to twice as high as the lowest."""
    return place([(each, float(random.uniform(0.6, 1.2)), float(random.uniform(-0.1, 0.1))) for each in digits], random)


def lines(digits: list[list[Stroke]], random: Random) -> list[Stroke]:
    """Write two lines."""
    half = len(digits) // 2
    upper, lower = (pattern("0" * len(part))(part, random) for part in (digits[:half], digits[half:]))
    down = float(random.uniform(1.25, 1.7))
    return upper + [[(x, y + down) for x, y in stroke] for stroke in lower]


def crossed(digits: list[list[Stroke]], random: Random) -> list[Stroke]:
    """Strike the number through."""
    row = pattern("0" * len(digits))(digits, random)
    end = max(x for stroke in row for x, _ in stroke)
    return [*row, [(-0.15, float(random.uniform(-0.15, 0.15))), (end + 0.15, float(random.uniform(-0.15, 0.15)))]]


def barred(digits: list[list[Stroke]], random: Random) -> list[Stroke]:
    """Write every second digit as a 7 with a bar."""
    seven = [[(0.02, -0.48), (0.5, -0.5), (0.22, 0.5)], [(0.1, 0.02), (0.52, -0.02)]]
    return place([(each, 1.0, 0.0) for each in (digits[0], seven, digits[1], seven)], random)


def boxes(s: Scene) -> None:
    """Write in the boxes of a form, one for each digit; the digits were placed with even gaps."""
    s.write()
    x0, y0, x1, y1 = np.array(s.box) / s.side
    pad, width, colour = s.random.uniform(0.03, 0.05), s.random.uniform(0.004, 0.008), scenes.rgb(s.random, 40, 130)
    columns = np.flatnonzero((s.ink > 0.3).any(axis=0)) / s.side
    ends = np.flatnonzero(np.diff(columns) > 1.5 / s.side)
    middles = [(columns[n] + columns[n + 1]) / 2 for n in ends]
    for y in (y0 - pad, y1 + pad):
        s.line((x0 - pad, y), (x1 + pad, y), width, colour)
    for x in (x0 - pad, *middles, x1 + pad):
        s.line((x, y0 - pad), (x, y1 + pad), width, colour)


def form_lines(s: Scene) -> None:
    """Write on the line of a form, after a word."""
    s.write()
    x0, _, _, y1 = np.array(s.box) / s.side
    s.line((0.03, y1 + 0.025), (0.97, y1 + 0.025), s.random.uniform(0.003, 0.006), scenes.rgb(s.random, 30, 120))
    layer = np.zeros((s.side, s.side), np.uint8)
    word = str(s.random.choice(["Date", "Total", "Phone", "ZIP", "No."]))
    at = max(2, round((x0 - 0.17) * s.side)), round((y1 - 0.01) * s.side)
    cv2.putText(layer, word, at, cv2.FONT_HERSHEY_SIMPLEX, s.side / 1100, (255,), 1 + s.side // 500, cv2.LINE_AA)
    s.blend(layer.astype(np.float32) / 255, scenes.rgb(s.random, 20, 80))


def display(s: Scene, labels: str, colon: bool) -> None:
    """Show a display with four digits, and perhaps a clock's colon."""
    r, high = s.random, s.side * s.random.uniform(0.1, 0.14)  # six times as wide
    lit, gap, thick = bool(r.random() < 0.5), r.uniform(0.06, 0.1), high * r.uniform(0.14, 0.2)
    x, y, layer = (
        s.side * 0.5 - high * 3.1,
        s.side * r.uniform(0.25, 0.45),
        np.zeros((4 * s.side, 4 * s.side), np.uint8),
    )
    for n, label in enumerate(labels):
        start = x + high * (1.6 * n + (0.4 if colon and n > 1 else 0))
        for x0, y0, x1, y1 in (ENDS[name] for name in SEGMENTS[int(label)]):
            along = gap * np.array([np.sign(x1 - x0), np.sign(y1 - y0)])
            a = 4 * (np.array([start, y]) + high * (np.array([x0, y0]) + along))
            b = 4 * (np.array([start, y]) + high * (np.array([x1, y1]) - along))
            cv2.line(layer, a.astype(int).tolist(), b.astype(int).tolist(), (255,), int(4 * thick))
    if colon:
        for down in (0.5, 1.5):
            cv2.circle(layer, (int(4 * (x + 3.1 * high)), int(4 * (y + down * high))), int(2.4 * thick), (255,), -1)
    s.picture[:] = (12, 10, 12) if lit else scenes.rgb(r, 150, 190)
    s.blend(
        s.shape(lambda m: np.copyto(m, layer)), ((255, 60, 40), (60, 255, 90))[r.integers(2)] if lit else (30, 35, 30)
    )


class Kind(NamedTuple):
    """How many digits a kind has, where they are, and how the picture is drawn."""

    count: int
    layout: Layout
    draw: Callable[[Scene], None] = scenes.plain


KINDS: dict[str, Kind] = {
    "date with dots": Kind(6, pattern("00.00.00")),
    "date with slashes": Kind(6, pattern("00/00/00")),
    "date with dashes": Kind(6, pattern("00-00-00")),
    "price with comma": Kind(4, pattern("00,00")),
    "price with raised cents": Kind(4, pattern("00,ss")),
    "telephone number": Kind(8, pattern("000 00 000")),
    "postal code in boxes": Kind(5, pattern("00000", gaps=(0.3, 0.4)), boxes),
    "number in a circle": Kind(2, pattern("00"), circled),
    "slope": Kind(5, sloped),
    "line of a form": Kind(4, pattern("0000"), form_lines),
    "euro after": Kind(3, pattern("000 €")),
    "euro before": Kind(3, pattern("€000")),
    "dollar": Kind(3, pattern("$000")),
    "pound": Kind(3, pattern("£000")),
    "per cent": Kind(2, pattern("00%")),
    "number sign": Kind(3, pattern("#000")),
    "sevens with bars": Kind(2, barred),
    "different sizes": Kind(5, uneven),
    "two lines": Kind(6, lines),
    "display": Kind(4, pattern("0000")),
    "clock": Kind(4, pattern("0000")),
    "time": Kind(4, pattern("00:00")),
    "sum": Kind(3, pattern("0+0=0")),
    "minus": Kind(2, pattern("-00")),
    "brackets": Kind(3, pattern("(000)")),
    "struck through": Kind(4, crossed),
    "fraction": Kind(2, pattern("0/0")),
    "house number, far apart": Kind(2, pattern("0 0")),
    "squared": Kind(4, pattern("0000"), lambda s: scenes.ruled(s, (0, 1))),
    "ruled": Kind(4, pattern("0000"), lambda s: scenes.ruled(s, (0,))),
    "slope on ruled paper": Kind(4, sloped, lambda s: scenes.ruled(s, (0,))),
    "two lines on squared paper": Kind(6, lines, lambda s: scenes.ruled(s, (0, 1))),
    "shadow": Kind(4, pattern("0000"), lambda s: scenes.shadow(s, 0.003)),
    "frame": Kind(4, pattern("0000"), framed),
    "thousands point": Kind(4, pattern("0.000")),
    "euro and cents": Kind(4, pattern("00,00 €")),
    "telephone number with +": Kind(8, pattern("+00 000 000")),
}  # fmt: skip


def make(name: str, digits: list[list[Stroke]], labels: str, random: Random) -> tuple[io.BytesIO, str]:
    """Return a picture file of a kind, a photo, and its number. The kind's count of digits is given."""
    kind, file = KINDS[name], io.BytesIO()
    strokes = kind.layout(digits, random)
    if name == "sevens with bars":
        labels = f"{labels[0]}7{labels[1]}7"
    xs, ys = ([point[axis] for stroke in strokes for point in stroke] for axis in (0, 1))
    fill = float(random.uniform(0.45, 0.7))
    high = fill / max(max(xs) - min(xs), max(ys) - min(ys), 1)
    scene = Scene(
        strokes, random, side=int(random.integers(450, 800)), pen=random.uniform(0.04, 0.09) * high, fill=fill
    )
    if name in {"display", "clock"}:
        display(scene, labels, name == "clock")
    else:
        kind.draw(scene)
    Image.fromarray(scene.camera().astype(np.uint8)).save(file, "JPEG", quality=int(random.integers(60, 95)))
    return file, labels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--count", type=int, default=30, help="numbers of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--kind", nargs="*", default=list(KINDS))
    given = parser.parse_args()
    cv2.setNumThreads(1)
    model, manifest, task = Model(given.model), given.model.with_name("manifest.json"), find(BUILT_IN)
    threshold = json.loads(manifest.read_text())["calibration"]["threshold"] if manifest.exists() else None
    images, labels = mnist(given.mnist, "t10k")
    order = np.random.default_rng(given.first).permutation(len(images))[:600]
    traced = [(strokes, str(labels[i])) for i in order if (strokes := strokes_of(images[i]))]
    answers = model([to_mnist(painted(strokes, pen=0.05)) for strokes, _ in traced]).argmax(1)
    # Only digits that the model reads as drawn: the pictures are measured, not the model.
    drawn = [each for each, answer in zip(traced, answers, strict=True) if each[1] == str(answer)]
    means = []
    for name in given.kind:
        rows, wrong = [], list[str]()
        for seed in range(given.count):
            random = np.random.default_rng([zlib.crc32(name.encode()), given.first, seed])
            strokes, signs = zip(*(drawn[i] for i in random.integers(0, len(drawn), KINDS[name].count)), strict=True)
            file, label = make(name, list(strokes), "".join(signs), random)
            answer, sure = model.read(read_images(task, file), threshold)
            rows.append((answer == label, sure, sure and answer != label))
            wrong += [f"{label}>{answer}"] * rows[-1][2]
        means.append(np.mean(rows, 0))
        print(f"{name:26} " + " ".join(f"{share:6.1%}" for share in means[-1]), *wrong[:6], flush=True)
    print(f"{'mean':26} " + " ".join(f"{share:6.1%}" for share in np.mean(means, 0)))


if __name__ == "__main__":
    main()

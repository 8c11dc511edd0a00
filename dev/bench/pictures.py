"""Are pictures that people take read correctly? MNIST's test digits in pictures of many kinds, with fixed seeds.

    python dev/bench/pictures.py model.onnx ../shared/mnist --count 200
    python dev/bench/pictures.py model.onnx ../shared/mnist --count 10 --numbers

Prints, per kind, the share read correctly from the difference to the picture's border alone, the share read correctly
as the page reads it, the share called sure, and the share called sure that is wrong. The threshold is that of the
release's manifest, if the model's folder has one. With --sheets it draws what was read.

With --numbers the pictures show numbers of 2 to 8 digits, `--count` of each length and kind. Prints, per kind and per
length, the shares of whole numbers that are read correctly, called sure, and called sure and wrong.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import everyday
import numpy as np
import scenes
import surfaces
from numpy.typing import NDArray
from pens import Model
from PIL import Image
from scenes import Scene
from strokes import Stroke, mnist, painted, strokes_of

from digits.data.preprocessing import to_mnist
from digits.data.reader import read_images
from digits.data.reading import difference_to_border
from digits.tasks.task import BUILT_IN, find

KINDS: dict[str, tuple[Callable[[Scene], None], dict[str, Any]]] = {
    "plain paper": (scenes.plain, {}),
    "small digit": (scenes.plain, {"fill": 0.16, "pen": 0.009}),
    "thick pen": (scenes.plain, {"pen": 0.07, "fill": 0.6}),
    "thin pen": (scenes.plain, {"pen": 0.007}),
    "pencil": (scenes.plain, {"colour": (165, 165, 168)}),
    "light on dark": (scenes.plain, {"colour": (235, 235, 230), "paper": (45, 50, 60)}),
    "chalk on a board": (scenes.board, {"colour": (225, 225, 215), "paper": (40, 70, 55), "pen": 0.03}),
    "coloured paper": (scenes.plain, {"paper": (250, 225, 110)}),
    "dark bar of a scanner": (scenes.bar, {}),
    "table beyond the sheet": (scenes.table, {}),
    "sheet on a desk": (scenes.desk, {}),
    "all edges of a cell": (lambda s: scenes.cell(s, "lrtb"), {}),
    "two edges of a cell": (lambda s: scenes.cell(s, "lt" if s.random.random() < 0.5 else "rb"), {}),
    "box of a form": (scenes.form_box, {}),
    "tight box of a form": (lambda s: scenes.form_box(s, tight=True), {}),
    "comb of a form": (scenes.comb, {"fill": 0.45}),
    "neighbour cut off": (scenes.neighbour, {}),
    "ruled": (scenes.ruled, {}),
    "ruled, tilted": (lambda s: scenes.ruled(s, tilt=float(s.random.uniform(-0.08, 0.08))), {}),
    "ruled as dark as the pen": (lambda s: scenes.ruled(s, strength=(40, 70)), {}),
    "ruled with a margin": (scenes.margin, {}),
    "squared": (lambda s: scenes.ruled(s, (0, 1)), {}),
    "saved plot": (scenes.plain, {}),
    "punch holes": (scenes.holes, {}),
    "specks": (scenes.specks, {}),
    "underlined": (scenes.underline, {}),
    "underline that touches": (lambda s: scenes.underline(s, touching=True), {}),
    "hard shadow": (lambda s: scenes.shadow(s, 0.004), {}),
    "soft shadow": (lambda s: scenes.shadow(s, 0.12), {}),
    "light falling off": (scenes.falloff, {}),
    "dark corners": (scenes.vignette, {}),
    "crease": (scenes.crease, {}),
    "writing on the back": (scenes.through, {}),
    "ring of a cup": (scenes.stain, {}),
} | dict(surfaces.KINDS, **everyday.KINDS)

QUALITIES = {"JPEG of quality 10": 10, "JPEG of quality 5": 5}

NUMBERS = (
    "drawing", "plain paper", "pencil", "light on dark", "box of a form", "underlined", "light falling off",
    "hard shadow", "table beyond the sheet", "sheet on a desk", "ruled", "squared",
)  # fmt: skip


def make(kind: str, strokes: list[Stroke], image: NDArray[np.uint8], label: int, seed: int) -> io.BytesIO:
    """Return a picture file of a kind."""
    random = np.random.default_rng([zlib.crc32(kind.encode()), seed])
    draw, given = KINDS[kind]
    scene = Scene(strokes, random, label=label, **given)
    file = io.BytesIO()
    if kind == "saved plot":
        scenes.plot(scene, image)
        Image.fromarray(scene.picture.astype(np.uint8)).save(file, "PNG")
    else:
        draw(scene)
        picture = Image.fromarray(scene.camera().astype(np.uint8))
        picture.save(file, "JPEG", quality=QUALITIES.get(kind) or int(random.integers(55, 95)))
    return file


def row(digits: list[list[Stroke]], random: np.random.Generator) -> list[Stroke]:
    """Return the strokes of digits side by side, with gaps of 12 to 50 % of their height."""
    placed, edge = list[Stroke](), 0.0
    for strokes in digits:
        points = np.array([point for stroke in strokes for point in stroke])
        (x0, y0), (x1, y1) = points.min(0), points.max(0)
        scale = random.uniform(0.88, 1.12) / max(y1 - y0, 0.5)
        up = random.uniform(-0.08, 0.08) - scale * (y0 + y1) / 2
        placed += [[((x - x0) * scale + edge, y * scale + up) for x, y in stroke] for stroke in strokes]
        edge += (x1 - x0) * scale + random.uniform(0.12, 0.5)
    return placed


def make_number(kind: str, digits: list[list[Stroke]], random: np.random.Generator) -> io.BytesIO:
    """Return a picture file of a number: a photo of a kind, or a drawing on transparent paper."""
    strokes, file = row(digits, random), io.BytesIO()
    xs = [x for stroke in strokes for x, _ in stroke]
    fill = random.uniform(0.45, 0.75)
    height = fill / max(max(xs) - min(xs), 1)
    if kind == "drawing":
        ink = painted(strokes, pen=random.uniform(0.05, 0.09) * height, fill=fill, side=700)
        Image.fromarray(np.dstack([np.zeros((*ink.shape, 3), np.uint8), ink])).save(file, "PNG")
        return file
    draw, given = KINDS[kind]
    options = {"side": int(random.integers(450, 800)), "pen": random.uniform(0.04, 0.09) * height, "fill": fill}
    scene = Scene(strokes, random, **options | given)
    draw(scene)
    Image.fromarray(scene.camera().astype(np.uint8)).save(file, "JPEG", quality=int(random.integers(60, 95)))
    return file


def measure_numbers(
    model: Model,
    drawn: list[list[Stroke]],
    labels: NDArray[np.uint8],
    count: int,
    first: int,
    kinds: list[str],
    threshold: float | None,
) -> None:
    """Measure and print how well numbers of 2 to 8 digits are read."""
    lengths: dict[int, list[Any]] = {n: [] for n in range(2, 9)}
    print(f"{'kind':26} right    sure  sure and wrong")
    for kind in kinds:
        rows = []
        for length, seed in itertools.product(lengths, range(count)):
            random = np.random.default_rng([zlib.crc32(kind.encode()), first, length, seed])
            chosen = random.integers(0, len(drawn), length)
            file = make_number(kind, [drawn[i] for i in chosen], random)
            answer, sure = model.read(read_images(find(BUILT_IN), file), threshold)
            right = answer == "".join(map(str, labels[chosen]))
            rows.append((right, sure, sure and not right))
            lengths[length].append(rows[-1])
        print(f"{kind:26} " + " ".join(f"{share:6.1%}" for share in np.mean(rows, 0)), flush=True)
    for name, rows in [
        *((f"{n} digits", r) for n, r in lengths.items()),
        ("mean", [row for r in lengths.values() for row in r]),
    ]:
        print(f"{name:26} " + " ".join(f"{share:6.1%}" for share in np.mean(rows, 0)))


def sheet(
    folder: Path, kind: str, files: list[io.BytesIO], images: list[NDArray[np.uint8]], good: NDArray[Any]
) -> None:
    """Write a picture of all that was read, with the mistakes first."""
    tiles = []
    for i in np.argsort(good, kind="stable")[:16]:
        shown = cv2.resize(np.asarray(Image.open(files[i]).convert("RGB")), (150, 150), interpolation=cv2.INTER_AREA)
        read = np.repeat(cv2.resize(images[i], (150, 150), interpolation=cv2.INTER_NEAREST)[..., None], 3, 2)
        tile = np.concatenate([shown, read])
        tile[:4] = (0, 200, 0) if good[i] else (255, 0, 0)
        tiles.append(tile)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [np.concatenate(tiles[i : i + 8], 1) for i in range(0, len(tiles) - 7, 8)]
    Image.fromarray(np.concatenate(rows)).save(folder / f"{kind.replace(' ', '_')}.png")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--count", type=int, default=40, help="pictures of each kind")
    parser.add_argument("--first", type=int, default=0, help="seed of the first picture")
    parser.add_argument("--kind", nargs="*")
    parser.add_argument("--numbers", action="store_true", help="measure pictures of numbers")
    parser.add_argument("--sheets", type=Path)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    model, manifest = Model(given.model), given.model.with_name("manifest.json")
    threshold = json.loads(manifest.read_text())["calibration"]["threshold"] if manifest.exists() else None
    images, labels = mnist(given.mnist, "t10k")
    # Only digits that the model reads as drawn: the pictures are measured, not the model.
    count = 300 if given.numbers else given.count
    order = np.random.default_rng(given.first).permutation(len(images))[: count * 2]
    drawn = {int(i): strokes for i in order if (strokes := strokes_of(images[i]))}
    answers = model([to_mnist(painted(s, pen=0.05)) for s in drawn.values()]).argmax(1)
    chosen = [i for i, answer in zip(drawn, answers, strict=True) if answer == labels[i]][:count]
    if given.numbers:
        strokes = [drawn[i] for i in chosen]
        measure_numbers(
            model, strokes, labels[chosen], given.count, given.first, given.kind or list(NUMBERS), threshold
        )
        return
    truth, shares = labels[chosen], []
    print(f"{'kind':26} before    now    sure  sure and wrong")
    for kind in given.kind or KINDS:
        files = [make(kind, drawn[i], images[i], int(labels[i]), given.first + n) for n, i in enumerate(chosen)]
        levels = [np.asarray(Image.open(file).convert("L")) for file in files]
        before = model([to_mnist(difference_to_border(level)) for level in levels]).argmax(1) == truth
        read = [read_images(find(BUILT_IN), file) for file in files]
        results, sure = map(np.array, zip(*(model.read(digits, threshold) for digits in read), strict=True))
        now = results == truth.astype(str)
        shares.append((before.mean(), now.mean(), sure.mean(), (sure & ~now).mean()))
        print(f"{kind:26} " + " ".join(f"{share:6.1%}" for share in shares[-1]), flush=True)
        if given.sheets:
            blank = np.zeros((28, 28), np.uint8)
            sheet(given.sheets, kind, files, [digits[0].image if digits else blank for digits in read], now)
    print(f"{'mean':26} " + " ".join(f"{share:6.1%}" for share in np.mean(shares, 0)))


if __name__ == "__main__":
    main()

"""Train the networks of `digits/data/touching.py`, which tell how many digits ink is.

    python dev/bench/counter.py ../shared/mnist digits/data/touching.npz

It learns from MNIST's training images and strokes, and from the forms of `digits/training/glyphs.py`: single digits,
also broken ones, groups that touch or nearly do, and the pieces between cuts; from the letters and signs of OpenCV's
fonts and the signs of `SIGNS`, bent at random; and from digits of those fonts and of displays. The network for pieces
continues with the weights of the one for whole ink, which learns from no pieces. Takes 20 minutes of CPU time.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from everyday import ENDS, SEGMENTS
from groups import WAYS, Group, Ink, Random, Writer, cropped
from strokes import Stroke

from digits.data.cuts import find_cuts, reduce
from digits.data.touching import KINDS, to_image
from digits.training.glyphs import FORMS

FONTS = (0, 2, 3, 4, 6, 7, 16)  # Hershey: simplex, duplex, complex, triplex, two scripts, simplex in italics
LETTERS = "AEFHKMNRWXekmnwxh?&#@%$*+="  # those that look like no digit
PARTS = 8  # of MNIST's images, which are used one after the other or concurrently
TWO, SIGN = 10, 12  # the places in KINDS["piece"] of two digits, followed by three, and of another sign
Sample = tuple[Ink, int]


def arc(x: float, y: float, wide: float, high: float, start: float, end: float) -> list[tuple[float, float]]:
    """Return an arc of an ellipse around (x, y), from and to an angle in turns, clockwise from the right."""
    turn = 2 * np.pi * np.linspace(start, end, 24)
    return [(x + wide * float(np.cos(t)), y + high * float(np.sin(t))) for t in turn]


# Strokes of signs, about 1 high around 0.
SIGNS = {
    "€": [arc(0.35, 0, 0.32, 0.5, 0.13, 0.87), [(-0.08, -0.1), (0.4, -0.1)], [(-0.08, 0.1), (0.38, 0.1)]],
    "$": [
        arc(0.25, -0.22, 0.22, 0.22, 0.95, 0.25)[::-1] + arc(0.25, 0.22, 0.24, 0.22, -0.25, 0.45),
        [(0.25, -0.62), (0.25, 0.62)],
    ],
    "%": [[(0.55, -0.5), (0.1, 0.5)], arc(0.15, -0.3, 0.14, 0.18, 0, 1.02), arc(0.5, 0.3, 0.14, 0.18, 0, 1.02)],
    "£": [
        [*arc(0.35, -0.25, 0.2, 0.25, 0.95, 0.5), (0.18, 0.48), (0.02, 0.5), (0.55, 0.48)],
        [(0.0, 0.05), (0.4, 0.05)],
    ],
    "#": [[(0.2, -0.5), (0.1, 0.5)], [(0.5, -0.5), (0.4, 0.5)], [(0, -0.18), (0.6, -0.2)], [(0, 0.2), (0.55, 0.18)]],
    "+": [[(0.0, 0.0), (0.44, 0.0)], [(0.22, -0.22), (0.22, 0.22)]],
    "@": [arc(0.5, 0, 0.45, 0.5, 0.1, 0.98), arc(0.5, 0, 0.2, 0.2, 0, 1.1)],
    "☺": [
        arc(0.5, 0, 0.5, 0.5, 0, 1.03),
        arc(0.5, 0.02, 0.27, 0.28, 0.07, 0.43),
        *([(x, -0.2), (x, -0.1)] for x in (0.32, 0.68)),
    ],
}


def bent(ink: Ink, r: Random, amount: float) -> Ink:
    """Return ink with a smooth random displacement, slant, rotation and width."""
    ink = np.pad(ink, size := int(0.35 * max(ink.shape)))
    y, x = np.mgrid[0 : ink.shape[0], 0 : ink.shape[1]].astype(np.float32)
    dx, dy = np.zeros_like(x), np.zeros_like(x)
    for _ in range(3):
        f, t = r.uniform(0.3, 1.6) * 0.7 * np.pi / size, r.uniform(0, np.pi)
        dx += r.normal(0, 3 * amount * size) * np.sin(f * (x * np.cos(t) + y * np.sin(t)) + r.uniform(0, 6.3))
        dy += r.normal(0, 3 * amount * size) * np.sin(f * (x * np.sin(t) - y * np.cos(t)) + r.uniform(0, 6.3))
    slant, turn, stretch = r.normal(0, 0.2), r.normal(0, 0.1), np.exp(r.normal(0, 0.15))
    u, v = x - x.mean(), y - y.mean()
    along, down = (u + slant * v) / stretch * np.cos(turn) - v * np.sin(turn), v * np.cos(turn) + u * np.sin(turn)
    moved = (along + x.mean() + dx).astype(np.float32), (down + y.mean() + dy).astype(np.float32)
    out = cv2.remap(ink, *moved, cv2.INTER_LINEAR)
    return cropped(out) if (out > 40).any() else ink


def printed(text: str, r: Random) -> Ink:
    """Return a letter or digit of one of the fonts."""
    sheet = np.zeros((160, 220), np.uint8)
    cv2.putText(sheet, text, (40, 110), int(r.choice(FONTS)), 3, (255,), int(r.integers(3, 13)), cv2.LINE_AA)
    return cropped(sheet)


def sign(r: Random) -> Ink:
    """Return a sign as people write it."""
    sheet, width = np.zeros((220, 280), np.uint8), int(r.integers(4, 16))
    for stroke in SIGNS[str(r.choice(list(SIGNS), p=(0.27, 0.17, 0.23, 0.11, 0.05, 0.05, 0.05, 0.07)))]:
        points = np.round((np.array(stroke) * (100, 110) + (80, 110)) * 16).astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(sheet, [points], False, (255,), width, cv2.LINE_AA, 4)
    return cropped(sheet)


def shown(label: int, r: Random) -> Ink:
    """Return a digit of a display with seven segments."""
    sheet, thick, gap = np.zeros((400, 300), np.uint8), int(r.uniform(12, 28)), r.uniform(0.05, 0.13)
    for x0, y0, x1, y1 in (ENDS[name] for name in SEGMENTS[label]):
        along = gap * np.array([np.sign(x1 - x0), np.sign(y1 - y0)])
        start, end = 100 + 100 * (np.array([x0, y0]) + along), 100 + 100 * (np.array([x1, y1]) - along)
        cv2.line(sheet, start.astype(int).tolist(), end.astype(int).tolist(), (255,), thick, cv2.LINE_AA)
    return cropped(sheet)


def formed(r: Random) -> tuple[list[Stroke], str]:
    """Return the strokes of a digit of a generated form, of which a second stroke may be apart."""
    label, draw = FORMS[r.integers(len(FORMS))]
    first, *others = draw(r)
    move = r.normal(0, 0.04, 2) * (r.random() < 0.4)
    shape = np.array([[r.uniform(0.5, 0.85), r.uniform(-0.3, 0.1)], [0, 1]])
    return [(stroke @ shape.T).tolist() for stroke in (first, *(other + move for other in others))], str(label)


def broken(ink: Ink, r: Random) -> Ink:
    """Return ink with one to three narrow gaps."""
    ink, side = ink.copy(), max(ink.shape)
    for _ in range(int(r.integers(1, 4))):
        (x, y), turn = r.uniform(0, 1, 2) * ink.shape[::-1], r.uniform(0, np.pi)
        along = 0.15 * side * np.array([np.cos(turn), np.sin(turn)])
        ends = ((int(x + k * along[0]), int(y + k * along[1])) for k in (-1, 1))
        cv2.line(ink, *ends, (0,), max(1, int(side * r.uniform(0.02, 0.06))))
    return ink


def whole(writer: Writer, r: Random) -> Sample:
    """Return a single digit or a group, sometimes broken, blurred or without grey."""
    count = int(r.choice((1, 2, 3), p=(0.5, 0.36, 0.14)))
    wide, ways = bool(r.random() < 0.4), (*WAYS, "near")
    group = writer.single(r, wide=wide) if count == 1 else writer.group(r, count, ways)
    ink = broken(group.ink, r) if r.random() < 0.12 else group.ink
    if r.random() < 0.3:
        ink = cv2.GaussianBlur(ink, (0, 0), r.uniform(0.5, 0.04 * max(ink.shape)))
        ink = np.where(ink > 25, ink, np.uint8(0))
    if r.random() < 0.2:
        ink = np.where(ink >= min(r.integers(40, 160), int(ink.max())), np.uint8(255), np.uint8(0))
    return to_image(ink), int(group.label) if count == 1 else TWO + count - 2


def other(r: Random) -> Sample:
    """Return a sign or a letter, or a digit of a font or a display."""
    which, label = r.random(), int(r.integers(10))
    if which < 0.66:
        ink = bent(sign(r) if which < 0.4 else printed(str(r.choice(list(LETTERS))), r), r, 0.03)
    else:
        ink = bent(printed(str(label), r), r, 0.015) if which < 0.86 else bent(shown(label, r), r, 0.005)
    if r.random() < 0.2:
        ink = cv2.GaussianBlur(np.pad(ink, 5), (0, 0), r.uniform(0.5, 4))
    return to_image(ink), SIGN if which < 0.66 else label


def pieces(group: Group) -> list[Sample]:
    """Return the pieces between a group's cuts, with what they are; without those that are ambiguous."""
    own, samples = reduce(group.ink), list[Sample]()
    size, ink = (own.shape[1], own.shape[0]), own > 90
    layers = [ink & (cv2.resize(each, size, interpolation=cv2.INTER_AREA) > 100) for each in group.layers]
    for right in find_cuts(own, 6):
        for side in (~right, right):
            piece = ink & side
            likenesses = [(piece & each).sum() / max(1, (piece | each).sum()) for each in layers]
            likeness, shares = max(likenesses), np.array([(piece & each).sum() / max(1, each.sum()) for each in layers])
            if likeness > 0.88:
                kind = int(group.label[int(np.argmax(likenesses))])
            elif (shares > 0.85).sum() >= 2 and ((shares > 0.85) | (shares < 0.12)).all():
                kind = TWO + int((shares > 0.85).sum()) - 2
            elif likeness < (0.7 if (shares > 0.85).any() else 0.78):
                kind = SIGN + 1
            else:
                continue
            samples.append((to_image(np.where(side, own, np.uint8(0))), kind))
    return samples


def make(mnist: Path, count: int, part: int) -> tuple[list[Sample], list[Sample]]:
    """Return whole ink, and pieces, from one of PARTS parts of the images."""
    cv2.setNumThreads(1)
    size = 55_000 // PARTS
    r, writer = np.random.default_rng([1, part]), Writer(mnist, "train", part * size, (part + 1) * size, 4500 // PARTS)
    writer.strokes += [formed(r) for _ in range(1500 // PARTS)]
    samples = [whole(writer, r) for _ in range(count)] + [other(r) for _ in range(count // 9)]
    cut = [piece for _ in range(count // 10) for piece in pieces(writer.group(r, 3 if r.random() < 0.2 else 2))]
    return samples, cut


def main() -> None:
    """Make the images, train and write the weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("mnist", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--count", type=int, default=120_000, help="digits and groups")
    given = parser.parse_args()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(functools.partial(make, given.mnist, given.count // PARTS), range(PARTS)))
    samples, cut = (list(itertools.chain(*each)) for each in zip(*parts, strict=True))
    few = [(image, 0 if kind < TWO else 1 if kind < SIGN else 2) for image, kind in samples]
    first = train(few, len(KINDS["whole"]), 8)
    second = train(samples + cut, len(KINDS["piece"]), 6, first[:-2])
    arrays = {f"{name}{n}": each for name, new in (("whole", first), ("piece", second)) for n, each in enumerate(new)}
    np.savez(given.weights, allow_pickle=False, **{name: each.astype(np.float16) for name, each in arrays.items()})


def train(samples: list[Sample], kinds: int, epochs: int, start: list[Any] | None = None) -> list[Any]:
    """Return the weights of a network. `start` are those that it begins with, of all layers but the last."""
    import keras

    keras.utils.set_random_seed(1)
    images, labels = (np.stack(each) for each in zip(*samples, strict=True))
    layers = keras.layers
    network = keras.Sequential([
        layers.Input((*images.shape[1:], 1)),
        *(layers.Conv2D(n, side, 2, "same", activation="relu") for n, side in ((12, 5), (24, 3), (32, 3))),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(32, activation="relu"),
        layers.Dense(kinds),
    ])  # fmt: skip
    if start:
        network.set_weights([*start, *network.get_weights()[-2:]])
    rate = keras.optimizers.schedules.CosineDecay(1.5e-3 if start else 2e-3, len(images) // 128 * epochs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
    network.fit(images[..., None].astype(np.float32) / 255, labels, batch_size=128, epochs=epochs, verbose=2)
    return list(network.get_weights())


if __name__ == "__main__":
    main()

"""Ink that may not be one digit: small networks distinguish one digit from several that touch and from other signs.

The model, which answers with a digit whatever it sees, reads the ink and the pieces between cuts. The networks
count the digits, as the length classifier of Hochuli et al. does (Handwritten digit segmentation: is it still
necessary?, 2018). `dev/bench/counter.py` trains them, on MNIST's training digits that were drawn next to each other.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from digits.data.cuts import find_cuts, reduce
from digits.data.preprocessing import Ink, crop

# What each of the two networks distinguishes.
KINDS = {
    "whole": ("one digit", "several that touch", "another sign"),
    "piece": (*"0123456789", "two that touch", "three or more", "another sign", "a piece of a digit, or of two"),
}
_TWO = KINDS["piece"].index("two that touch")
WEIGHTS = Path(__file__).with_name("touching.npz")
ROWS, COLUMNS = 32, 48  # of the network's image
_CUTS = 6  # of two digits
_MANY_CUTS = 10  # of three or more
_WIDE = 3  # greatest number of pieces that are divided again
_WAYS = 12  # greatest number of ways to divide ink, so that the pieces of two inks fit into a request of any task
_SEVERAL = 0.1  # least probability of several digits in ink that is divided
_DIVIDED = 0.97  # least probability of several digits in ink whose pieces are shown
_LEAST = 0.1  # least probability of one digit in a piece
_WHOLE = 0.1  # least score of a sure answer to the whole ink
_PLAUSIBLE = 0.02  # least score of pieces that are shown


class Counts(NamedTuple):
    """How likely ink is one digit, two that touch, and three or more. The rest is that it is something else.

    `digits` states how likely a piece, or ink that may be several digits, is each digit.
    """

    one: float = 1
    two: float = 0
    more: float = 0
    digits: tuple[float, ...] = ()


class Piece(NamedTuple):
    """The ink of a piece, uint8 of the size of `reduce`, and how many digits it is."""

    ink: Ink
    counts: Counts


def to_image(ink: Ink) -> Ink:
    """Return ink, uint8 (height, width), as the network's image, uint8 (ROWS, COLUMNS); blank without ink."""
    image, own = np.zeros((ROWS, COLUMNS), np.uint8), crop(ink)
    if not own.size:
        return image
    height, width = own.shape
    scale = min(ROWS / height, COLUMNS / width)
    width, height = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(own, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    top, left = (ROWS - height) // 2, (COLUMNS - width) // 2
    image[top : top + height, left : left + width] = small * (255 / max(1.0, float(small.max())))
    return image


def count(network: str, inks: Sequence[Ink]) -> NDArray[np.float32]:
    """Return how likely each ink, uint8 (height, width), is of each of the network's KINDS, (n, kinds)."""
    level = np.stack([to_image(ink) for ink in inks])[..., None].astype(np.float32) / 255
    *layers, first, second = _weights(network)
    for kernel, bias in layers:
        level = np.maximum(_convolve(level, kernel) + bias, 0)
    hidden = np.maximum(level.reshape(len(level), -1) @ first[0] + first[1], 0)
    scores = hidden @ second[0] + second[1]
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


@functools.cache
def _weights(network: str) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return the kernel and the bias of each layer."""
    with np.load(WEIGHTS, allow_pickle=False) as file:
        arrays = [file[name].astype(np.float32) for name in file.files if name.startswith(network)]
    return list(zip(arrays[::2], arrays[1::2], strict=True))


def _convolve(level: NDArray[Any], kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a convolution with every second pixel, (n, height / 2, width / 2, filters), as TensorFlow pads it."""
    side = kernel.shape[0]
    before = (side - 2) // 2
    padded = np.pad(level, ((0, 0), (before, side - 2 - before), (before, side - 2 - before), (0, 0)))
    near = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))[:, ::2, ::2]
    flat = near.transpose(0, 1, 2, 4, 5, 3).reshape(*near.shape[:3], -1)
    return np.asarray(flat @ kernel.reshape(-1, kernel.shape[3]), np.float32)


def count_whole(inks: Sequence[Ink]) -> list[Counts]:
    """Return how many digits each ink, uint8 (height, width), is, if it is not a piece of a digit.

    Two and more are distinguished only in ink that may be divided, because most pictures show a single digit.
    """
    found = [Counts(float(one), float(several)) for one, several, _ in count("whole", inks)]
    places = [place for place, counts in enumerate(found) if may_be_several(counts)]
    if places:
        for place, kinds in zip(places, count("piece", [inks[n] for n in places]), strict=True):
            (one, several, *_), (two, more) = found[place], kinds[_TWO : _TWO + 2]
            # Of neither, if the network is so certain of another kind that both are 0 in float32.
            shares = (float(two / (two + more)), float(more / (two + more))) if two + more else (0.5, 0.5)
            found[place] = Counts(one, several * shares[0], several * shares[1], tuple(kinds[:_TWO].tolist()))
    return found


def may_be_several(counts: Counts) -> bool:
    """Return whether ink may be several digits, so that it is divided."""
    return counts.two + counts.more >= _SEVERAL


def is_clear(counts: Counts) -> bool:
    """Return whether ink is shown whole, and is sure if the model's answer is, whatever that is."""
    return not may_be_several(counts) and counts.one >= _WHOLE


def divide(ink: Ink, counts: Counts) -> list[tuple[Piece, ...]]:
    """Return the ways to divide ink, of the given counts, into digits from left to right; none if it is one digit."""
    if not may_be_several(counts):
        return []
    own = reduce(ink)
    halves = _halves(own, _CUTS if counts.more < _SEVERAL else _MANY_CUTS)
    ways: list[tuple[Piece, ...]] = [half for half in halves if min(piece.counts.one for piece in half) > _LEAST]
    if counts.more < _SEVERAL:
        return ways
    wide = [
        (half, n) for half in halves for n in (0, 1) if _is_wide(half[n].counts) and half[1 - n].counts.one > _LEAST
    ]
    for half, n in wide[:_WIDE]:
        thirds = [third for third in _halves(half[n].ink, _CUTS) if min(piece.counts.one for piece in third) > _LEAST]
        ways += [(*half[:n], *third, *half[n + 1 :]) for third in thirds]
    return ways[:_WAYS]


def _is_wide(counts: Counts) -> bool:
    return counts.two + counts.more > 0.5


def _halves(ink: Ink, most: int) -> list[tuple[Piece, Piece]]:
    """Return the pieces on both sides of each cut."""
    cuts = find_cuts(ink, most)
    inks = [np.where(side, ink, np.uint8(0)) for right in cuts for side in (~right, right)]
    kinds = count("piece", inks).tolist() if inks else []
    counts = [Counts(sum(each[:_TWO]), each[_TWO], each[_TWO + 1], tuple(each[:_TWO])) for each in kinds]
    pieces = list(map(Piece, inks, counts))
    return list(zip(pieces[::2], pieces[1::2], strict=True))


class Choice(NamedTuple):
    """The chosen way to divide ink, by its place, or None for the whole; and whether that is unsure."""

    way: int | None
    doubtful: bool


def choose(counts: Counts, whole: ArrayLike, ways: Sequence[Sequence[Counts]], answers: Sequence[ArrayLike]) -> Choice:
    """Return how ink is read, of the given counts, that can be divided in some ways, given as their pieces' counts.

    `whole`, (10,), is the model's answer to the ink, and `answers`, (pieces, 10) for each way, are those to the pieces.
    The score of a way is the probability that the ink is as many digits as it has pieces, that each piece is the
    answered digit by the network, and that it is by the model. Pieces are never sure, because a stroke between two
    digits may make one of them another, as a 1 a 7. The whole is unsure if it is not likely enough that it is one digit
    and, if the network for pieces has read it, the answered one.
    """
    scores = [0.0]
    for pieces, answer in zip(ways, answers, strict=True):
        shares = np.asarray(answer)
        labels = shares.argmax(axis=1)
        both = [piece.digits[n] if piece.digits else piece.one for piece, n in zip(pieces, labels, strict=True)]
        kind = counts.two if len(pieces) == 2 else counts.more
        scores.append(float(kind * np.prod(both) * shares.max(axis=1).prod()))
    best = int(np.argmax(scores))
    if counts.two + counts.more >= _DIVIDED and scores[best] >= _PLAUSIBLE:
        return Choice(best - 1, True)
    same = counts.digits[int(np.argmax(whole))] if counts.digits else 1.0
    return Choice(None, counts.one * same < _WHOLE)

"""The digits of a number: the connected parts of a picture's ink that stand side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from digits.data import touching
from digits.data.pieces import TALL, find_parts
from digits.data.preprocessing import Ink, crop, to_mnist
from digits.data.rules import find_connected
from digits.data.signs import Shape, are_of_two_pens, find_signs, shape_of
from digits.data.touching import Counts

MAX_DIGITS = 16  # of a number
INK_SIDE = 160  # pixels
HEIGHT = 0.55  # least height of a digit, of the highest part's
_OVERLAP = 0.5  # two high parts belong to one digit if they share more columns, of the narrower one's
_APART = 0.5  # greatest distance of two parts of one digit that share columns, of the highest part's height
_NEAR = 0.15  # greatest distance of a small part from its digit, of the highest part's height
_CLOSE = 0.25  # greatest distance of two strokes of one digit side by side, of the highest part's height
_ONE = 0.8  # least probability of one digit that joins two
_PERHAPS_ONE = 0.1  # least probability of one digit that makes two digits unsure
_MIDDLE = 0.2  # share of a part's width and height at each side that is not its middle
_SPOT = 0.2  # least size of a small part that is not above or below its digit; a point or comma is smaller
_DIVIDED = 2  # greatest number of digits that are divided
_STRONG = 0.7  # share of the strongest ink above which digits that are close together are apart


class Digit(NamedTuple):
    """One thing that a picture shows: a digit of a number, or what the whole picture shows.

    Attributes:
        image: what the model receives, uint8, of the task's shape; (28, 28) for digits.
        ink: the digit's ink, or the part of the photo, uint8, at most INK_SIDE on a side; for people.
        box: its left, top, right and bottom, in 0..1 of the picture.
        doubtful: whether the ink may not be the digit's, or not only.
        counts: how likely the ink is one digit, or several.
        ways: the pieces that the model also receives, for each way to divide the ink, if it may be several digits.
    """

    image: Ink
    ink: Ink
    box: tuple[float, float, float, float] = (0, 0, 1, 1)
    doubtful: bool = False
    counts: Counts = Counts()
    ways: tuple[tuple[Digit, ...], ...] = ()


class _Part(NamedTuple):
    numbers: frozenset[int]
    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def area(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def join(self, other: _Part) -> _Part:
        low = min(self.x0, other.x0), min(self.y0, other.y0)
        return _Part(self.numbers | other.numbers, *low, max(self.x1, other.x1), max(self.y1, other.y1))

    def shared(self, other: _Part) -> float:
        """Return how many columns both have, of the narrower one's; negative for a gap."""
        return (min(self.x1, other.x1) - max(self.x0, other.x0)) / min(self.x1 - self.x0, other.x1 - other.x0)

    def is_minus(self, digit: _Part) -> bool:
        """Return whether the part is a level stroke next to a digit, at the middle of its height."""
        level = self.x1 - self.x0 > 3 * self.height and self.shared(digit) <= 0
        return level and 0.25 < ((self.y0 + self.y1) / 2 - digit.y0) / digit.height < 0.75

    def distance(self, other: _Part) -> float:
        columns = max(0, max(self.x0, other.x0) - min(self.x1, other.x1))
        rows = max(0, max(self.y0, other.y0) - min(self.y1, other.y1))
        return float(np.hypot(columns, rows))


def split(ink: Ink, *, doubtful: bool = False) -> list[Digit]:
    """Return the digits in a picture's ink, uint8 (height, width), from left to right; none without ink.

    Two digits are apart if no ink connects them and they share few columns. A single digit keeps all ink. Digits that
    touch stay one, which `decide` may divide. One next to ink that belongs to no digit is doubtful, and all are if the
    whole ink is, or if their strokes are not of one pen.
    """
    strongest = int(ink.max(initial=0))
    if not strongest:
        return []
    mask = np.where(ink >= max(1, strongest // 4), np.uint8(255), np.uint8(0))
    order, numbers, stats = find_parts(mask)
    parts = [_Part(frozenset([int(n)]), x, y, x + w, y + h) for n in order for x, y, w, h in [stats[n, :4].tolist()]]
    tallest = max(part.height for part in parts)
    groups: list[_Part] = []
    for part in parts:  # the largest first
        over = [g for g in groups if _are_one(g, part, tallest)]
        if over:
            best = max(over, key=lambda g: g.shared(part))
            groups[groups.index(best)] = best.join(part)
        else:
            groups.append(part)
    # A piece may be all that links two others.
    while linked := next((p for p in itertools.combinations(groups, 2) if _are_one(*p, tallest)), None):
        groups = [g for g in groups if g not in linked] + [linked[0].join(linked[1])]
    high = max(group.height for group in groups)
    pairs = itertools.combinations([g for g in groups if g.height < HEIGHT * high], 2)
    for one, other in sorted(pairs, key=lambda pair: pair[0].distance(pair[1])):
        # Two pieces of one digit, as the body and the bar of a 5, or of a slanted stroke that a rule cut.
        if one in groups and other in groups and one.distance(other) <= _APART * high:
            both = one.join(other)
            if HEIGHT * high <= both.height <= 1.1 * high:
                groups = [g for g in groups if g not in (one, other)] + [both]
    digits = sorted((g for g in groups if g.height >= HEIGHT * high), key=lambda g: g.x0)
    if 1 < len(digits) <= MAX_DIGITS:
        digits = [each for digit in digits for each in _separate(digit, ink, numbers)]
    if 1 < len(digits) <= MAX_DIGITS:
        digits, lost = _unite(digits, ink, numbers)
    if not 1 < len(digits) <= MAX_DIGITS:
        x, y, width, height = cv2.boundingRect(mask)
        whole = _Part(frozenset(), x, y, x + width, y + height)
        return _examine([(_digit(whole, ink, ink.shape, doubtful or len(digits) > 1), ink)])
    small = [g for g in groups if g.height < HEIGHT * high and max(g.x1 - g.x0, g.height) >= _SPOT * high]
    for part, near in zip(small, _nearest(small, digits, numbers), strict=True):
        if digits[near].distance(part) <= _NEAR * high and not part.is_minus(digits[near]):
            digits[near] = digits[near].join(part)
        else:
            lost.add(near)
    found, shapes = list[tuple[Digit, Ink]](), list[Shape]()
    for place, digit in enumerate(digits):
        area = slice(max(0, digit.y0 - 1), digit.y1 + 1), slice(max(0, digit.x0 - 1), digit.x1 + 1)
        own = np.isin(numbers[area], list(digit.numbers))
        shapes.append(shape_of(own, area[0].start))
        others = (mask[area] > 0) & ~own
        edge = cv2.dilate(own.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        own_ink = np.where(edge & ~others, ink[area], np.uint8(0))
        unsure = doubtful or place in lost or _holds_others([part for part in parts if part.numbers <= digit.numbers])
        found.append((_digit(digit, own_ink, ink.shape, unsure), own_ink))
    signs = set(range(len(shapes))) if are_of_two_pens(shapes) else find_signs(shapes)
    return _examine([(each._replace(doubtful=each.doubtful or n in signs), own) for n, (each, own) in enumerate(found)])


def _unite(digits: list[_Part], ink: Ink, numbers: NDArray[np.int32]) -> tuple[list[_Part], set[int]]:
    """Join close digits of a number that are strokes of one. Return the digits and the places of those that may be.

    An open 4 has two such strokes, and the bar of a 5 may be as high as its body.
    """
    high = max(digit.height for digit in digits)
    pairs = [n for n in range(len(digits) - 1) if digits[n].distance(digits[n + 1]) <= _CLOSE * high]
    joined = [digits[n].join(digits[n + 1]) for n in pairs]
    ones = dict[int, float]()
    if pairs:
        inks = [np.where(np.isin(numbers[p.area], list(p.numbers)), ink[p.area], np.uint8(0)) for p in joined]
        ones = dict(zip(pairs, touching.count("whole", inks)[:, 0].tolist(), strict=True))
    united, unclear, n = list[_Part](), set[int](), 0
    while n < len(digits):
        one = ones.get(n, 0.0)
        if one > _ONE and one >= ones.get(n + 1, 0.0):
            united.append(digits[n].join(digits[n + 1]))
            n += 2
            continue
        if one > _PERHAPS_ONE:
            unclear |= {len(united), len(united) + 1}
        united.append(digits[n])
        n += 1
    return united, unclear


def _are_one(one: _Part, other: _Part, tallest: int) -> bool:
    return one.shared(other) > _OVERLAP and one.distance(other) <= _APART * tallest


def _holds_others(parts: list[_Part]) -> bool:
    """Return whether two parts stand in the middle of a larger one, as in a face. No digit has such strokes."""
    outer = max(parts, key=lambda part: part.height, default=_Part(frozenset(), 0, 0, 0, 0))
    x, y = _MIDDLE * (outer.x1 - outer.x0), _MIDDLE * outer.height
    inner = [part for part in parts if outer.x0 + x < part.x0 and part.x1 < outer.x1 - x]
    return sum(outer.y0 + y < part.y0 and part.y1 < outer.y1 - y for part in inner) >= 2


def _nearest(parts: list[_Part], digits: list[_Part], numbers: NDArray[np.int32]) -> list[int]:
    """Return which digit's ink each part is nearest to. `numbers`, (height, width), are those of the parts."""
    if not parts:
        return []
    owner = np.zeros(int(numbers.max()) + 1, np.intp)
    for place, digit in enumerate(digits):
        owner[list(digit.numbers)] = place + 1
    owners = owner[numbers]
    free = (owners == 0).astype(np.uint8)
    distance, pixels = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    owner_at = np.zeros(int(pixels.max()) + 1, np.intp)
    owner_at[pixels[free == 0]] = owners[free == 0]
    found = []
    for part in parts:
        area = slice(part.y0, part.y1), slice(part.x0, part.x1)
        away = np.where(np.isin(numbers[area], list(part.numbers)), distance[area], np.inf)
        found.append(int(owner_at[pixels[area].flat[away.argmin()]]) - 1)
    return found


def _separate(digit: _Part, ink: Ink, numbers: NDArray[np.int32]) -> list[_Part]:
    """Return the digits of a number that only fainter ink connects, from left to right; or the one.

    Each of them gets a number of its own in `numbers`, (height, width), and the ink that is nearest to it.
    """
    area = slice(digit.y0, digit.y1), slice(digit.x0, digit.x1)
    near, own = ink[area], np.isin(numbers[area], list(digit.numbers))
    strong = np.where(own & (near >= _STRONG * float(near.max())), np.uint8(255), np.uint8(0))
    pieces, stats = find_connected(strong)
    tall = 1 + np.flatnonzero(stats[1:, 3] >= TALL * digit.height)
    if len(tall) < 2:
        return [digit]
    others = np.where(np.isin(pieces, tall), np.uint8(0), np.uint8(255))
    nearest = cv2.distanceTransformWithLabels(others, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_CCOMP)[1]
    first, parts = int(numbers.max()), list[_Part]()
    for n in range(1, int(nearest.max()) + 1):
        x, y, width, height = cv2.boundingRect(np.where(own & (nearest == n), np.uint8(255), np.uint8(0)))
        x, y = x + digit.x0, y + digit.y0
        parts.append(_Part(frozenset([first + n]), x, y, x + width, y + height))
    if any(one.shared(other) > _OVERLAP for one, other in itertools.combinations(parts, 2)):
        return [digit]
    numbers[area][own] = first + nearest[own]
    return sorted(parts, key=lambda part: part.x0)


def _digit(part: _Part, own: Ink, shape: tuple[int, ...], doubtful: bool) -> Digit:
    height, width = shape
    box = (part.x0 / width, part.y0 / height, part.x1 / width, part.y1 / height)
    return Digit(to_mnist(own), _small(own), box, doubtful)


def _small(own: Ink) -> Ink:
    small = Image.fromarray(crop(own))
    small.thumbnail((INK_SIDE, INK_SIDE))
    return np.array(small)


def _examine(found: list[tuple[Digit, Ink]]) -> list[Digit]:
    """Return digits, each given with its ink, with the ways to divide those that may be several."""
    examined, divided = list[Digit](), 0
    most = min(_DIVIDED, (MAX_DIGITS - len(found)) // 2)  # each may become three
    for (digit, own), counts in zip(found, touching.count_whole([own for _, own in found]), strict=True):
        divided += touching.may_be_several(counts)
        ways = touching.divide(own, counts) if divided <= most else []
        pieces = tuple(tuple(_piece(piece, digit) for piece in way) for way in ways)
        examined.append(digit._replace(counts=counts, ways=pieces))
    return examined


def _piece(piece: touching.Piece, digit: Digit) -> Digit:
    """Return a piece of a digit's ink as a digit."""
    (height, width), (left, top, right, bottom) = piece.ink.shape, digit.box
    x, y, wide, high = cv2.boundingRect(piece.ink)
    across, down = (right - left) / width, (bottom - top) / height
    box = (left + x * across, top + y * down, left + (x + wide) * across, top + (y + high) * down)
    return Digit(to_mnist(piece.ink), _small(piece.ink), box, digit.doubtful, piece.counts)


def images_of(digits: Sequence[Digit]) -> list[Ink]:
    """Return what the model receives of digits: their images, then those of their pieces."""
    return [digit.image for digit in digits] + [piece.image for digit in digits for way in digit.ways for piece in way]


def decide(digits: Sequence[Digit], probabilities: Sequence[Any]) -> tuple[list[Digit], list[Any]]:
    """Return the digits that a picture shows, and the answers to them, given those (10,) to each of `images_of`.

    Digits that touch are divided. What may not be one digit is doubtful.
    """
    waiting, decided, shares = iter(probabilities[len(digits) :]), list[Digit](), list[Any]()
    for digit, whole in zip(digits, probabilities, strict=False):
        answers = [[next(waiting) for _ in way] for way in digit.ways]
        pieces_of = [[piece.counts for piece in way] for way in digit.ways]
        way, doubtful = touching.choose(digit.counts, whole, pieces_of, answers)
        pieces = (digit,) if way is None else digit.ways[way]
        decided += [piece._replace(doubtful=piece.doubtful or doubtful, ways=()) for piece in pieces]
        shares += [whole] if way is None else answers[way]
    return decided, shares

"""Connected parts of a picture's ink."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from digits.data.parts import Light, Part, examine
from digits.data.pieces import find_parts
from digits.data.rules import Mask
from tests.helpers.drawings import NOUGHT, SEVEN, Line, draw


def mask_of(*lines: Line) -> Mask:
    return np.where(draw(list(lines), pen=16) > 100, np.uint8(255), np.uint8(0))


def count(mask: Mask) -> int:
    """Return the number of parts, after checking that each has pixels of its own."""
    order, numbers, stats = find_parts(mask)
    assert all(np.count_nonzero((numbers == n) & (mask > 0)) for n in order)
    assert all(stats[n, 2] and stats[n, 3] for n in order)
    return len(order)


@pytest.mark.parametrize("lines", [SEVEN, NOUGHT], ids=["seven", "nought"])
def test_a_narrow_gap_does_not_separate_a_stroke(lines: list[Line]) -> None:
    """A digit that thin lines cut, as folds of the paper do, is one part."""
    mask = mask_of(*lines)
    mask[100:104], mask[:, 120:124] = 0, 0
    assert cv2.connectedComponents(mask)[0] > 2
    assert count(mask) == 1


def test_a_wide_gap_separates_strokes() -> None:
    """A gap as wide as the stroke separates parts."""
    mask = mask_of(*SEVEN)
    mask[100:118] = 0
    assert count(mask) == 2


@pytest.mark.parametrize("lines", [SEVEN, NOUGHT], ids=["seven", "nought"])
def test_dashes_are_one_part(lines: list[Line]) -> None:
    """A digit in dashes whose gaps are wider than half a stroke is one part."""
    mask = mask_of(*lines)
    for at in range(40, 280, 48):
        mask[at : at + 8, :] = 0
    assert cv2.connectedComponents(mask)[0] > 4
    assert count(mask) == 1


def test_a_raster_of_dots_may_be_wider_than_high() -> None:
    """A digit that consists of dots of one size is one part, though it is wider than a digit written in strokes."""
    places = np.where(draw([[(0.1, 0.3), (0.8, 0.3), (0.6, 0.7), (0.9, 0.7)]], side=28, pen=2) > 90)
    mask = np.zeros((280, 280), np.uint8)
    for y, x in zip(*places, strict=True):
        cv2.circle(mask, (10 * int(x) + 5, 10 * int(y) + 5), 4, (255,), -1)
    assert cv2.connectedComponents(mask)[0] > 26
    assert count(mask) == 1


def test_an_open_circle_close_to_a_digit_is_separate() -> None:
    """A circle that does not close, whose line nearly touches the digit in it, is a part of its own."""
    mask = np.zeros((280, 280), np.uint8)
    cv2.circle(mask, (140, 140), 110, (255,), 12)
    mask[136:144, :60] = 0
    cv2.line(mask, (140, 70), (140, 230), (255,), 12)
    assert cv2.connectedComponents(mask)[0] == 3
    assert count(mask) == 2


def test_digits_side_by_side_are_separate() -> None:
    """Two digits whose gap is narrower than half a stroke are two parts, because they are wider than one digit."""
    one = mask_of(*NOUGHT)
    x, _, width, _ = cv2.boundingRect(one)
    assert count(np.concatenate([one[:, : x + width + 2], one[:, x - 2 :]], axis=1)) == 2


def test_two_high_pieces_are_separate() -> None:
    """Two digits that are together as narrow as one, such as 11, are two parts, because both are as high as one."""
    mask = mask_of([(0.46, 0.1), (0.46, 0.85)], [(0.54, 0.15), (0.54, 0.9)])
    assert count(mask) == 2


def test_a_box_close_to_a_digit_is_separate() -> None:
    """A box whose line nearly touches the digit is a part of its own."""
    mask = np.where(draw(SEVEN, pen=16, at=(0.2, 0.2), size=0.6) > 100, np.uint8(255), np.uint8(0))
    x, y, width, height = cv2.boundingRect(mask)
    cv2.rectangle(mask, (x - 6, y - 40), (x + width + 40, y + height + 40), (255,), 3)
    assert count(mask) == 2


def test_nothing_has_no_parts() -> None:
    """An empty mask has no parts."""
    assert count(np.zeros((280, 280), np.uint8)) == 0


@pytest.mark.parametrize(("width", "pen", "frame"), [(55, 7, False), (90, 7, True), (55, 1, True)])
def test_a_narrow_outline_of_thick_strokes_is_no_frame(width: int, pen: int, frame: bool) -> None:
    """The 0 of a display is a digit; an outline that is wider, or of thin lines, is a frame."""
    picture = np.full((200, 200), 230, np.uint8)
    cv2.rectangle(picture, (70, 50), (70 + width, 150), (30,), pen)
    light, mask = Light(picture, np.full_like(picture, 230), 230.0 - picture.astype(np.float32), 60), 255 - picture
    order, numbers, stats = find_parts(np.where(mask > 100, np.uint8(255), np.uint8(0)))
    part = examine(int(order[0]), stats[order[0]], numbers, light)
    assert part.solid == frame
    assert (part.score == 0) == frame


def test_a_box_surrounds_many_small_digits() -> None:
    """A box holds the digits of a long number, each of less than a tenth of its width, and a 0 a few specks."""
    box = Part(0, 0, 0, 540, 210, 8000, 100.0, False, False)
    digits = [Part(n, 60 * n, 90, 45, 50, 400, 40.0, False, False) for n in range(1, 8)]
    specks = [Part(n, 60 * n, 90, 9, 9, 60, 1.0, False, False) for n in range(1, 8)]
    assert box.surrounds([box, *digits])
    assert not box.surrounds([box, *specks])


def test_a_stroke_that_extends_beyond_another_part_is_not_in_a_box() -> None:
    """A piece of a broken 8 that reaches beyond the rest by a seventh of its width is no digit in a box."""
    rest, piece = Part(0, 0, 0, 60, 110, 600, 80.0, False, False), Part(1, 24, 35, 42, 24, 150, 40.0, False, False)
    assert not rest.surrounds([rest, piece])

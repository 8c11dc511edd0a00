"""Signs that the digit of a picture may not be complete."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from digits.data.number import split
from digits.data.reading import read


@pytest.mark.parametrize("whole", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize(("bar", "doubtful"), [(380, False), (470, True)], ids=["apart", "touches"])
def test_a_digit_is_doubtful_if_another_one_touches_the_frame_around_it(whole: bool, bar: int, doubtful: bool) -> None:
    """The 5 of 75 in a circle that its bar touches is removed with the circle, so that the 7 is doubtful."""
    picture = np.full((600, 600), 235, np.uint8)
    cv2.ellipse(picture, (300, 300), (170, 170), 0, 0 if whole else 20, 360, (40,), 6)
    for line in (
        [(190, 230), (250, 225), (215, 370)],
        [(bar, 235), (310, 240), (305, 290), (360, 310), (350, 360), (300, 370)],
    ):
        cv2.polylines(picture, [np.array(line)], False, (40,), 8)
    reading = read(picture)
    digits = split(reading.ink, doubtful=reading.doubtful)
    assert len(digits) == (1 if doubtful else 2)
    assert any(digit.doubtful for digit in digits) == doubtful

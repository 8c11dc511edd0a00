"""Cuts through ink."""

from __future__ import annotations

import numpy as np

from digits.data.cuts import find_cuts, reduce
from tests.helpers.drawings import NOUGHT, ONE, SEVEN, draw, touching_pair


def test_the_shortest_cut_separates_digits_that_touch() -> None:
    """Both sides of the first cut have nearly all ink of one of the two digits."""
    own = reduce(touching_pair(NOUGHT, SEVEN))
    cut, *_ = find_cuts(own, 6)
    columns = np.flatnonzero((own > 128)[own.shape[0] // 2])
    assert not cut[own.shape[0] // 2, columns[0]]
    assert cut[0, -1]


def test_cuts_differ() -> None:
    """Each cut puts other ink on its right side, and fewer cuts are the first of more."""
    own = reduce(touching_pair(NOUGHT, SEVEN))
    cuts = find_cuts(own, 6)
    assert len(cuts) > 1
    assert np.array_equal(find_cuts(own, 1), cuts[:1])
    assert len({(cut & (own > 63)).tobytes() for cut in cuts}) == len(cuts)


def test_ink_that_no_cut_divides_into_two_high_parts_has_none() -> None:
    """A vertical stroke has no cut."""
    assert find_cuts(reduce(draw(ONE)), 6) == []


def test_wide_ink_is_reduced() -> None:
    """Ink of any shape is reduced to a bounded number of pixels."""
    assert reduce(np.full((40, 4000), 255, np.uint8)).size <= 56 * 168
    assert reduce(np.full((4000, 40), 255, np.uint8)).size <= 56 * 168

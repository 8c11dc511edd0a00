"""Generated digits in styles that MNIST lacks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from digits.data import fetch
from digits.tasks.task import find
from digits.training.glyphs import FORMS, Points
from digits.training.pen_styles import generate
from digits.training.recipe import PRESETS


def _drawn(label: int, count: int = 500) -> list[list[Points]]:
    """Return the strokes of that many glyphs of a label."""
    rng, draw = np.random.default_rng(0), dict(FORMS)[label]
    return [draw(rng) for _ in range(count)]


def test_forms_are_equally_frequent() -> None:
    """Images and labels have the documented form, all images differ, and the seed determines them."""
    count = 50 * len(FORMS)
    images, labels = generate(count, seed=3)
    assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (count, 28, 28), np.uint8)
    assert {label: int((labels == label).sum()) for label in range(10)} == {
        label: 50 * [each for each, _ in FORMS].count(label) for label in range(10)
    }
    assert len(np.unique(images.reshape(count, -1), axis=0)) == count
    assert np.array_equal(images, generate(count, seed=3)[0])
    assert not np.array_equal(images, generate(count, seed=4)[0])
    assert generate(0, seed=3)[0].shape == (0, 28, 28)


def test_glyphs_are_placed_as_the_reader_places_drawings() -> None:
    """The longer side is 20 pixels, and the centre of mass is that of MNIST's digits and of the reader's images."""
    images, _ = generate(200, seed=0)
    assert images.min() == 0
    assert images.max() == 255
    offsets = []
    for image in images:
        y, x = np.nonzero(image > 100)
        assert 17 <= max(np.ptp(y), np.ptp(x)) + 1 <= 21
        ink = image / image.sum()
        offsets.append([(ink.sum(1 - axis) * np.arange(28)).sum() - 14 for axis in (0, 1)])
        assert 0.04 < (image > 100).mean() < 0.3
    assert np.abs(offsets).max() < 1.5
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.2


def test_no_long_flag_of_a_1_is_as_flat_as_the_top_of_a_7() -> None:
    """Short flags may be flat, as in print; long ones rise clearly and may begin below the middle."""
    strokes = [glyph[0] for glyph in _drawn(1)]
    wide, high = np.array([stroke[stroke[:, 1].argmin()] - stroke[0] for stroke in strokes]).T * [[1], [-1]]
    rise = np.degrees(np.arctan2(high, wide))
    assert rise[wide > 0.5].min() > 20
    assert 0.05 < ((rise < 30) & (wide < 0.4)).mean() < 0.4
    assert ((rise < 35) & (wide > 0.5)).mean() > 0.1
    assert high.max() > 0.6


def test_some_4s_are_narrow_and_have_a_low_bar() -> None:
    """A good part of the 4s is drawn with the bar in the lowest third, whose second stroke does not cross it."""
    pairs = [glyph for glyph in _drawn(4) if len(glyph) == 2]
    low = [second[0, 1] > 0.45 and first[-1, 1] > 0.6 for first, second in pairs]
    assert 0.1 < np.mean(low) < 0.6


def test_some_4s_are_one_stroke_without_a_crossing() -> None:
    """The stroke goes down to the left, to the right and down again, like a flash of lightning."""
    single = [glyph[0] for glyph in _drawn(4) if len(glyph) == 1]
    assert 0.1 < len(single) / 500 < 0.5
    for stroke in single:
        above = stroke[stroke[:, 1] < 0.75, 0]
        assert above.argmin() < above.argmax()
        assert stroke[0, 1] < 0.1
        assert stroke[-1, 1] == 1


def test_slashes_of_0s_end_in_the_ring_or_beyond_it() -> None:
    """Each 0 has a slash through its middle, rising or upright and up to twice as long as the ring; none is level."""
    slashes = np.array([slash for _, slash in _drawn(0)])
    middle, span = slashes.mean(1), slashes[:, 0] - slashes[:, 1]
    assert np.abs(middle - 0.5).max() < 0.25
    assert (span[:, 1] < 0).mean() > 0.8  # upwards
    assert np.degrees(np.arctan2(*np.abs(span.T[::-1]))).min() > 30
    length = np.hypot(*span.T)
    assert length.min() < 0.7
    assert length.max() > 1.5


def test_some_6s_have_a_level_top_and_a_bowl_as_wide() -> None:
    """A part of the 6s has the strokes of a display, which with a narrow bowl alone would be more similar to a 5."""
    strokes = [stroke for (stroke,) in _drawn(6)]
    level = [stroke for stroke in strokes if np.ptp(stroke[:2, 1]) < 0.1 and np.ptp(stroke[:2, 0]) > 0.15]
    assert 0.1 < len(level) / 500 < 0.5
    assert all(np.ptp(stroke[stroke[:, 1] > 0.7, 0]) > 0.3 for stroke in level)


def test_8s_are_one_stroke_with_open_or_narrow_loops() -> None:
    """Some 8s do not return to their beginning, and in some the lower loop is narrow."""
    strokes = [stroke for (stroke,) in _drawn(8)]
    gap = np.array([np.hypot(*(stroke[0] - stroke[-1])) for stroke in strokes])
    assert (gap > 0.2).mean() > 0.15
    lower = np.array([np.ptp(stroke[stroke[:, 1] > 0.7, 0]) for stroke in strokes])
    assert (lower < 0.3).mean() > 0.2
    assert (lower > 0.5).mean() > 0.1


@pytest.mark.slow
def test_a_network_trained_on_glyphs_reads_them(
    mnist_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on 5,000 images with the preset's share of glyphs, the network reads many more of them."""
    import dataclasses

    from digits.training import fit, recipe

    train = fetch.fetch(find("digits"), "mnist", str(mnist_folder), tmp_path).train
    glyphs, labels = generate(500, seed=99)
    accuracy = {}
    for share in (0.0, PRESETS["fast"].generated_share):
        monkeypatch.setitem(PRESETS, "test", dataclasses.replace(PRESETS["fast"], generated_share=share))
        trained = fit.train(
            (train.images[:5000], train.labels[:5000]),
            (glyphs, labels),
            recipe.TrainingConfig(preset="test", epochs=2, batch_size=128),
            task=find("digits"),
        )
        accuracy[share] = trained.history[-1].val_accuracy
    assert accuracy[PRESETS["fast"].generated_share] > accuracy[0.0] + 0.1, accuracy

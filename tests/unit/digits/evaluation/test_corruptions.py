"""The corruptions of MNIST-C."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.evaluation.corruptions import CORRUPTIONS, COUNT, corrupt
from digits.tasks.task import Task, find
from tests.helpers.drawings import draw

DIGITS = find("digits")


def sevens(count: int = 70) -> Dataset:
    """Return sevens of different widths, labelled by their place modulo 10."""
    pens = np.linspace(2, 4, count)
    images = [draw([[(0.3, 0.3), (0.7, 0.3), (0.45, 0.75)]], side=28, pen=float(pen)) for pen in pens]
    return Dataset(np.array(images), (np.arange(count) % 10).astype(np.uint8))


def test_each_corruption_changes_the_images_in_its_way() -> None:
    """Fifteen sets have the labels of the test set; those without chance have the values of their definition."""
    test = sevens()
    found = corrupt(test, DIGITS)
    assert len(found) == len(CORRUPTIONS) == 15
    for name, each in found.items():
        assert (each.labels == test.labels).all(), name
        assert (each.images != test.images).any(axis=(1, 2)).all(), name
    levels = test.images.astype(int)
    assert np.abs(found["brightness"].images - np.minimum(levels + 127.5, 255)).max() <= 0.5
    assert (found["stripe"].images[:, :, 7:21] == levels[:, :, 7:21]).all()
    assert (found["stripe"].images[:, :, 21:] == 255 - levels[:, :, 21:]).all()
    ink = found["scale"].images.sum(axis=(1, 2)) / levels.sum(axis=(1, 2))
    assert ink == pytest.approx(0.7**2, abs=0.03)
    moved = [np.roll(levels, (3 * y, 3 * x), (1, 2)) for y in (-1, 1) for x in (-1, 1)]
    assert np.any([(found["translation"].images == each).all(axis=(1, 2)) for each in moved], axis=0).all()
    flipped = found["impulse noise"].images != levels
    assert flipped[levels == 0].mean() == pytest.approx(0.17 / 2, abs=0.01)
    assert set(np.unique(found["Canny edges"].images)) == {0, 255}


def test_the_same_seed_gives_the_same_images() -> None:
    """Two releases are compared on the same images; another seed gives others."""
    test = sevens(20)
    first, again, other = (corrupt(test, DIGITS, seed) for seed in (0, 0, 1))
    assert all((first[name].images == again[name].images).all() for name in first)
    assert (first["fog"].images != other["fog"].images).any()


def test_a_large_test_set_is_corrupted_in_part() -> None:
    """The images of a large test set that are corrupted are evenly spaced."""
    images = np.zeros((3 * COUNT, 28, 28), np.uint8)
    labels = (np.arange(3 * COUNT) // (COUNT // 2)).astype(np.uint8)
    chosen = corrupt(Dataset(images, labels), DIGITS)["scale"]
    assert np.bincount(chosen.labels).max() - np.bincount(chosen.labels).min() <= 1
    assert len(chosen) == COUNT


@pytest.mark.parametrize("task", [find("fashion"), dataclasses.replace(DIGITS, height=20)], ids=["photos", "size"])
def test_other_tasks_have_none(task: Task) -> None:
    """Photos and drawings of another size have no corruptions, because these are defined for MNIST's images."""
    assert corrupt(Dataset(np.zeros((3, *task.shape), np.uint8), np.zeros(3, np.uint8)), task) == {}

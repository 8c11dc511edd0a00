"""The checks of a user's data set, and its division into two parts."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.data.screening import Findings, Part, hold_out, screen
from digits.errors import DataError
from digits.tasks.task import Source, Task

TASK = Task("letters", ("a", "b", "c"), 8, 8, 1, "photo", False, Source("npz", test_share=0.2))


def part(*counts: int, seed: int = 0) -> Part:
    """Random images, so many of each class."""
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.uint8)
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 8, 8), np.uint8)
    return Part(Dataset(images, labels), [f"{seed}-{index}" for index in range(len(labels))])


def images(dataset: Dataset) -> set[bytes]:
    return {image.tobytes() for image in dataset.images}


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_a_share_of_each_class_is_held_out(share: float) -> None:
    """Each class has about the share in the test part, and every image is in one part."""
    whole = part(100, 40, 10)
    train, test = hold_out(whole, share)
    assert np.bincount(test.images.labels).tolist() == [round(share * n) or 1 for n in (100, 40, 10)]
    assert images(train.images) | images(test.images) == images(whole.images)
    assert len(train.images) + len(test.images) == 150


def test_the_division_depends_on_the_images_alone() -> None:
    """Another order gives the same parts, in the same order, and most images stay in theirs if others are added."""
    whole = part(50, 50, 50)
    shuffled = whole.take(np.random.default_rng(3).permutation(150).tolist())
    first, again = (screen(TASK, [each], Findings()) for each in (whole, shuffled))
    assert [each.digest() for each in first] == [each.digest() for each in again]
    _, more = hold_out(Part(*_joined(whole, part(10, 10, 10, seed=1))), TASK.data.test_share)
    assert len(images(more.images) & images(first[1])) >= 0.7 * len(first[1])


def _joined(one: Part, other: Part) -> tuple[Dataset, list[str]]:
    joined = Dataset(
        np.concatenate([one.images.images, other.images.images]),
        np.concatenate([one.images.labels, other.images.labels]),
    )
    return joined, [*one.names, *other.names]


def test_equal_images_are_not_in_both_parts() -> None:
    """Training images that are equal to a test image are removed and named; held-out images have no equals."""
    train, test = part(30, 30, 30), part(5, 5, 5, seed=1)
    findings = Findings()
    chosen, tested = screen(TASK, [Part(*_joined(train, test.take([0, 7]))), test], findings)
    assert not images(chosen) & images(tested)
    assert (len(chosen), len(tested)) == (90, 15)
    assert findings.lines() == ["1-0 is equal to 1-0 of the test images", "1-7 is equal to 1-7 of the test images"]
    twice, findings = Part(*_joined(train, train)), Findings()
    chosen, tested = screen(TASK, [twice], findings)
    assert not images(chosen) & images(tested)
    assert findings.count == 0


def test_too_many_equal_images_are_refused() -> None:
    """If the test part is a copy of the training part, the error says so."""
    train = part(10, 10, 10)
    with pytest.raises(DataError, match="30 of 60 images cannot be used"):
        screen(TASK, [train, train], Findings())


@pytest.mark.parametrize("counts", [(3, 3, 3), (10, 3, 200)])
def test_a_small_data_set_is_enough(counts: tuple[int, ...]) -> None:
    """Three images of each class are two to train and one to test."""
    train, test = screen(TASK, [part(*counts)], Findings())
    assert np.bincount(train.labels).min() == 2
    assert np.bincount(test.labels).min() == 1


@pytest.mark.parametrize("counts", [(3, 2, 3), (3, 0, 3), (1, 9, 9)])
def test_a_class_with_too_few_images_is_named(counts: tuple[int, ...]) -> None:
    """The error names the class and how many training and test images it has."""
    with pytest.raises(DataError, match=r"2 training images and 1 test image of each class, found fewer of [ab] \("):
        screen(TASK, [part(*counts)], Findings())


def test_many_small_classes_are_listed_up_to_a_limit() -> None:
    """With 50 classes without enough images, twenty are named."""
    task = dataclasses.replace(TASK, labels=tuple(f"label{number}" for number in range(50)))
    with pytest.raises(DataError, match="and 30 more"):
        screen(task, [part(*[2] * 50)], Findings())


def test_a_finding_is_a_short_text_that_a_terminal_shows() -> None:
    """Names of files may have control characters, or bytes that are no text; a damaged file may be one long word."""
    findings = Findings()
    findings.add("\x1b[31m" + os.fsdecode(b"\xff") + "x" * 1_000_000)
    (line,) = findings.lines()
    assert line.isprintable()
    assert max(len(line), len(DataError("x" * 1_000_000).message)) < 100_000

"""The signature follows the task, and bounds the requests of every task alike."""

from __future__ import annotations

import pytest

from digits.signature import endpoint_outputs, image_tensor, max_images, model_signature
from digits.tasks.task import find
from tests.helpers.tasks import task_text


def test_the_signature_follows_the_task() -> None:
    """Shapes have the task's sides, channels and number of labels."""
    task = find(task_text(("red", "green", "blue"), (12, 10, 3)))
    assert image_tensor(task).shape == (-1, 12, 10, 3)
    assert model_signature(task)["outputs"][0]["shape"] == [-1, 3]
    assert [output.name for output in endpoint_outputs(task)] == ["class", "probabilities", "label"]


def test_labels_that_are_their_numbers_are_no_output() -> None:
    """The endpoint adds no labels that say the same as the classes."""
    assert [output.name for output in endpoint_outputs(find("digits"))] == ["class", "probabilities"]
    assert endpoint_outputs(find(task_text(("1", "0"), (8, 8, 1))))[-1].name == "label"


@pytest.mark.parametrize(
    ("labels", "shape", "most"), [(10, (28, 28, 1), 1024), (2, (96, 96, 3), 29), (200, (8, 8, 1), 51)]
)
def test_a_request_of_any_task_has_no_more_values_than_one_of_digits(
    labels: int, shape: tuple[int, int, int], most: int
) -> None:
    """Larger images and more labels give fewer images per request."""
    assert max_images(find(task_text(tuple(map(str, range(labels))), shape))) == most

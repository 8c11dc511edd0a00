"""A small data set of the task digits, and a server that has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from digits.tasks.task import Task
from tests.helpers.mirror import Mirror, running_mirror
from tests.helpers.mnist_files import tiny_task


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with running_mirror() as server:
        yield server


@pytest.fixture
def tiny() -> Task:
    """The task digits with a small data set without mirrors."""
    return tiny_task()

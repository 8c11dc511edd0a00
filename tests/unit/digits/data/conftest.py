"""A small data set under MNIST's name, and a server that has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from digits.data import catalog
from digits.files import sha256_of
from tests.helpers.mirror import CONTENT, Mirror, running_mirror


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with running_mirror() as server:
        yield server


@pytest.fixture
def use_mirrors(monkeypatch: pytest.MonkeyPatch) -> Callable[..., catalog.Source]:
    """Return a function that replaces MNIST in the catalogue by the small data set with the given mirrors."""

    def use(*mirrors: str) -> catalog.Source:
        source = catalog.Source({name: (sha256_of(raw), len(raw)) for name, raw in CONTENT.items()}, mirrors)
        monkeypatch.setitem(catalog.SOURCES, "mnist", source)
        return source

    return use


@pytest.fixture
def source(use_mirrors: Callable[..., catalog.Source]) -> catalog.Source:
    """The small data set, without mirrors."""
    return use_mirrors()

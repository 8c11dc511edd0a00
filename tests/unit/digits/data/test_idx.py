"""IDX files: decompression, verification and parsing."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from digits.data import catalog
from digits.data.idx import parse, unpack
from digits.errors import DataError
from tests.helpers.mirror import CONTENT
from tests.helpers.mnist_files import idx

FILE = catalog.TEST_IMAGES


@pytest.mark.parametrize("shape", [(5,), (2, 28, 28), (0, 28, 28)])
def test_an_array_is_read_back(shape: tuple[int, ...]) -> None:
    """Labels have one dimension, images three."""
    array = np.arange(np.prod(shape), dtype=np.uint32).astype(np.uint8).reshape(shape)
    assert np.array_equal(parse(idx(array), "file"), array)


@pytest.mark.parametrize("magic", [b"\0\0\x0d\x03", b"\0\0\x08\x02", b"\0\1\x08\x03"])
def test_another_type_is_rejected(magic: bytes) -> None:
    """Files of floats, of two dimensions, or of another format are rejected with their first bytes."""
    with pytest.raises(DataError, match=f"file: .* found magic number {magic.hex()}"):
        parse(magic + bytes(100), "file")


def test_a_file_may_be_compressed_or_not(source: catalog.Source) -> None:
    """The content is returned in both cases."""
    for raw in (CONTENT[FILE], gzip.compress(CONTENT[FILE])):
        assert unpack(source, FILE, raw, "here") == CONTENT[FILE]


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: raw[:-1] + b"x"])
def test_other_content_is_rejected(change: object, source: catalog.Source) -> None:
    """Content of another size or digest is rejected, with the name of its origin."""
    raw = change(CONTENT[FILE])  # type: ignore[operator]
    for form in (raw, gzip.compress(raw)):
        with pytest.raises(DataError, match="here: expected"):
            unpack(source, FILE, form, "here")

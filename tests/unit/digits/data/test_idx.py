"""IDX files: decompression, verification and parsing."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from digits.data.idx import TEST_IMAGES, parse, unpack
from digits.errors import DataError
from digits.tasks.task import Source, Task
from tests.helpers.mirror import CONTENT
from tests.helpers.mnist_files import idx

FILE = TEST_IMAGES


@pytest.mark.parametrize("shape", [(5,), (2, 28, 28), (0, 28, 28), (2, 8, 9, 3)])
def test_an_array_is_read_back(shape: tuple[int, ...]) -> None:
    """Labels have one dimension, images three, or four in colour."""
    array = np.arange(np.prod(shape), dtype=np.uint32).astype(np.uint8).reshape(shape)
    assert np.array_equal(parse(idx(array), "file"), array)


@pytest.mark.parametrize("magic", [b"\0\0\x0d\x03", b"\0\0\x08\x02", b"\0\1\x08\x03"])
def test_another_type_is_rejected(magic: bytes) -> None:
    """Files of floats, of two dimensions, or of another format are rejected with their first bytes."""
    with pytest.raises(DataError, match=f"file: .* found magic number {magic.hex()}"):
        parse(magic + bytes(100), "file")


@pytest.mark.parametrize(
    "content", [b"", b"\0\0", idx(np.zeros((2, 8, 8), np.uint8))[:-1], b"\0\0\x08\x03" + b"\xff" * 12]
)
def test_a_size_that_the_content_does_not_have_is_rejected(content: bytes) -> None:
    """A truncated file, and one that states a huge shape, are rejected before an array is made."""
    with pytest.raises(DataError, match="file: expected"):
        parse(content, "file")


def test_content_without_a_digest_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose digest the task does not state is read up to a size, also if it is compressed."""
    monkeypatch.setattr("digits.data.idx.MAX_CONTENT", 1000)
    assert unpack(Source("idx"), FILE, gzip.compress(bytes(1000)), "here") == bytes(1000)
    for raw in (bytes(1001), gzip.compress(bytes(1001))):
        with pytest.raises(DataError, match="found more than 1000") as caught:
            unpack(Source("idx"), FILE, raw, "here")
        assert "how a larger file is accepted" in caught.value.remedy


def test_a_file_may_be_compressed_or_not(tiny: Task) -> None:
    """The content is returned in both cases."""
    for raw in (CONTENT[FILE], gzip.compress(CONTENT[FILE])):
        assert unpack(tiny.data, FILE, raw, "here") == CONTENT[FILE]


@pytest.mark.parametrize("change", [lambda raw: raw[:-1], lambda raw: raw + b"x", lambda raw: raw[:-1] + b"x"])
def test_other_content_is_rejected(change: object, tiny: Task) -> None:
    """Content of another size or digest is rejected, with the name of its origin."""
    raw = change(CONTENT[FILE])  # type: ignore[operator]
    for form in (raw, gzip.compress(raw)):
        with pytest.raises(DataError, match="here: expected"):
            unpack(tiny.data, FILE, form, "here")

"""IDX files, MNIST's format: decompression, verification and parsing. Only parsing imports NumPy."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from typing import TYPE_CHECKING

from digits.errors import DataError
from digits.files import sha256_of
from digits.tasks.task import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
MAX_HEADER = 4 + 4 * 4  # bytes before the data
MAX_CONTENT = 512 << 20  # bytes of a file whose size the task does not state; MNIST's largest has 47 million
_REMEDY = "delete it and download it again; DIGITS_DATA is the folder"
LIMITS = "docs/your-images.md states the limits of data sets, and how a larger file is accepted"


def unpack(source: Source, file: str, raw: bytes, origin: str) -> bytes:
    """Return the content of `file`, decompressed if `raw` is gzip data. `origin` is its path or URL, for errors.

    Raises:
        DataError: the size or SHA-256 of the content is not the one that the task states for the file, or it states
            none and the content has more than MAX_CONTENT bytes.
    """
    size = max_bytes(source, file)
    content = raw
    if raw[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(raw)) as stream:
                content = stream.read(size + 1)  # a small file may decompress to gigabytes
        except (OSError, EOFError, zlib.error) as exc:
            raise DataError(f"{origin}: truncated or damaged gzip file ({exc})", remedy=_REMEDY) from exc
    elif raw[:64].lstrip()[:1] == b"<":
        raise DataError(f"{origin}: expected a gzip file, found a web page (HTML)", remedy=_REMEDY)
    if len(content) > size or (len(content) < size and file in source.files):
        more = "more than " if len(content) > size else ""
        raise DataError(
            f"{origin}: expected {size} bytes, found {more}{min(len(content), size)}; it is truncated or another file",
            remedy=_REMEDY if file in source.files else LIMITS,
        )
    if file in source.files and (actual := sha256_of(content)) != (digest := source.files[file].sha256):
        raise DataError(f"{origin}: expected SHA-256 {digest}, found {actual}", remedy=_REMEDY)
    return content


def max_bytes(source: Source, file: str) -> int:
    """Return the greatest size of a file of a data set in bytes, decompressed."""
    return source.files[file].bytes if file in source.files else MAX_CONTENT


def parse(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return the array in an IDX file, uint8 (n,), (n, height, width) or (n, height, width, 3).

    The format is two zero bytes, the type 8 (uint8), the number of dimensions, their big-endian sizes, and the data.

    Raises:
        DataError: the first four bytes are others, or the content has another size.
    """
    import numpy as np

    shape, offset = parse_header(content, name)
    if len(content) != (expected := offset + math.prod(shape)):
        raise DataError(f"{name}: expected {expected} bytes for the shape {shape}, found {len(content)}")
    return np.frombuffer(content, np.uint8, offset=offset).reshape(shape)


def parse_header(content: bytes, name: str) -> tuple[tuple[int, ...], int]:
    """Return the shape of the array in an IDX file, and where its data begin, given the first MAX_HEADER bytes.

    Raises:
        DataError: it is no IDX file of bytes.
    """
    dims = content[3] if len(content) > 3 else 0
    if content[:3] != b"\0\0\x08" or dims not in (1, 3, 4) or len(content) < 4 + 4 * dims:
        raise DataError(f"{name}: expected an IDX file of bytes, found magic number {content[:4].hex()}")
    return tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, 4 + 4 * dims, 4)), 4 + 4 * dims

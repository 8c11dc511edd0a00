"""IDX files, MNIST's format: decompression, verification and parsing."""

from __future__ import annotations

import gzip
import io
import zlib

import numpy as np
from numpy.typing import NDArray

from digits.data.catalog import Source
from digits.errors import DataError
from digits.files import sha256_of

_REMEDY = "delete it and download it again; DIGITS_DATA is the folder"


def unpack(source: Source, file: str, raw: bytes, origin: str) -> bytes:
    """Return the content of `file`, decompressed if `raw` is gzip data. `origin` is its path or URL, for errors.

    Raises:
        DataError: the size or SHA-256 of the content is not the one in the catalogue.
    """
    digest, size = source.files[file]
    content = raw
    if raw[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(raw)) as stream:
                content = stream.read(size + 1)  # a small file may decompress to gigabytes
        except (OSError, EOFError, zlib.error) as exc:
            raise DataError(f"{origin}: truncated or damaged gzip file ({exc})", remedy=_REMEDY) from exc
    elif raw[:64].lstrip()[:1] == b"<":
        raise DataError(f"{origin}: expected a gzip file, found a web page (HTML)", remedy=_REMEDY)
    if len(content) != size:
        more = "more than " if len(content) > size else ""
        raise DataError(
            f"{origin}: expected {size} bytes, found {more}{min(len(content), size)}; it is truncated or another file",
            remedy=_REMEDY,
        )
    if (actual := sha256_of(content)) != digest:
        raise DataError(f"{origin}: expected SHA-256 {digest}, found {actual}", remedy=_REMEDY)
    return content


def parse(content: bytes, name: str) -> NDArray[np.uint8]:
    """Return the array in an IDX file, uint8 (n,) or (n, height, width).

    The format is two zero bytes, the type 8 (uint8), the number of dimensions, their big-endian sizes, and the data.

    Raises:
        DataError: the first four bytes are others.
    """
    dims = content[3]
    if content[:3] != b"\0\0\x08" or dims not in (1, 3):
        raise DataError(f"{name}: expected an IDX file of bytes, found magic number {content[:4].hex()}")
    shape = np.frombuffer(content, ">u4", dims, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape([int(n) for n in shape])

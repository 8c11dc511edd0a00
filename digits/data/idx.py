"""IDX files, MNIST's format: decompression, verification and parsing."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digits.data.catalog import Source
from digits.errors import DataError
from digits.files import sha256_of

MAX_ARRAY = 64 << 20  # bytes; MNIST's largest has 47 million
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


def from_keras(path: Path, file: str) -> bytes:
    """Return the content of the IDX file `file`, made from Keras's file with the four arrays of MNIST.

    Raises:
        DataError: it is not such a file.
    """
    name = ("x" if "images" in file else "y") + ("_train" if file.startswith("train") else "_test")
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as member:
            if archive.getinfo(f"{name}.npy").file_size > MAX_ARRAY:
                raise ValueError("it is larger than MNIST")
            array = np.lib.format.read_array(io.BytesIO(member.read(MAX_ARRAY)), allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile) as exc:
        raise DataError(f"{path}: expected Keras's mnist.npz with the array {name}: {exc}", remedy=_REMEDY) from exc
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.astype(np.uint8).tobytes()

"""Where the images come from: a folder, URL or object store, the cache, public mirrors, else scikit-learn's digits.

Every file is checked by the SHA-256 of its uncompressed content, so a mirror, a cache or a gzip wrapper
need not be trusted.
"""

from __future__ import annotations

import concurrent.futures
import gzip
import hashlib
import io
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from digits.data.catalog import (
    AUTO,
    FALLBACK,
    SOURCES,
    TEST_IMAGES,
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    Source,
    check_name,
)
from digits.data.dataset import Dataset
from digits.errors import DataError, MissingError
from digits.files import folder_from_url, sha256_of, write_whole
from digits.http import in_words, pool_for
from digits.settings import Settings
from digits.store import ObjectStore, find_scheme, open_store

PROBE_SECONDS = 8.0
READ_SECONDS = 60.0
SPARE_BYTES = 1 << 20  # for gzip's head, and so that a web page in a file's place is still read and named

Place = str | ObjectStore


@dataclass(frozen=True)
class Fetched:
    """A fetched data set: its name, the digest of its source, and its two parts."""

    name: str
    digest: str
    train: Dataset
    test: Dataset


def resolve(name: str, place: Place, cache: Path) -> str:
    """The data set that a run will get: `name` itself, or for "auto" MNIST where it can be had, else the fall-back.

    Decides within 10 s, and takes a `place` at its word: `fetch` looks there. Raises UsageError for any other name.
    """
    check_name(name)
    if name != AUTO:
        return name
    if place or all((cache / "mnist" / file).is_file() for file in SOURCES["mnist"].files):
        return "mnist"
    return "mnist" if _answering_mirror(SOURCES["mnist"]) else FALLBACK


def place_of(settings: Settings) -> Place:
    """Where the settings say that the files are: a folder, a URL, the object store of an s3:// address, or ''."""
    scheme = find_scheme(settings.data)
    return open_store(settings, settings.data) if scheme and scheme.remote else settings.data


def fetch(name: str, place: Place, cache: Path) -> Fetched:
    """The data set `name` from `place`, or where that is '' from a mirror.

    What came over the network is kept in `cache`, and taken from there.

    Args:
        name: "mnist" or another of SOURCES, "sklearn-digits", or "auto": MNIST where it can be had.
        place: see `place_of`.
        cache: a folder, which may not be there yet.

    Raises:
        StoreError: the object store does not answer, or refuses us.
        DataError: what was found is not the data set; says what was expected and found. Nothing is kept of it.
        MissingError: the place does not exist, or nothing answered.
    """
    name = resolve(name, place, cache)
    if name == FALLBACK:
        return _sklearn_digits()
    source = SOURCES[name]
    content = {file: _content(source, file, place, cache / name) for file in source.files}
    return Fetched(
        name,
        source.digest(),
        Dataset(_idx(content[TRAIN_IMAGES], TRAIN_IMAGES), _idx(content[TRAIN_LABELS], TRAIN_LABELS)),
        Dataset(_idx(content[TEST_IMAGES], TEST_IMAGES), _idx(content[TEST_LABELS], TEST_LABELS)),
    )


def check_place(name: str, place: str) -> None:
    """Check the files in the folder `place` without keeping them; a URL is not asked. Raises as `fetch`."""
    if place and urlsplit(place).scheme in {"", "file"} and name in SOURCES:
        for file in SOURCES[name].files:
            _from_folder(SOURCES[name], file, place)


def _content(source: Source, file: str, place: Place, cache: Path) -> bytes:
    if isinstance(place, str) and place and urlsplit(place).scheme in {"", "file"}:
        return _from_folder(source, file, place)
    cached = cache / file
    if cached.is_file():
        content = cached.read_bytes()
        if sha256_of(content) == source.files[file][0]:
            return content
    if not isinstance(place, str):
        content = _from_store(source, file, place)
        write_whole(cached, content)
        return content
    problems = []
    for base in (place,) if place else source.mirrors:
        try:
            content = _download(source, file, base.rstrip("/") + "/")
        except (DataError, OSError) as exc:
            problems.append(f"{base}: {exc}")
            continue
        write_whole(cached, content)
        return content
    raise MissingError(
        f"cannot get {file}: " + "; ".join(problems),
        remedy="set DIGITS_DATA to a folder with the four files, or --dataset sklearn-digits",
    )


def _from_folder(source: Source, file: str, place: str) -> bytes:
    folder = folder_from_url(place, "DIGITS_DATA")
    try:
        if not folder.is_dir():
            raise MissingError(
                f"DIGITS_DATA: no folder {folder}", remedy="point it at the folder with the data set's four files"
            )
        for path in (folder / f"{file}.gz", folder / file):
            if path.is_file():
                if (found := path.stat().st_size) > (most := source.files[file][1] + SPARE_BYTES):
                    raise DataError(
                        f"{path}: expected at most {most} bytes, found {found}; it is another file",
                        remedy="replace it by the data set's own; DIGITS_DATA names the folder",
                    )
                return _verified(source, file, path.read_bytes(), str(path))
    except OSError as exc:  # macOS asks the user whether a terminal may read Desktop, Documents and Downloads
        raise DataError(
            f"DIGITS_DATA: {exc.filename or folder} cannot be read: {exc.strerror}",
            remedy="allow this program to read it, or put the files into another folder",
        ) from exc
    raise MissingError(
        f"DIGITS_DATA: {folder} holds neither {file}.gz nor {file}",
        remedy=_put_there(source),
    )


def _put_there(source: Source) -> str:
    return f"put the data set's files there: {', '.join(source.files)}"


def _from_store(source: Source, file: str, store: ObjectStore) -> bytes:
    for key in (f"{file}.gz", file):
        if store.exists(key):
            return _verified(source, file, store.get(key), f"{store.uri}/{key}")
    raise MissingError(f"DIGITS_DATA: {store.uri} holds neither {file}.gz nor {file}", remedy=_put_there(source))


def _download(source: Source, file: str, base: str, timeout: float = READ_SECONDS) -> bytes:
    import urllib3

    expected_bytes = source.files[file][1]
    try:
        answer = pool_for(base).request(
            "GET",
            f"{base}{file}.gz",
            preload_content=False,
            retries=urllib3.Retry(total=2, redirect=3, backoff_factor=0.2) if timeout == READ_SECONDS else False,
            timeout=urllib3.Timeout(connect=min(3.0, timeout), read=min(10.0, timeout)),
        )
        try:
            if answer.status != 200:
                raise DataError(f"HTTP {answer.status}")
            raw, started = bytearray(), time.monotonic()
            # read1, because a whole block from a server that sends a byte now and then may never be there.
            while block := answer.read1(1 << 16):
                raw += block
                if len(raw) > expected_bytes + 1024:
                    raise DataError(f"sent more than the {expected_bytes} bytes that the file has")
                if time.monotonic() - started > timeout:
                    raise DataError(f"took longer than {timeout:.0f} s")
        finally:
            answer.release_conn()
    except urllib3.exceptions.HTTPError as exc:
        raise DataError(in_words(exc)) from exc
    return _verified(source, file, bytes(raw), f"{base}{file}.gz")


def _verified(source: Source, file: str, raw: bytes, where: str) -> bytes:
    """The uncompressed content of `raw` if it is exactly the expected one."""
    expected, size = source.files[file]
    remedy = "remove it and fetch it again; DIGITS_DATA names the folder"
    if raw[:2] == b"\x1f\x8b":
        try:
            with gzip.open(io.BytesIO(raw)) as stream:
                content = stream.read(size + 1)  # never unpack more than the file should hold
        except (OSError, EOFError, zlib.error) as exc:
            raise DataError(f"{where}: truncated or damaged gzip file ({exc})", remedy=remedy) from exc
    elif raw[:64].lstrip()[:1] == b"<":
        raise DataError(f"{where}: expected a gzip file, found a web page (HTML)", remedy=remedy)
    else:
        content = raw
    if len(content) != size:
        more = "more than " if len(content) > size else ""
        raise DataError(
            f"{where}: expected {size} bytes, found {more}{min(len(content), size)}; it is truncated or another file",
            remedy=remedy,
        )
    found = sha256_of(content)
    if found != expected:
        raise DataError(f"{where}: expected SHA-256 {expected}, found {found}", remedy=remedy)
    return content


def _idx(content: bytes, name: str) -> np.ndarray:
    """Parse an IDX file: two zero bytes, type 8 (uint8), number of dimensions, big-endian sizes, data."""
    dims = content[3]
    if content[:3] != b"\0\0\x08" or dims not in (1, 3):
        raise DataError(f"{name}: expected an IDX file of bytes, found magic number {content[:4].hex()}")
    shape = np.frombuffer(content, ">u4", dims, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dims).reshape([int(n) for n in shape])


def _answering_mirror(source: Source) -> str:
    """The first mirror that serves the smallest file rightly within PROBE_SECONDS, else ''."""
    smallest = min(source.files, key=lambda file: source.files[file][1])
    pool = concurrent.futures.ThreadPoolExecutor(len(source.mirrors))
    try:
        asked = {pool.submit(_download, source, smallest, base, PROBE_SECONDS - 1): base for base in source.mirrors}
        for done in concurrent.futures.as_completed(asked, timeout=PROBE_SECONDS):
            if done.exception() is None:
                return asked[done]
    except TimeoutError:
        pass
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return ""


def _sklearn_digits() -> Fetched:
    """scikit-learn's 1,797 handwritten digits of 8 x 8 pixels, given MNIST's treatment; every fifth is a test image."""
    from PIL import Image
    from sklearn.datasets import load_digits

    from digits.data.preprocessing import to_mnist

    bunch = load_digits()
    small = (bunch.images * (255 / 16)).astype(np.uint8)
    images = np.stack(
        [to_mnist(np.asarray(Image.fromarray(i).resize((80, 80), Image.Resampling.BICUBIC))) for i in small]
    )
    labels = bunch.target.astype(np.uint8)
    test = np.arange(len(labels)) % 5 == 0
    everything = Dataset(images, labels)
    digest = hashlib.sha256(small.tobytes() + labels.tobytes()).hexdigest()
    return Fetched(FALLBACK, digest, everything[~test], everything[test])

"""Search files, also compressed ones, and the arguments of processes for secrets."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import secrets as random
import threading
import urllib.parse
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Self

import psutil

from digits.settings import Settings

SAMPLE_SECONDS = 0.05


def planted(settings: Settings) -> tuple[Settings, str]:
    """Return settings with a canary in every secret, and the prefix of all canaries."""
    stem = f"canary-{random.token_hex(8)}"
    declared = [field.name for field in dataclasses.fields(settings) if field.metadata["secret"]]
    return dataclasses.replace(settings, **{name: f"{stem}-{name}" for name in declared}), stem


def forms(secret: str) -> set[bytes]:
    """Return the forms of a secret: plain and in the usual encodings, Base64 at each offset."""
    raw = secret.encode()
    packed = {base64.b64encode(bytes(n) + raw)[-(-n * 4 // 3) :].rstrip(b"=")[1:-1] for n in range(3)}
    return {raw, urllib.parse.quote(secret, safe="").encode(), raw.hex().encode(), *packed}


def holds(content: bytes, secrets: Collection[str]) -> bool:
    """Return whether the content has one of the secrets in any form."""
    return any(form in content for secret in secrets for form in forms(secret))


def stream_holds(blocks: Iterable[bytes], secrets: Collection[str]) -> bool:
    """Return whether a stream of blocks has one of the secrets, also across the border of two blocks."""
    kept = max(len(form) for secret in secrets for form in forms(secret))
    before = b""
    for block in blocks:
        if holds(before + block, secrets):
            return True
        before = (before + block)[-kept:]
    return False


def contents(path: Path) -> Iterator[bytes]:
    """Yield a file's content, and the content that is compressed in it."""
    yield path.read_bytes()
    with contextlib.suppress(OSError, EOFError, zlib.error):
        yield gzip.decompress(path.read_bytes())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            yield from (packed.read(name) for name in packed.namelist())


def files_with(folder: Path, secrets: Collection[str], *, but: Collection[str] = ()) -> list[str]:
    """Return the files below a folder whose name or content has a secret, except those in `but`."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.name not in but
        and (holds(str(path).encode(), secrets) or (path.is_file() and any(holds(c, secrets) for c in contents(path))))
    ]


class CommandLines(threading.Thread):
    """Samples the arguments of all processes while the block runs."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__(daemon=True)
        self._forms, self._over = {form for secret in secrets for form in forms(secret)}, threading.Event()
        self.seen: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        """Sample until the block ends."""
        while not self._over.wait(SAMPLE_SECONDS):
            self.looks += 1
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    line = "\0".join(process.cmdline())
                    if any(form in line.encode(errors="surrogateescape") for form in self._forms):
                        self.seen.add(line)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(10)

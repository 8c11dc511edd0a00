"""Looking for secrets where they should not be: in files of any kind, packed ones too, and in the list of processes."""

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
    """The settings with a canary in every secret that they declare, and what all of these begin with."""
    stem = f"canary-{random.token_hex(8)}"
    declared = [field.name for field in dataclasses.fields(settings) if field.metadata["secret"]]
    return dataclasses.replace(settings, **{name: f"{stem}-{name}" for name in declared}), stem


def forms(secret: str) -> set[bytes]:
    """What a secret looks like, as it is and in the usual disguises. Base64 is that of whatever stands before it."""
    raw = secret.encode()
    packed = {base64.b64encode(bytes(n) + raw)[-(-n * 4 // 3) :].rstrip(b"=")[1:-1] for n in range(3)}
    return {raw, urllib.parse.quote(secret, safe="").encode(), raw.hex().encode(), *packed}


def holds(content: bytes, secrets: Collection[str]) -> bool:
    """Whether any of the secrets is in there, in any form."""
    return any(form in content for secret in secrets for form in forms(secret))


def stream_holds(blocks: Iterable[bytes], secrets: Collection[str]) -> bool:
    """Whether any of the secrets is in what comes in blocks, also where it begins in one and ends in the next."""
    kept = max(len(form) for secret in secrets for form in forms(secret))
    before = b""
    for block in blocks:
        if holds(before + block, secrets):
            return True
        before = (before + block)[-kept:]
    return False


def contents(path: Path) -> Iterator[bytes]:
    """A file's content, and what is packed in it."""
    yield path.read_bytes()
    with contextlib.suppress(OSError, EOFError, zlib.error):
        yield gzip.decompress(path.read_bytes())
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            yield from (packed.read(name) for name in packed.namelist())


def files_with(folder: Path, secrets: Collection[str], *, but: Collection[str] = ()) -> list[str]:
    """The files under a folder, by name or content, that hold a secret; those named in `but` may."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.name not in but
        and (holds(str(path).encode(), secrets) or (path.is_file() and any(holds(c, secrets) for c in contents(path))))
    ]


class CommandLines(threading.Thread):
    """Looks at the arguments of all processes, again and again, while the block runs."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__(daemon=True)
        self._secrets, self._over = secrets, threading.Event()
        self.seen: set[str] = set()
        self.looks = 0

    def run(self) -> None:
        """Look until the block is left."""
        while not self._over.wait(SAMPLE_SECONDS):
            self.looks += 1
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    line = "\0".join(process.cmdline())
                    if holds(line.encode(errors="surrogateescape"), self._secrets):
                        self.seen.add(line)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join(10)

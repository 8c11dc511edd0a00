"""Files written whole or not at all, and their digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from digits.errors import DigitsError, MissingError, UsageError

WRITER_VARIABLE = "DIGITS_RUN"  # the run that a process works for


def sha256_of(content: bytes | Path) -> str:
    """Hex SHA-256 of some bytes or of a file's content."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content).hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """Hex SHA-256 over the names and the contents of all files below a folder."""
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}
    return sha256_of(canonical_json(files))


def folder_from_url(address: str, name: str) -> Path:
    """The folder that a `file://` URL or a plain path stands for; `name` is the setting's, for the error.

    Raises:
        UsageError: a URL with a host, of a relative path, or with a part that a folder has not: it would be dropped.
    """
    if not address.lower().startswith("file:"):
        return Path(address).expanduser()
    parts = urlsplit(address)
    if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise UsageError(
            f"{name}: expected file:///folder, an absolute path after three slashes, got {address!r}",
            remedy="write the whole path, such as file:///home/me/store, and %23 for # and %3F for ?",
        )
    return Path(unquote(parts.path))


def part_of(path: Path) -> Path:
    """A name beside `path` for what becomes it once it is whole: `.NAME.WRITER.RANDOM.part`.

    The writer is the run that this process works for, else its process id: by that, whoever finds the file later
    knows whether anybody still writes it. Of a step in a container the process id would be another process's outside.
    """
    writer = os.environ.get(WRITER_VARIABLE) or os.getpid()
    return path.with_name(f".{path.name}.{writer}.{secrets.token_hex(4)}.part")


def writer_of(part: Path) -> str:
    """The writer that `part_of` put into a name, the id of a run or of a process; of another name, any text."""
    return ["", "", *part.name.split(".")][-3]


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` for writing; it becomes `path` only if the block succeeds.

    Raises:
        DigitsError: the file system refused (full, read-only); names the path and removes the temporary file.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = part.open("xb")
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    try:
        with opened as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file whole: a temporary name, then a rename. Raises DigitsError as `whole_file`."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole."""
    write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def canonical_json(value: Any) -> bytes:
    """The one JSON text of `value` that digests are taken over: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def cannot_write(path: Path, exc: OSError) -> DigitsError:
    """What to raise where the file system refused `path`: MissingError where space lacks, else DigitsError."""
    kind = MissingError if exc.errno in {errno.ENOSPC, errno.EDQUOT} else DigitsError
    return kind(
        f"cannot write {path}: {exc.strerror or exc}", remedy="free some space, or set DIGITS_HOME to another place"
    )

"""Files that are written whole or not at all, and digests of files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import select
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from digits.errors import DigitsError, MissingError, UsageError, mask_address

PART = ".part"  # suffix of temporary files, .NAME.RANDOM.part
READ_SECONDS = 30.0  # in which a pipe or device that a user named must end, or something must be read from it
ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:/")  # not C:/; a Path has one slash
PARTS = f".*.{'[0-9a-f]' * 8}{PART}"


def sha256_of(content: bytes | Path) -> str:
    """Return the hex SHA-256 of bytes or of a file's content."""
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return hashlib.sha256(content).hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """Return the hex SHA-256 of the names and contents of all files below a folder."""
    files = {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}
    return sha256_of(canonical_json(files))


def folder_from_url(address: str, name: str) -> Path:
    """Return the folder of a `file://` URL or a plain path. `name` is the setting's, for the error message.

    Raises:
        UsageError: the URL has a host, a relative path, a query or a fragment.
    """
    if not address.lower().startswith("file:"):
        return user_path(address, name)
    parts = urlsplit(address)
    if parts.netloc or parts.query or parts.fragment or not parts.path.startswith("/"):
        raise UsageError(
            f"{name}: expected file:///folder, an absolute path after three slashes, got {mask_address(address)!r}",
            remedy="write the whole path, such as file:///home/me/store, and %23 for # and %3F for ?",
        )
    return Path(unquote(parts.path))


def user_path(text: str | Path, name: str = "") -> Path:
    """Return the path that a user wrote. A `~` that stands for no user's folder is kept, as a shell does.

    `name` is the setting's, for the error message, if it is one.

    Raises:
        UsageError: the text is empty, such as an unset variable of a shell; it does not mean the present folder. Or it
            is an address, which as a path would be a folder of this machine.
    """
    expected = f"{name}: expected" if name else "expected"
    if text == "":
        raise UsageError(f"{expected} a path or an address, got an empty text", remedy="write . for the present folder")
    if address := ADDRESS.match(str(text)):  # not shown whole, because a Path's password is not recognised
        raise UsageError(
            f"{expected} a path, got an address that begins with {address[0]}", remedy="give a path, such as ./folder"
        )
    return Path(os.path.expanduser(text))  # noqa: PTH111 # Path.expanduser raises RuntimeError


def real_path(path: Path) -> Path:
    """Return the path without links. Those in a circle stay; for them Path.resolve raises RuntimeError."""
    return Path(os.path.realpath(path))


@contextmanager
def whole_file(path: Path, *, replace: bool = True, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a temporary file next to `path` for writing. If the block succeeds, rename the file to `path`.

    The folder is created, and the umask applies to `mode`. If not `replace`, exactly one of several writers succeeds,
    by a hard link. The file is locked during the block: if this process is killed, the lock is released, and
    `remove_abandoned` removes the file.

    Raises:
        DigitsError: the file system refused (full, read-only).
        OSError: the hard link failed (not `replace`); FileExistsError if `path` exists.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part, file = _open_locked(path, mode)
    except OSError as exc:
        raise cannot_write(path, exc) from exc
    try:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if replace:
                part.replace(path)
        except OSError as exc:
            raise cannot_write(path, exc) from exc
        if not replace:
            os.link(part, path)
    finally:
        part.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # after a failed write, closing fails again
            file.close()


def _open_locked(path: Path, mode: int) -> tuple[Path, IO[bytes]]:
    """Create a temporary file for `path` and lock it. Return its path and the open file."""
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART}")
        file = open(part, "x+b", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115 # returned
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()  # `remove_abandoned` of another process locked it first and removes it
            continue
        except OSError:
            return part, file  # this file system has no locks, so `remove_abandoned` removes nothing there
        if os.fstat(file.fileno()).st_nlink:
            return part, file
        file.close()


def remove_abandoned(parts: Iterable[Path]) -> None:
    """Remove the temporary files that no process has locked, because their writers were killed."""
    for part in parts:
        with contextlib.suppress(OSError), part.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()
            Path(f"{part}-journal").unlink(missing_ok=True)  # of a SQLite database


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all. Raises DigitsError as `whole_file`."""
    with whole_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def find_unwritable(folder: Path) -> str:
    """Return what prevents a file in `folder`: it, or its nearest parent that exists, and why; '' if nothing does.

    A file is created there, because os.access also allows what a network file system or the kernel refuses to root.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as exc:
        return f"{existing} " + (f"cannot be written: {exc.strerror}" if os.path.isdir(existing) else "is not a folder")  # noqa: PTH112
    return ""


def check_output(path: Path) -> None:
    """Create and remove a temporary file where `write_output` would write one. Raises as `write_output`."""
    with _named_output(path):
        if not _is_stream(path):
            target = real_path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            part, file = _open_locked(target, 0o600)
            file.close()
            part.unlink()


def write_output(path: Path, content: bytes) -> None:
    """Write a file that a user named: whole or not at all, unless it is a stream: a device or a pipe.

    A link is followed. Raises DigitsError if the file system refuses, or for a folder, a socket or a disk.
    """
    with _named_output(path):
        if _is_stream(path):
            _write_stream(path, content)
        else:
            write_whole(real_path(path), content)


@contextmanager
def _named_output(path: Path) -> Iterator[None]:
    """Raise an error within the block as one of a file that a user named. Raises UsageError if it is no path."""
    user_path(path)
    remedy = "name a file that this user can write, where there is space"
    try:
        yield
    except OSError as exc:
        raise DigitsError(cannot_write(path, exc).message, remedy=remedy) from exc
    except DigitsError as exc:
        exc.remedy = remedy
        raise


def _is_stream(path: Path) -> bool:
    """Return whether a path is a character device or a pipe. Raises OSError if it is no file either."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISREG(mode):
        return False
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return True
    raise OSError("it is neither a file, a pipe nor a character device")


def _write_stream(path: Path, content: bytes) -> None:
    """Write to a pipe or device. Raises OSError if it refuses, or if nothing is read from a pipe for READ_SECONDS."""
    until, rest = time.monotonic() + READ_SECONDS, memoryview(content)
    while True:
        try:
            # Not blocking, because otherwise opening a pipe waits for its reader without a limit.
            file = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            break
        except OSError as exc:
            if exc.errno != errno.ENXIO or time.monotonic() > until:
                raise
            time.sleep(0.05)
    try:
        while rest:
            if not select.select([], [file], [], READ_SECONDS)[1]:
                raise TimeoutError(errno.ETIMEDOUT, f"nothing was read from it for {READ_SECONDS:g} s", str(path))
            rest = rest[os.write(file, rest) :]
    finally:
        os.close(file)


def read_own(path: Path) -> str:
    """Return the text of a file that digits wrote. Raises OSError, also for a pipe, whose writer it would wait for."""
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "expected a file", str(path))
    return path.read_text()


def read_named(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file, pipe or device that a user named.

    Raises:
        OSError: it cannot be read, has more than `max_bytes`, or does not end within READ_SECONDS.
    """
    until, content = time.monotonic() + READ_SECONDS, bytearray()
    # Not blocking, because otherwise opening a pipe waits for its writer without a limit.
    with open(path, "rb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        while len(content) <= max_bytes:
            if not select.select([file], [], [], max(0, until - time.monotonic()))[0]:
                raise TimeoutError(errno.ETIMEDOUT, f"it did not end within {READ_SECONDS:g} s", str(path))
            part = file.read(min(1 << 20, max_bytes + 1 - len(content)))
            if part == b"":
                return bytes(content)
            content += part or b""  # None: another process read it
    raise OSError(errno.EFBIG, f"it has more than {max_bytes:,} bytes", str(path))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON. Raises DigitsError as `whole_file`."""
    write_whole(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def parse_json(content: bytes | str) -> Any:
    """Return the value of JSON from a file or a server. Raises ValueError, also if it is nested too deeply."""
    try:
        return json.loads(content)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def canonical_json(value: Any) -> bytes:
    """Return the JSON text of `value` for digests: sorted keys, no spaces. Raises ValueError for NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def cannot_write(path: Path, exc: OSError) -> DigitsError:
    """Return the error for a write to `path` that failed: MissingError if the disk is full, else DigitsError."""
    full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
    remedy = "free some space there" if full else "allow this user to write there"
    reason: object = exc.strerror or exc
    if exc.errno in {errno.EEXIST, errno.ENOTDIR}:  # the system does not say which of the parents
        parents = (parent for parent in path.parents if os.path.lexists(parent) and not os.path.isdir(parent))  # noqa: PTH112
        if parent := next(parents, None):
            reason, remedy = f"{parent} is not a folder", f"move {parent} away"
    remedy += ", or set another place: DIGITS_HOME for runs and releases, TMPDIR for temporary files"
    return (MissingError if full else DigitsError)(f"cannot write {path}: {reason}", remedy=remedy)

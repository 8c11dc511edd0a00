"""Files are written whole or not at all, and pipes and devices are read within bounds."""

from __future__ import annotations

import hashlib
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from digits import files
from digits.errors import DigitsError
from digits.files import (
    canonical_json,
    check_output,
    folder_from_url,
    read_named,
    remove_abandoned,
    sha256_of,
    whole_file,
    write_json,
    write_output,
    write_whole,
)
from digits.settings import Settings
from digits.store.file import FileStore


def test_links_in_a_circle_are_errors_of_the_place(tmp_path: Path) -> None:
    """A home, a store and an output that are links in a circle are refused with their path, as no internal error."""
    (circle := tmp_path / "circle").symlink_to(circle)
    assert Settings(home=circle / "home").home == circle / "home"
    with pytest.raises(DigitsError, match=r"circle is not a folder"):
        FileStore(circle).put("a", b"x")
    with pytest.raises(DigitsError, match=r"cannot write .*circle"):
        write_output(circle / "pipeline.yaml", b"x")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Folders are created, an old content is replaced, and no temporary file remains."""
    path = tmp_path / "a" / "b.txt"
    write_whole(path, "old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    """A user whose umask keeps files from others gets no file that others can read."""
    code = "import sys, pathlib; from digits.files import write_whole; write_whole(pathlib.Path(sys.argv[1]), b'x')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "file")], umask=0o077, check=True, timeout=60)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_failed_block_leaves_the_old_file(tmp_path: Path) -> None:
    """An error while writing leaves the old file and no temporary file."""
    path = tmp_path / "file"
    write_whole(path, "old")
    with pytest.raises(ZeroDivisionError), whole_file(path) as file:  # noqa: PT012 # the block is what is tested
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_of_two_writers_creates_a_file(tmp_path: Path) -> None:
    """Without `replace` the first of two concurrent writers succeeds, and the other gets FileExistsError."""
    path = tmp_path / "file"
    with pytest.raises(FileExistsError), whole_file(path, replace=False, mode=0o600) as late:  # noqa: PT012
        with whole_file(path, replace=False, mode=0o600) as early:
            early.write(b"early")
        late.write(b"late")
    assert path.read_bytes() == b"early"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_only_unlocked_temporary_files_are_removed(tmp_path: Path) -> None:
    """A temporary file is removed if its writer no longer holds its lock, with the journal of a database."""
    names = (".a.1.part", ".b.2.part", ".b.2.part-journal")
    for name in names:
        (tmp_path / name).touch()
    with whole_file(tmp_path / "c") as written:
        remove_abandoned(sorted(tmp_path.glob(".*.part")))
        assert [str(path) for path in tmp_path.iterdir()] == [written.name]
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_full_disk_is_reported(tiny_disk: Path) -> None:
    """ENOSPC becomes an error with the path; the old file stays, and the temporary file is removed."""
    path = tiny_disk / "file"
    write_whole(path, "old")
    with pytest.raises(DigitsError, match="No space left") as refused:
        write_whole(path, os.urandom(1 << 20))
    assert str(path) in str(refused.value)
    assert "free some space" in str(refused.value)
    assert path.read_text() == "old"
    assert list(tiny_disk.iterdir()) == [path]


def test_a_write_that_fails_again_on_close_is_reported(tmp_path: Path) -> None:
    """If the file system refuses buffered bytes both on write and on close, the error names the path."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(DigitsError, match=f"cannot write {tmp_path}/file"), whole_file(tmp_path / "file") as file:
            file.write(bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    """A folder that cannot be created is an error that names the path and the file in its way."""
    (tmp_path / "file").write_text("")
    for name in ("file/below", "file/folder/below"):
        for write in (lambda path: write_whole(path, b""), lambda path: write_output(path, b""), check_output):
            with pytest.raises(DigitsError, match=f"cannot write {tmp_path}/{name}: {tmp_path}/file is not a folder"):
                write(tmp_path / name)
        with pytest.raises(DigitsError) as failure:
            write_whole(tmp_path / name, b"")
        assert failure.value.remedy.startswith(f"move {tmp_path}/file away")


def test_an_output_is_checked_without_a_trace(tmp_path: Path) -> None:
    """Before a command works, it is known whether its output can be written; a file, pipe or device stays as it is."""
    (tmp_path / "file").write_text("old")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "file", tmp_path / "new", tmp_path / "pipe", Path("/dev/full")):
        check_output(path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "pipe"]
    assert (tmp_path / "file").read_text() == "old"


def test_digests_of_bytes_and_files_agree(tmp_path: Path) -> None:
    """The digest of a file is the digest of its content."""
    content = os.urandom(3_000_000)
    write_whole(tmp_path / "f", content)
    assert sha256_of(tmp_path / "f") == sha256_of(content) == hashlib.sha256(content).hexdigest()


def test_a_folder_can_be_given_by_url_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL may have escapes and one slash or three; a path may begin with ~ or be relative."""
    odd = tmp_path / "a b#c%"
    assert folder_from_url(odd.as_uri(), "X") == folder_from_url(str(odd), "X") == odd
    assert folder_from_url("file:/data", "X") == folder_from_url("FILE:///data", "X") == Path("/data")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_from_url("~/data", "X") == tmp_path / "data"
    assert folder_from_url("data", "X") == Path("data")


def test_equal_values_have_the_same_json(tmp_path: Path) -> None:
    """The order of keys does not change the text, and values that JSON lacks are refused."""
    assert canonical_json({"b": 1, "a": [1, 2.5]}) == canonical_json({"a": [1, 2.5], "b": 1}) == b'{"a":[1,2.5],"b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json(float("nan"))
    write_json(tmp_path / "j", {"b": 1, "a": 2})
    assert (tmp_path / "j").read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


def test_a_pipe_or_device_is_written_and_not_replaced(tmp_path: Path) -> None:
    """A file that a user names is written through a link and into a pipe or device; errors name it."""
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, b"content")
    assert (os.read(reader, 20), pipe.is_fifo()) == (b"content", True)
    os.close(reader)
    (link := tmp_path / "link").symlink_to(tmp_path / "target")
    write_output(link, b"content")
    assert (link.is_symlink(), (tmp_path / "target").read_bytes()) == (True, b"content")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    for refused in (Path("/dev/full"), pipe / "file", tmp_path, tmp_path / "socket"):
        with pytest.raises(DigitsError, match=f"cannot write {refused}"):
            write_output(refused, b"content")


@pytest.mark.parametrize("opened", [False, True])
def test_a_pipe_that_is_not_read_ends_the_wait(opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe without a reader, or with one that does not read, is an error after a while."""
    monkeypatch.setattr(files, "READ_SECONDS", 0.2)
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) if opened else None
    with pytest.raises(DigitsError, match="cannot write"):
        write_output(pipe, bytes(1 << 20))
    if reader:
        os.close(reader)


def test_a_named_file_pipe_or_device_is_read(tmp_path: Path) -> None:
    """A file, a pipe whose writer comes later and writes in parts, and an empty device are read to their end."""
    (tmp_path / "file").write_bytes(b"content")
    os.mkfifo(pipe := tmp_path / "pipe")

    def write() -> None:
        time.sleep(0.1)
        with pipe.open("wb", buffering=0) as file:
            for _ in range(3):
                file.write(bytes(100_000))
                time.sleep(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    assert len(read_named(pipe, 300_000)) == 300_000
    writer.join(10)
    assert read_named(tmp_path / "file", 7) == b"content"
    assert read_named(Path("/dev/null"), 7) == b""


def test_reading_is_bounded_in_time_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe without a writer or without an end, an endless device, a folder and a socket are refused."""
    monkeypatch.setattr(files, "READ_SECONDS", 0.2)
    os.mkfifo(pipe := tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path, reason in (
            (pipe, "did not end within 0.2 s"),
            (Path("/dev/zero"), "more than 100,000 bytes"),
            (tmp_path, "directory"),
            (tmp_path / "socket", "No such device"),
            (tmp_path / "none", "No such file"),
        ):
            with pytest.raises(OSError, match=reason):
                read_named(path, 100_000)
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, b"x")
    with pytest.raises(TimeoutError):
        read_named(pipe, 100_000)
    os.close(writer)

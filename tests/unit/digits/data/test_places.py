"""The files of a data set: folders, hostile archives, object stores and web servers."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.data import places
from digits.data.fetch import fetch, files
from digits.data.places import Folder, Stored, Zip, open_files
from digits.errors import DataError, MissingError, UsageError
from digits.files import sha256_of
from digits.store.file import FileStore
from digits.tasks.task import DataFile, Source
from tests.helpers.shapes import shapes_task, write_shapes


def archive(*members: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as written:
        for name, content in members:
            written.writestr(zipfile.ZipInfo(name), content, compression)
    return file


def test_a_folder_may_be_deeper_than_the_stack(tmp_path: Path) -> None:
    """A file a thousand folders below is listed."""
    depth = 1200
    with contextlib.chdir(tmp_path):
        for _ in range(depth):
            Path("d").mkdir()
            os.chdir("d")
        Path("x.png").touch()
        found = Folder(tmp_path).names()
        Path("x.png").unlink()
        for _ in range(depth):  # pytest's removal is recursive, too
            os.chdir("..")
            Path("d").rmdir()
    assert found == ["d/" * depth + "x.png"]


def test_a_folder_lists_files_but_follows_no_link_to_a_folder(tmp_path: Path) -> None:
    """Hidden files and the files behind a link to a folder are not listed."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.png").touch()
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.png").touch()
    (root / ".cache").mkdir()
    (root / ".cache" / "2.png").touch()
    (root / "b").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root)
    assert Folder(root).names() == ["a/1.png"]


def test_links_in_a_circle(tmp_path: Path) -> None:
    """Links in a circle do not hide the other files; they are damaged files themselves."""
    for link, target in (("a", "a"), ("b", "c"), ("c", "b")):
        (tmp_path / link).symlink_to(tmp_path / target)
    (tmp_path / "1.png").touch()
    folder = Folder(tmp_path)
    assert folder.names() == ["1.png", "a", "b", "c"]
    for name in "abc":
        with pytest.raises(DataError, match="symbolic links"):
            folder.read(name, 10)


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    """A pipe, a device, a missing file and a large one are refused; nothing waits for them."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "inside").symlink_to("pipe")
    (tmp_path / "large").write_bytes(bytes(11))
    folder = Folder(tmp_path)
    for name, expected in (
        ("pipe", "found a pipe or device"),
        ("inside", "found a pipe or device"),
        ("zero", "found a link to a place outside"),
        ("../outside", "found a link to a place outside"),
        ("large", "more than 10 bytes"),
        ("none", "No such file"),
    ):
        with pytest.raises(DataError, match=expected):
            folder.read(name, 10)


def test_the_number_of_files_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder or archive with too many files is refused, for example if the place is the whole disk."""
    monkeypatch.setattr(places, "MAX_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(DataError, match="expected at most 3 files"):
        Folder(tmp_path).names()
    with pytest.raises(DataError, match="expected at most 3 files"):
        Zip(archive(*[(f"{number}.png", b"") for number in range(4)]), "here")


def test_a_folder_with_too_many_files_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with millions of files is refused as soon as there are too many."""
    read, entries = list[str](), os.scandir

    @contextlib.contextmanager
    def scan(folder: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
        with entries(folder) as found:
            yield (entry for entry in found if not read.append(entry.name))  # type: ignore[func-returns-value]

    monkeypatch.setattr(places, "MAX_FILES", 3)
    monkeypatch.setattr(os, "scandir", scan)
    for number in range(100):
        (tmp_path / f"{number}.png").touch()
    with pytest.raises(DataError, match="expected at most 3 files"):
        Folder(tmp_path).names()
    assert len(read) == 4


@pytest.mark.parametrize("name", ["../a.png", "a/../../b.png", "/etc/passwd", "a\\..\\b.png", "a/.."])
def test_an_archive_cannot_name_files_outside(name: str) -> None:
    """A name that leads out of the archive is refused."""
    with pytest.raises(DataError, match=r"here: expected relative names with / and"):
        Zip(archive(("a/1.png", b"x"), (name, b"x")), "here")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["a/1.png", "a/1.png\0.png"])
def test_two_files_of_one_name_are_refused(second: str) -> None:
    """An archive with two files of one name is refused, because programs differ in which they read."""
    with pytest.raises(DataError, match=r"here: .*two files named 'a/1.png'; pack it again"):
        Zip(archive(("a/1.png", b"x"), (second, b"y")), "here")
    assert Zip(archive(("a/", b""), ("a/", b""), ("a/1.png", b"x")), "here").names() == ["a/1.png"]


def test_names_that_a_folder_would_write_otherwise() -> None:
    """Some programs write ./ before each name; the files are those of the folder. Two spellings are two files."""
    opened = Zip(archive(("./", b""), ("./a/1.png", b"x"), ("a//./2.png", b"y"), ("./.DS_Store", b"")), "here")
    assert opened.names() == ["a/1.png", "a/2.png"]
    assert (opened.read("a/1.png", 9), opened.read("a/2.png", 9)) == (b"x", b"y")
    with pytest.raises(DataError, match=r"two files named 'a/1\.png'; pack it again"):
        Zip(archive(("a/1.png", b"x"), ("./a/1.png", b"y")), "here")


def test_an_object_whose_key_a_folder_would_write_otherwise_is_named(tmp_path: Path) -> None:
    """S3 allows ./a/1.png as a key; it is not left out silently."""

    class Odd(FileStore):
        def keys(self, prefix: str = "", *, min_age: float | None = None) -> list[str]:
            del prefix, min_age
            return ["./a/1.png"]

    opened = Stored(Odd(tmp_path))
    assert opened.names() == ["./a/1.png"]
    with pytest.raises(DataError, match=r"expected a plain relative key .*got './a/1.png'"):
        opened.read("./a/1.png", 9)


def test_a_bomb_is_not_unpacked() -> None:
    """A member that unpacks to more than it states or than is allowed is refused after that many bytes."""
    bomb = archive(("a/1.png", bytes(50_000_000)))
    with pytest.raises(DataError, match="expected at most 1000 bytes, found more"):
        Zip(bomb, "here").read("a/1.png", 1000)
    content = bytearray(bomb.getvalue())
    for at in (content.index(b"PK\x03\x04") + 22, content.index(b"PK\x01\x02") + 24):
        content[at : at + 4] = struct.pack("<I", 500)  # the size that it states
    with pytest.raises(DataError, match=r"a/1.png cannot be read"):
        Zip(io.BytesIO(content), "here").read("a/1.png", 1000)


def test_the_size_of_all_members_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many members that share their bytes are refused by the sum of their sizes."""
    monkeypatch.setattr(places, "MAX_UNPACKED", 1000)
    with pytest.raises(DataError, match="at most 1000 bytes unpacked, found 1200"):
        Zip(archive(*[(f"{number}.png", bytes(400)) for number in range(3)]), "here")


def test_an_encrypted_member_is_refused() -> None:
    """A member with a password cannot be read, which the error states."""
    content = bytearray(archive(("a/1.png", b"x" * 50)).getvalue())
    for at in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        content[at] |= 1
    with pytest.raises(DataError, match="password"):
        Zip(io.BytesIO(content), "here").read("a/1.png", 1000)


def test_any_damage_of_an_archive_is_an_error_of_the_data() -> None:
    """With random bytes changed, removed or added, an archive is read correctly or is a DataError."""
    random = np.random.default_rng(7)
    for compression in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        picture = random.integers(0, 4, 2000, np.uint8).tobytes()
        intact = archive(("a/1.png", picture), ("b/2.png", picture), compression=compression).getvalue()
        for _ in range(150):
            content = bytearray(intact)
            for _ in range(random.integers(1, 6)):
                content[random.integers(len(content))] = random.integers(256)
            if random.random() < 0.3:
                del content[random.integers(len(content)) :]
            try:
                opened = Zip(io.BytesIO(content), "here")
                for name in opened.names():
                    assert len(opened.read(name, 5000)) <= 5000
            except DataError:
                continue


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name of its base class
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with shapes.zip, and the address at which a server has it."""
    served = tmp_path / "served"
    served.mkdir()
    folder = write_shapes(tmp_path / "shapes")
    with zipfile.ZipFile(served / "shapes.zip", "w") as written:
        for path in folder.rglob("*.png"):
            written.write(path, path.relative_to(tmp_path))
    handler = functools.partial(QuietHandler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield served, f"http://127.0.0.1:{running.server_address[1]}/"
        running.shutdown()


def test_an_archive_from_a_web_server_is_verified(server: tuple[Path, str], tmp_path: Path) -> None:
    """A ZIP file by URL is read and cached if it has the stated digest, and needs one."""
    served, address = server
    content = (served / "shapes.zip").read_bytes()
    stated = {"shapes.zip": DataFile(sha256_of(content), len(content))}
    local = fetch(shapes_task(), "auto", str(tmp_path / "shapes"), tmp_path / "cache")
    for place in (address, f"{address}shapes.zip"):
        read = fetch(shapes_task(files=stated), "auto", place, tmp_path / "cache")
        assert (read.digest, read.train.digest()) == (local.digest, local.train.digest())
        assert (tmp_path / "cache" / "shapes" / "shapes.zip").read_bytes() == content
        (tmp_path / "cache" / "shapes" / "shapes.zip").unlink()
    with pytest.raises(UsageError, match=r"data\.files with the SHA-256"):
        fetch(shapes_task(), "auto", address, tmp_path / "cache")
    (served / "shapes.zip").write_bytes(content[:-1] + b"x")
    with pytest.raises(MissingError, match="expected SHA-256"):
        fetch(shapes_task(files=stated), "auto", address, tmp_path / "none")
    with pytest.raises(DataError, match="expected SHA-256"):
        fetch(shapes_task(files=stated), "auto", str(served / "shapes.zip"), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_object_store_holds_the_same_pictures(tmp_path: Path) -> None:
    """A copy in an object store gives the same digest and parts."""
    folder, store = write_shapes(tmp_path / "shapes"), FileStore(tmp_path / "store")
    for name, content in files(shapes_task(), str(folder), tmp_path / "cache"):
        store.put(name, content)
    assert Stored(store).read("circle/0.png", 1 << 40) == (folder / "circle" / "0.png").read_bytes()
    one, other = (fetch(shapes_task(), "auto", place, tmp_path / "cache") for place in (str(folder), store))
    assert (one.digest, one.test.digest()) == (other.digest, other.test.digest())


class Changing(FileStore):
    """A store that others change: it lists an object that is gone, and keys that are no paths."""

    def keys(self, prefix: str = "", **options: Any) -> list[str]:
        return [*super().keys(prefix, **options), "circle/gone.png", "circle//double.png", "circle/\x1b[2J.png"]


def test_objects_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    """Objects that are gone since the listing, or have odd keys, are findings like damaged files, not the end."""
    write_shapes(tmp_path / "store", count=20)
    read = fetch(shapes_task(), "auto", Changing(tmp_path / "store"), tmp_path / "cache")
    assert len(read.train) + len(read.test) == 60
    assert len(read.findings) == 3
    assert all(finding.isprintable() for finding in read.findings)


def test_a_place_is_necessary(tmp_path: Path) -> None:
    """Without a place, and at a place where nothing is, the error states what to set."""
    with pytest.raises(UsageError, match="expected a place"):
        open_files(Source("folder"), "", tmp_path)
    os.mkfifo(tmp_path / "pipe.zip")
    for name in ("nowhere", "pipe.zip", "long" * 99):
        with pytest.raises(MissingError, match=rf"there is no folder or file .*{name}"):
            open_files(Source("folder"), str(tmp_path / name), tmp_path)
    (tmp_path / "a.zip").write_bytes(zlib.compress(b"no archive"))
    with pytest.raises(DataError, match="expected a ZIP file"):
        open_files(Source("folder"), str(tmp_path / "a.zip"), tmp_path)

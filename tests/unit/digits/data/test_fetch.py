"""MNIST comes from a folder, a cache or a mirror, is checked by its content, and falls back loudly."""

from __future__ import annotations

import gzip
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from digits.data import catalog, fetch
from digits.errors import DataError, MissingError, UsageError
from digits.files import sha256_of
from tests.helpers.http_proxy import http_proxy
from tests.helpers.mnist_files import FILES, idx, tiny_files
from tests.helpers.support import ROOT

CONTENT = tiny_files()


class Mirror(http.server.BaseHTTPRequestHandler):
    """Serves the tiny files; the first part of the path says how."""

    def do_GET(self) -> None:
        how, name = self.path.strip("/").split("/")
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        body = gzip.compress(CONTENT[name.removesuffix(".gz")])
        if how == "missing":
            self.send_error(404)
            return
        if how == "web-page":
            body = b"<!doctype html><title>503, come back later</title>"
        if how == "truncated":
            body = body[:-9]
        if how == "other":
            body = gzip.compress(bytes(len(CONTENT[name.removesuffix(".gz")])))
        if how == "bomb":
            body = gzip.compress(bytes(200_000_000), compresslevel=1)[:9000]
        self.send_response(200)
        if how == "encoded":
            self.send_header("Content-Encoding", "gzip")
        if how == "cut":
            self.send_header("Content-Length", str(len(body) + 50))
        self.end_headers()
        if how in {"dripping", "endless"}:
            self.keep_sending(b"x" if how == "dripping" else bytes(1 << 16), 0.05 if how == "dripping" else 0)
            return
        self.wfile.write(body)

    def keep_sending(self, piece: bytes, pause: float) -> None:
        """Send for ever, or until the client has had enough."""
        try:
            while not self.server.over.wait(pause):  # type: ignore[attr-defined]
                self.wfile.write(piece)
        except OSError:
            return

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the name of its base class
        """Nothing."""


@pytest.fixture
def mirror() -> Iterator[http.server.ThreadingHTTPServer]:
    """A real HTTP server on this machine, with a list of what it was asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.daemon_threads = True
    server.asked, server.over = [], threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def at(server: http.server.ThreadingHTTPServer, how: str) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/{how}/"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> catalog.Source:
    """The tiny data set under MNIST's name, without any mirror."""
    return use(monkeypatch)


def use(monkeypatch: pytest.MonkeyPatch, *mirrors: str) -> catalog.Source:
    source = catalog.Source({name: (sha256_of(raw), len(raw)) for name, raw in CONTENT.items()}, mirrors)
    monkeypatch.setitem(catalog.SOURCES, "mnist", source)
    return source


def fill(folder: Path, *, zipped: bool = True) -> Path:
    folder.mkdir()
    for name, raw in CONTENT.items():
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(gzip.compress(raw) if zipped else raw)
    return folder


def test_the_real_data_set(mnist_folder: Path, tmp_path: Path) -> None:
    """MNIST's own files have the known digests and hold 60,000 and 10,000 images; the first test image is a 7."""
    fetched = fetch.fetch("mnist", str(mnist_folder), tmp_path)
    assert (len(fetched.train), len(fetched.test)) == (60_000, 10_000)
    assert fetched.test.labels[0] == 7
    assert np.bincount(fetched.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert not list(tmp_path.iterdir())


def test_a_file_that_may_not_be_read_is_named(
    source: catalog.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system refuses to read is a DataError that says which file and why."""
    folder = fill(tmp_path / "folder")

    def refused(path: Path) -> bytes:  # to root, as in CI, no file's mode refuses anything
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(DataError, match=rf"{folder}/.*gz cannot be read: Permission denied"):
        fetch.check_place("mnist", str(folder))


def test_a_folder_that_cannot_be_looked_at_is_named(source: catalog.Source, tmp_path: Path) -> None:
    """A folder that the system cannot even find out about, by its name's length here, is a DataError."""
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        fetch.fetch("mnist", str(tmp_path / ("long" * 99)), tmp_path / "cache")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", ["path", "uri"])
def test_a_folder_zipped_or_not(zipped: bool, form: str, source: catalog.Source, tmp_path: Path) -> None:
    """A folder may hold the files as they are published or unpacked, and be named by path or URI."""
    folder = fill(tmp_path / "with space", zipped=zipped)
    fetched = fetch.fetch("mnist", str(folder) if form == "path" else folder.as_uri(), tmp_path / "cache")
    assert (len(fetched.train), len(fetched.test)) == (7, 3)
    assert idx(fetched.train.images) == CONTENT[catalog.TRAIN_IMAGES]
    assert fetched.digest == source.digest()


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("truncated", "truncated or damaged gzip"),
        ("other", "expected SHA-256"),
        ("web page", r"found a web page \(HTML\)"),
        ("bomb", "found more than"),
        ("short", "it is truncated or another file"),
        ("empty", "found 0"),
    ],
)
def test_a_damaged_file_in_a_folder(how: str, expected: str, source: catalog.Source, tmp_path: Path) -> None:
    """The error names the file, what was expected and what was found, and says what to do."""
    folder = fill(tmp_path / "data")
    path, raw = folder / f"{catalog.TEST_IMAGES}.gz", CONTENT[catalog.TEST_IMAGES]
    path.write_bytes(
        {
            "truncated": gzip.compress(raw)[:-30],
            "other": gzip.compress(raw[:-1] + bytes([raw[-1] ^ 1])),
            "web page": b"\n<html><body>Service Unavailable",
            "bomb": gzip.compress(bytes(100_000_000), compresslevel=1),
            "short": gzip.compress(raw[:-1]),
            "empty": b"",
        }[how]
    )
    for check in (
        lambda: fetch.fetch("mnist", str(folder), tmp_path / "cache"),
        lambda: fetch.check_place("mnist", str(folder)),
    ):
        with pytest.raises(DataError, match=expected) as refused:
            check()
        assert str(path) in str(refused.value)
        assert "try:" in str(refused.value)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_a_file_that_is_far_too_large_is_not_read(suffix: str, source: catalog.Source, tmp_path: Path) -> None:
    """A file of a terabyte, all of it a hole, is refused for its size before memory has to hold it."""
    folder = fill(tmp_path / "data", zipped=bool(suffix))
    path = folder / f"{catalog.TRAIN_IMAGES}{suffix}"
    os.truncate(path, 1 << 40)
    with pytest.raises(DataError, match=rf"{path}: expected at most \d+ bytes, found {1 << 40}"):
        fetch.fetch("mnist", str(folder), tmp_path / "cache")


def test_a_missing_folder_or_file_is_named(source: catalog.Source, tmp_path: Path) -> None:
    """Exit code 3 territory: what is missing, where it was looked for, and how to get it."""
    with pytest.raises(MissingError, match="no folder") as refused:
        fetch.fetch("mnist", str(tmp_path / "nowhere"), tmp_path / "cache")
    assert str(tmp_path / "nowhere") in str(refused.value)
    folder = fill(tmp_path / "data")
    (folder / f"{catalog.TRAIN_LABELS}.gz").unlink()
    with pytest.raises(MissingError, match=f"holds neither {catalog.TRAIN_LABELS}.gz nor {catalog.TRAIN_LABELS}"):
        fetch.fetch("mnist", str(folder), tmp_path / "cache")


def test_a_url_is_fetched_once_and_then_cached(
    source: catalog.Source, mirror: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    """Four requests fill the cache; the next fetch asks nobody."""
    first = fetch.fetch("mnist", at(mirror, "good"), tmp_path)
    assert len(mirror.asked) == 4
    again = fetch.fetch("mnist", at(mirror, "good"), tmp_path)
    assert len(mirror.asked) == 4
    assert first.train.digest() == again.train.digest()
    assert sorted(p.name for p in (tmp_path / "mnist").iterdir()) == sorted(FILES)


def test_behind_a_proxy_mnist_is_found(
    monkeypatch: pytest.MonkeyPatch, mirror: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    """Mirrors are looked for, and fetched from, by way of HTTP_PROXY."""
    use(monkeypatch, at(mirror, "good"))
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with http_proxy() as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        assert fetch.resolve("auto", "", tmp_path) == "mnist"
        assert len(fetch.fetch("auto", "", tmp_path).train) == 7
    assert len(between.asked) >= 5  # one to look, and each of the four files
    assert between.asked == [f"GET http://127.0.0.1:{mirror.server_address[1]}{path}" for path in mirror.asked]


def test_a_transparent_encoding_is_understood(
    source: catalog.Source, mirror: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    """A server that declares the gzip as its content's encoding serves the same data set."""
    assert len(fetch.fetch("mnist", at(mirror, "encoded"), tmp_path).train) == 7


def test_a_damaged_cache_heals(source: catalog.Source, mirror: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    """A cached file whose content changed is fetched anew, and only that one."""
    fetch.fetch("mnist", at(mirror, "good"), tmp_path)
    mirror.asked.clear()
    (tmp_path / "mnist" / catalog.TEST_LABELS).write_bytes(b"rubbish")
    fetch.fetch("mnist", at(mirror, "good"), tmp_path)
    assert mirror.asked == [f"/good/{catalog.TEST_LABELS}.gz"]
    assert (tmp_path / "mnist" / catalog.TEST_LABELS).read_bytes() == CONTENT[catalog.TEST_LABELS]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("missing", "HTTP 404"),
        ("web-page", "web page"),
        ("truncated", "truncated or damaged"),
        ("other", "expected SHA-256"),
        ("bomb", "more than|damaged"),
        ("endless", "sent more than"),
        ("cut", "the connection broke off"),
    ],
)
def test_a_bad_server_leaves_nothing(
    how: str, expected: str, source: catalog.Source, mirror: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    """Whatever a server sends that is not the file is refused with the reason, and nothing is kept of it."""
    with pytest.raises(MissingError, match=expected) as refused:
        fetch.fetch("mnist", at(mirror, how), tmp_path)
    assert at(mirror, how) in str(refused.value)
    assert "sklearn-digits" in str(refused.value)
    assert not list(tmp_path.rglob("*ubyte*"))


def test_the_next_mirror_is_asked(
    monkeypatch: pytest.MonkeyPatch, mirror: http.server.ThreadingHTTPServer, tmp_path: Path
) -> None:
    """A mirror that sends a web page is passed over for one that serves the file."""
    use(monkeypatch, at(mirror, "web-page"), at(mirror, "good"))
    assert fetch.resolve("auto", "", tmp_path) == "mnist"
    assert len(fetch.fetch("auto", "", tmp_path).test) == 3


def test_nobody_answering_means_the_fall_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a place, a cache and a mirror that answers, scikit-learn's digits are taken and marked as such."""
    use(monkeypatch, "http://127.0.0.1:9/", "http://127.0.0.1:1/")
    assert fetch.resolve("auto", "", tmp_path) == catalog.FALLBACK
    fetched = fetch.fetch("auto", "", tmp_path)
    assert fetched.name == catalog.FALLBACK
    assert (len(fetched.train), len(fetched.test)) == (1437, 360)
    assert fetched.train.images.max() > 200
    with pytest.raises(MissingError, match=r"cannot get .*:9/: connection refused"):
        fetch.fetch("mnist", "", tmp_path)


def test_a_full_cache_asks_nobody(source: catalog.Source, tmp_path: Path) -> None:
    """With all four files in the cache no mirror is needed."""
    fill(tmp_path / "mnist", zipped=False)
    assert fetch.resolve("auto", "", tmp_path) == "mnist"
    assert len(fetch.fetch("auto", "", tmp_path).train) == 7


def test_a_place_that_is_given_is_never_replaced(source: catalog.Source, tmp_path: Path) -> None:
    """A user who says where the data is gets an error, not other data, if it is not there."""
    assert fetch.resolve("auto", str(tmp_path / "nowhere"), tmp_path) == "mnist"


def test_an_unknown_data_set_lists_the_known(tmp_path: Path) -> None:
    """The error of a wrong name holds the right ones."""
    known = ", ".join([catalog.AUTO, *catalog.SOURCES, catalog.FALLBACK])
    with pytest.raises(UsageError, match=f"{known}, got 'letters'"):
        fetch.resolve("letters", "", tmp_path)


@pytest.mark.slow
def test_a_dripping_mirror_does_not_hold_a_program_up(mirror: http.server.ThreadingHTTPServer, tmp_path: Path) -> None:
    """A mirror that sends a byte now and then for ever is given up, and the program can end."""
    script = (
        "import sys; from pathlib import Path; from digits.data import catalog, fetch; s = catalog.SOURCES['mnist']\n"
        "catalog.SOURCES['mnist'] = catalog.Source(s.files, (sys.argv[1],))\n"
        "print(fetch.resolve('auto', '', Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, at(mirror, "dripping"), str(tmp_path)]
    # Eight seconds to decide, and as much again for a slow machine to start Python and to let go of the connection.
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert done.stdout.strip() == catalog.FALLBACK

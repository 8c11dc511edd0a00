"""Downloads from a web server on this machine that serves the files correctly or not."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from digits.data import catalog, fetch, sources
from digits.data.download import download, find_mirror
from digits.data.idx import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES
from digits.errors import DataError, MissingError
from digits.tasks.task import Task
from tests.helpers.forward_proxy import forward_proxy
from tests.helpers.mirror import CONTENT, Mirror
from tests.helpers.mnist_files import tiny_task
from tests.helpers.support import ROOT


def test_a_file_is_decompressed(tiny: Task, mirror: Mirror) -> None:
    """The content of the compressed file is returned."""
    file = TEST_IMAGES
    assert download(tiny.data, file, mirror.url("good")) == CONTENT[file]
    assert mirror.requests == [f"/good/{file}.gz"]


def test_a_transparent_encoding_is_decoded(tiny: Task, mirror: Mirror) -> None:
    """A server may declare the gzip format as the content's encoding."""
    assert download(tiny.data, TEST_IMAGES, mirror.url("encoded")) == CONTENT[TEST_IMAGES]


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ("missing", "HTTP 404"),
        ("web-page", "web page"),
        ("truncated", "truncated or damaged"),
        ("other", "expected SHA-256"),
        ("bomb", "more than|damaged"),
        ("endless", "sent more than"),
        ("cut", "the connection broke off"),
        ("to itself", "too many redirects"),
        ("to a file", "not a web address"),
        ("to nowhere", "not a web address"),
    ],
)
def test_a_bad_server_leaves_nothing(behaviour: str, expected: str, tiny: Task, mirror: Mirror, tmp_path: Path) -> None:
    """A response that is not the file is rejected with the reason, and nothing of it is cached."""
    with pytest.raises(MissingError, match=expected) as error:
        fetch.fetch(tiny, "mnist", mirror.url(behaviour), tmp_path)
    assert mirror.url(behaviour) in str(error.value)
    assert "sklearn-digits" in str(error.value)
    assert not list(tmp_path.rglob("*ubyte*"))


@pytest.mark.parametrize("behaviour", ["dripping", "dripping head", "later"])
def test_a_slow_server_is_abandoned(behaviour: str, tiny: Task, mirror: Mirror) -> None:
    """The whole download has a deadline, even if the server sends a byte now and then, or asks to come back later."""
    began = time.monotonic()
    with pytest.raises((DataError, TimeoutError), match=r"timed out|HTTP 503"):
        download(tiny.data, TRAIN_IMAGES, mirror.url(behaviour), seconds=0.5)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("behaviour", ["cut once", "truncated once", "other once"])
def test_a_download_that_breaks_off_is_repeated(behaviour: str, tiny: Task, mirror: Mirror) -> None:
    """A response that ends early, stated or not, or that is damaged is requested once more from the same server."""
    assert download(tiny.data, TEST_IMAGES, mirror.url(behaviour)) == CONTENT[TEST_IMAGES]
    assert len(mirror.requests) == 2


def test_the_first_good_mirror_is_found(mirror: Mirror) -> None:
    """Mirrors that serve a web page or refuse the connection are skipped."""
    urls = ("http://127.0.0.1:9/", mirror.url("web-page"), mirror.url("good"))
    assert find_mirror(tiny_task(*urls).data) == mirror.url("good")
    assert find_mirror(tiny_task(*urls[:2]).data) == ""


def test_downloads_use_the_proxy(monkeypatch: pytest.MonkeyPatch, mirror: Mirror, tmp_path: Path) -> None:
    """Mirrors are probed, and files downloaded, through HTTP_PROXY."""
    tiny = tiny_task(mirror.url("good"))
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with forward_proxy() as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        assert sources.resolve(tiny, "auto", "", tmp_path) == "mnist"
        assert len(fetch.fetch(tiny, "auto", "", tmp_path).train) == 7
    assert len(between.requests) >= 5  # one probe, and each of the four files
    assert between.requests == [f"GET http://127.0.0.1:{mirror.server_address[1]}{path}" for path in mirror.requests]


@pytest.mark.slow
def test_a_slow_mirror_does_not_keep_a_program_alive(mirror: Mirror, tmp_path: Path) -> None:
    """If a mirror sends a byte now and then, the fallback is used, and the program can end."""
    script = (
        "import sys; from pathlib import Path; from digits.data import sources; from digits.tasks.task import find\n"
        "print(sources.resolve(find(sys.argv[1]), 'auto', '', Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, tiny_task(mirror.url("dripping")).text(), str(tmp_path)]
    # Eight seconds to decide, and as much again for a slow machine to start Python and to close the connection.
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert done.stdout.strip() == catalog.FALLBACK


def test_a_signature_stays_at_the_end_of_the_address(tiny: Task, mirror: Mirror) -> None:
    """The file's name is put before the query of a signed address."""
    file = TEST_LABELS
    assert download(tiny.data, file, f"{mirror.url('good')}?X-Amz-Signature=abc") == CONTENT[file]
    assert mirror.requests == [f"/good/{file}.gz?X-Amz-Signature=abc"]

"""Downloads from a web server on this machine that serves the files correctly or not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from digits.data import catalog, fetch
from digits.data.download import download, find_mirror
from digits.errors import DataError, MissingError
from digits.tasks.task import find
from tests.helpers.forward_proxy import forward_proxy
from tests.helpers.mirror import CONTENT, Mirror
from tests.helpers.support import ROOT


def test_a_file_is_decompressed(source: catalog.Source, mirror: Mirror) -> None:
    """The content of the compressed file is returned."""
    file = catalog.TEST_IMAGES
    assert download(source, file, mirror.url("good")) == CONTENT[file]
    assert mirror.requests == [f"/good/{file}.gz"]


def test_a_transparent_encoding_is_decoded(source: catalog.Source, mirror: Mirror) -> None:
    """A server may declare the gzip format as the content's encoding."""
    assert download(source, catalog.TEST_IMAGES, mirror.url("encoded")) == CONTENT[catalog.TEST_IMAGES]


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
    ],
)
def test_a_bad_server_leaves_nothing(
    behaviour: str, expected: str, source: catalog.Source, mirror: Mirror, tmp_path: Path
) -> None:
    """A response that is not the file is rejected with the reason, and nothing of it is cached."""
    with pytest.raises(MissingError, match=expected) as error:
        fetch.fetch(find("digits"), "mnist", mirror.url(behaviour), tmp_path)
    assert mirror.url(behaviour) in str(error.value)
    assert "sklearn-digits" in str(error.value)
    assert not list(tmp_path.rglob("*ubyte*"))


def test_a_slow_server_is_abandoned(source: catalog.Source, mirror: Mirror) -> None:
    """The whole download has a deadline, even if the server sends a byte now and then."""
    with pytest.raises((DataError, TimeoutError), match="timed out"):
        download(source, catalog.TRAIN_IMAGES, mirror.url("dripping"), seconds=0.5, retries=0)


def test_the_first_good_mirror_is_found(use_mirrors: Callable[..., catalog.Source], mirror: Mirror) -> None:
    """Mirrors that serve a web page or refuse the connection are skipped."""
    urls = ("http://127.0.0.1:9/", mirror.url("web-page"), mirror.url("good"))
    assert find_mirror(use_mirrors(*urls)) == mirror.url("good")
    assert find_mirror(use_mirrors(*urls[:2])) == ""


def test_downloads_use_the_proxy(
    monkeypatch: pytest.MonkeyPatch, use_mirrors: Callable[..., catalog.Source], mirror: Mirror, tmp_path: Path
) -> None:
    """Mirrors are probed, and files downloaded, through HTTP_PROXY."""
    use_mirrors(mirror.url("good"))
    monkeypatch.delenv("no_proxy")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with forward_proxy() as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        assert fetch.resolve(find("digits"), "auto", "", tmp_path) == "mnist"
        assert len(fetch.fetch(find("digits"), "auto", "", tmp_path).train) == 7
    assert len(between.requests) >= 5  # one probe, and each of the four files
    assert between.requests == [f"GET http://127.0.0.1:{mirror.server_address[1]}{path}" for path in mirror.requests]


@pytest.mark.slow
def test_a_slow_mirror_does_not_keep_a_program_alive(mirror: Mirror, tmp_path: Path) -> None:
    """If a mirror sends a byte now and then, the fallback is used, and the program can end."""
    script = (
        "import sys; from pathlib import Path; from digits.data import catalog, fetch\n"
        "from digits.tasks.task import find\n"
        "catalog.SOURCES['mnist'] = catalog.Source(catalog.SOURCES['mnist'].files, (sys.argv[1],))\n"
        "print(fetch.resolve(find('digits'), 'auto', '', Path(sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, mirror.url("dripping"), str(tmp_path)]
    # Eight seconds to decide, and as much again for a slow machine to start Python and to close the connection.
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=True)
    assert done.stdout.strip() == catalog.FALLBACK


def test_a_signature_stays_at_the_end_of_the_address(source: catalog.Source, mirror: Mirror) -> None:
    """The file's name is put before the query of a signed address."""
    file = catalog.TEST_LABELS
    assert download(source, file, f"{mirror.url('good')}?X-Amz-Signature=abc") == CONTENT[file]
    assert mirror.requests == [f"/good/{file}.gz?X-Amz-Signature=abc"]

"""`digits data`."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits.data.catalog import SOURCES, Source
from digits.files import sha256_of
from tests.helpers.command import Digits
from tests.helpers.mnist_files import tiny_files


def test_a_data_set_is_copied_for_digits_data(digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy has the files' content, and is itself a place to copy from; a damaged file is not copied."""
    content = tiny_files()
    files = {name: (sha256_of(data), len(data)) for name, data in content.items()}
    monkeypatch.setitem(SOURCES, "mnist", Source(files, ()))
    source, copy, again = (tmp_path / name for name in ("source", "copy", "again"))
    source.mkdir()
    for name, data in content.items():
        (source / name).write_bytes(data)
    assert digits("data", str(copy), "--data", str(source)).code == 0
    assert digits("data", again.as_uri(), "--data", str(copy)).code == 0
    assert {path.name: path.read_bytes() for path in again.iterdir()} == content
    first = next(iter(content))
    (source / first).write_bytes(b"x" + content[first][1:])
    refused = digits("data", str(tmp_path / "none"), "--data", str(source))
    assert (refused.code, "expected SHA-256" in refused.err) == (1, True)
    assert not (tmp_path / "none" / first).exists()

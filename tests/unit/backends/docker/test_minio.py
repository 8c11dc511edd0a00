"""The keys of the MinIO container."""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.docker import minio
from digits.errors import MissingError
from digits.settings import Settings


@pytest.mark.parametrize("content", ["", "[]", '{"access_key": "a"}', "[" * 60_000])
def test_damaged_keys_are_reported(content: str, tmp_path: Path) -> None:
    """The error names the file, which is not replaced: the store in MinIO has the keys that it held."""
    settings = Settings(home=tmp_path)
    assert minio.credentials(settings) == minio.credentials(settings)
    (tmp_path / "minio.json").write_text(content)
    with pytest.raises(MissingError, match=rf"{tmp_path}/minio.json is damaged"):
        minio.credentials(settings)
    assert (tmp_path / "minio.json").read_text() == content

"""The record of the ledgers that were seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits.release import seen
from tests.helpers.signing import signed_store


@pytest.mark.parametrize("content", [b"", b"[]", b"\x80", b'{"file:///": 1}', b"[" * 60_000])
def test_a_damaged_record_is_as_none(content: bytes, tmp_path: Path) -> None:
    """A record that cannot be read is replaced by the ledger that is seen next."""
    store, _ = signed_store(tmp_path)
    store.trust.seen.write_bytes(content)
    seen.check(store, ["", "digest of the first entry"])
    assert store.trust.seen.read_bytes() != content

"""The record of the ledgers that were seen."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from digits import homes
from digits.release import seen
from digits.store import SEEN
from tests.helpers.signing import signed_store


@pytest.mark.parametrize("content", [b"", b"[]", b"\x80", b'{"file:///": 1}', b"[" * 60_000])
def test_a_damaged_record_is_as_none(content: bytes, tmp_path: Path) -> None:
    """A record that cannot be read is replaced by the ledger that is seen next."""
    store, _ = signed_store(tmp_path)
    store.trust.seen.write_bytes(content)
    seen.check(store, ["", "digest of the first entry"])
    assert store.trust.seen.read_bytes() != content


@pytest.mark.parametrize(("home", "marked"), [("new", True), ("file/home", False)])
def test_a_new_home_that_gets_the_record_is_marked(home: str, marked: bool, tmp_path: Path) -> None:
    """Later commands accept a home into which the record was written first; one that cannot be written is no error."""
    (tmp_path / "file").touch()
    store, _ = signed_store(tmp_path)
    store.trust = dataclasses.replace(store.trust, seen=tmp_path / home / SEEN)
    seen.check(store, ["", "digest of the first entry"])
    assert homes.is_ours(tmp_path / home) == marked

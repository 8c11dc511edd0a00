"""A result is taken from kfp.local's cache only for the step and the parameters that made it."""

from __future__ import annotations

from pathlib import Path

import pytest
from kfp.local import cache

from backends.local.kfp_local import check_cache
from digits.settings import Settings


def test_a_cache_entry_with_the_name_of_another_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of two entries whose files were exchanged, neither is used; otherwise a run would report other parameters."""
    monkeypatch.setattr(cache, "LocalCache", cache.LocalCache)
    check_cache(Settings(home=tmp_path / "home"))
    entries = cache.LocalCache(str(tmp_path))
    for key in ("a", "b"):
        entries.put(key, {"accuracy": key})
        assert entries.get(key) == {"accuracy": key}
    (tmp_path / "a.json").replace(tmp_path / "b.json")
    assert entries.get("b") is None

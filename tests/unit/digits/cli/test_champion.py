"""`digits promote` and `digits rollback`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backends.kserve.kube import RefusedError
from digits.release import ledger, releases
from digits.store.file import FileStore
from tests.helpers.command import Digits
from tests.helpers.support import Finished

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_the_first_letters_of_a_version_name_a_release(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """The first letters of a version name a release if they are unambiguous."""
    on = finished.copy(tmp_path / "home")
    assert digits("promote", finished.version[:5], "--json", on=on).json["champion"] == finished.version
    hops = digits("verify", finished.version[:5], "--json", on=on).json
    assert (hops["release"], hops["holds"]) == (finished.version, True)
    folder = on.home / "store" / "models" / "digits"
    shutil.copytree(folder / finished.version, folder / (finished.version[:5] + "0000000"))
    for wrong, expected in ((finished.version[:5], "begin with"), ("", "no release"), ("zz", "no release begins with")):
        result = digits("promote", wrong, on=on)
        assert (result.code, expected in result.err) == (1, True), result.err


def test_a_partial_rollback_names_the_remaining_step(
    digits: Digits, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If MLflow fails after the ledger has changed, the error names the champion and how to finish."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    first, second = finished.version, "f" * 12
    for key in store.keys(releases.release_prefix(first)):
        store.put(key.replace(first, second), store.get(key).replace(first.encode(), second.encode()))
    assert digits("promote", second, on=settings).code == 0

    def locked(*_: object) -> None:
        raise RefusedError("the database is locked", 403, remedy="close it")

    with monkeypatch.context() as patched:
        patched.setattr("digits.release.mlflow_registry.mirror_ledger", locked)
        result = digits("rollback", on=settings)
    assert result.code == 1
    assert f"{first} is the champion now, but the database is locked" in result.err
    assert f"close it and then digits promote {first} --backend process" in " ".join(result.err.split())
    assert digits("promote", first, on=settings).code == 0
    assert ledger.champion(store) == first

"""`digits promote` and `digits rollback`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from backends.kserve.kube import RefusedError
from backends.process.backend import ProcessBackend
from digits.release import ledger, releases
from digits.release.deploy import Superseded
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.command import Digits
from tests.helpers.support import Finished, another_release

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_the_first_letters_of_a_version_name_a_release(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """The first letters of a version name a release if they are unambiguous."""
    on = finished.copy(tmp_path / "home")
    assert digits("promote", finished.version[:5], "--json", on=on).json["champion"] == finished.version
    hops = digits("verify", finished.version[:5], "--json", on=on).json
    assert (hops["release"], hops["holds"]) == (finished.version, True)
    folder = on.home / "store" / "models" / "digits"
    shutil.copytree(folder / finished.version, folder / (finished.version[:5] + "0000000"))
    for wrong, expected in ((finished.version[:5], "begin with"), ("zz", "no release begins with")):
        result = digits("promote", wrong, on=on)
        assert (result.code, expected in result.err) == (1, True), result.err


def test_a_new_home_whose_store_is_elsewhere_is_not_created(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """Commands that have nothing to write into a new home create neither it nor MLflow's database."""
    store = (finished.copy(tmp_path / "first").home / "store").as_uri()
    for command in ("promote", "verify"):
        on = Settings(home=tmp_path / command, store=store)
        answer = digits(command, finished.version, on=on, ours=False)
        assert (command == "promote", answer.code) in {(True, 0), (False, 1)}
        assert not on.home.exists()


def test_a_damaged_ledger_is_left_by_a_promotion(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """`promote --new-ledger` leads out of a damaged ledger on every store; a damaged release does not touch it."""
    on = finished.copy(tmp_path / "home")
    store = FileStore(on.home / "store")
    (key,) = store.keys(ledger.folder(store))
    store.put(key, b"damaged")
    refused = digits("promote", finished.version, on=on)
    assert (refused.code, "with the same --backend and --task" in refused.err) == (1, True)
    listed = digits("releases", on=on)
    assert (listed.code, finished.version in listed.out, "--new-ledger" in listed.err) == (1, True, True)
    shutil.copytree(on.home / "store", tmp_path / "copy")
    (tmp_path / "copy" / "models" / "digits" / finished.version / "model.onnx").write_bytes(b"x")
    other = Settings(home=tmp_path / "other", store=(tmp_path / "copy").as_uri())
    assert digits("promote", finished.version, "--new-ledger", on=other, ours=False).code == 1
    assert FileStore(tmp_path / "copy").get(key) == b"damaged"
    answer = digits("promote", finished.version[:5], "--new-ledger", "--json", on=on)
    assert answer.json["champion"] == finished.version
    assert "the former ledger is in promotions/digits/replaced-" in answer.err
    assert digits("verify", finished.version, on=on).code == 0


def test_a_partial_rollback_names_the_remaining_step(
    digits: Digits, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If MLflow fails after the ledger has changed, the error names the champion and how to finish."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    first, second = finished.version, "f" * 12
    for key in store.keys(releases.release_prefix(store, first)):
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


def test_a_superseded_promotion_ends_well(
    digits: Digits, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another release is promoted while the endpoint is updated, that is printed, and nothing is to be repeated."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    first, second = finished.version, another_release(store, finished.version)["version"]

    def overtaken(_: ProcessBackend) -> str:
        ledger.promote(store, first, "by another program")
        raise Superseded("replaced")

    monkeypatch.setattr(ProcessBackend, "redeploy", overtaken)
    result = digits("promote", second, on=settings)
    assert (result.code, f"{second} was the champion until {first} was promoted" in result.err) == (0, True)


def test_a_promotion_whose_ledger_is_removed_fails(
    digits: Digits, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If `digits clean --all` removes the store while the endpoint is updated, there is no champion, and no success."""
    settings = finished.copy(tmp_path / "home")

    def cleaned(_: ProcessBackend) -> str:
        shutil.rmtree(settings.home / "store")
        return ""

    monkeypatch.setattr(ProcessBackend, "redeploy", cleaned)
    result = digits("promote", finished.version, on=settings)
    assert (result.code, "was removed meanwhile" in result.err) == (1, True)

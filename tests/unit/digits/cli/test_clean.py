"""`digits clean`."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from backends import runs
from backends.base import Request
from backends.locks import locked
from digits import homes
from digits.cli import clean
from digits.settings import Settings
from tests.helpers.command import Digits
from tests.helpers.support import free_port

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_a_declined_clean_removes_nothing(digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answering no is not an error; nothing is removed, and that is printed."""
    (paths := settings.home / "runs" / "one").mkdir(parents=True)
    monkeypatch.setattr(sys, "stdin", typed := io.StringIO("n\n"))
    monkeypatch.setattr(typed, "isatty", lambda: True, raising=False)
    result = digits("clean")
    assert (result.code, result.err) == (0, "nothing removed\n")
    assert str(settings.home / "runs") in result.out
    assert paths.is_dir()


def test_clean_needs_yes_without_a_terminal(digits: Digits, settings: Settings) -> None:
    """Without a terminal and --yes it is a usage error, and nothing is removed."""
    (paths := settings.home / "runs" / "one").mkdir(parents=True)
    result = digits("clean")
    assert (result.code, "--yes" in result.err, paths.is_dir()) == (2, True, True)


def test_a_run_that_begins_during_a_clean_waits(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run begins after the containers, the folders and the store are removed, so that it loses none of them."""
    created: list[runs.Run] = []
    begin = threading.Thread(target=lambda: created.append(runs.create(settings.home, "process", Request({}))))
    remove, removed = clean._remove, list[str]()

    def remove_containers(_: Settings) -> tuple[list[str], list[str], bool]:
        begin.start()
        return [], [], False

    def remove_slowly(part: Path) -> str:
        begin.join(0.3)
        assert not created
        removed.append(part.name)
        return remove(part)

    monkeypatch.setattr(clean, "_remove_containers", remove_containers)
    monkeypatch.setattr(clean, "_remove", remove_slowly)
    homes.claim(settings.home)
    for name in ("runs", "cache", "store"):
        (settings.home / name).mkdir()
    (settings.home / "runs.lock").touch()
    result = digits("clean", "--all", "--yes")
    begin.join(60)
    assert (result.code, created[0].is_running()) == (0, True)
    assert removed == ["runs", "cache", "store"]
    assert digits("clean", "--yes").code == 2


def test_a_lock_that_is_taken_during_a_clean_stays(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the creation of the kind cluster begins meanwhile, a second one still waits for it."""
    with contextlib.ExitStack() as stack:

        def remove_containers(_: Settings) -> tuple[list[str], list[str], bool]:
            stack.enter_context(locked(settings.home / "cluster.lock", 0, "change the cluster"))
            return [], [], False

        monkeypatch.setattr(clean, "_remove_containers", remove_containers)
        homes.claim(settings.home)
        assert digits("clean", "--yes").code == 0
        assert (settings.home / "cluster.lock").exists()


def test_clean_waits_for_no_cluster(digits: Digits, settings: Settings) -> None:
    """While the kind cluster is created or removed its lock stays, so that a third command still waits."""
    homes.claim(settings.home)
    with locked(settings.home / "cluster.lock", 0, "change the cluster"):
        result = digits("clean", "--yes")
        assert (result.code, "digits cluster up or down is in progress" in result.err) == (2, True)
        assert (settings.home / "cluster.lock").exists()
    assert digits("clean", "--yes").code == 0
    assert not (settings.home / "cluster.lock").exists()


def test_clean_keeps_releases(digits: Digits, settings: Settings) -> None:
    """Releases are paths unless --all is given; their place and --all are printed."""
    (store := settings.home / "store").mkdir(parents=True)
    assert f"kept {store} (--all removes them)" in digits("clean", "--yes").err
    assert store.is_dir()
    result = digits("clean", "--all", "--yes")
    assert (result.code, store.exists(), "--all removes" in result.err) == (0, False, False)


def test_clean_without_an_engine_keeps_the_credentials_of_minio(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no Docker engine answers, MinIO's keys stay with its volume, the runs are removed, and both are reported."""
    file = "minio.json"
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")
    (settings.home / "runs" / "one").mkdir(parents=True)
    (settings.home / file).write_text("{}")
    result = digits("clean", "--all", "--yes")
    assert (result.code, sorted(path.name for path in settings.home.iterdir())) == (0, [homes.MARK, file])
    assert f"kept containers and {settings.home / file}: no Docker engine answers" in result.err
    assert f"removed {settings.home / file}" not in result.err
    (settings.home / file).unlink()
    assert "kept containers" not in digits("clean", "--yes").err


def test_clean_reports_that_nothing_was_removed(digits: Digits, settings: Settings) -> None:
    """If there is nothing to remove, that is printed, and a remaining cluster is named with its command."""
    result = digits("clean", "--yes")
    assert (result.code, "nothing to remove" in result.err) == (0, True)
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "kubeconfig").write_text("{}")
    assert "kept the kind cluster (digits cluster down removes it)" in digits("clean", "--yes").err


@pytest.mark.parametrize("options", [[], ["--all"]])
def test_clean_refuses_what_digits_did_not_create(options: list[str], digits: Digits, settings: Settings) -> None:
    """A folder without our mark, such as a checkout or a home folder, keeps everything in it."""
    made = [settings.home / name / "mine.txt" for name in ("runs", "cache", "pipeline", "logs", "store", "data")]
    for file in made:
        file.parent.mkdir(parents=True)
        file.write_text("mine")
    result = digits("clean", "--yes", *options, ours=False)
    assert (result.code, f"{settings.home} is not a folder that digits created" in result.err) == (2, True)
    assert all(file.is_file() for file in made)
    assert sorted(path.name for path in settings.home.iterdir()) == sorted(file.parent.name for file in made)


def test_clean_removes_a_link_and_keeps_its_target(digits: Digits, settings: Settings, tmp_path: Path) -> None:
    """Folders on other disks are links in the home: the links are removed, also dangling ones."""
    (target := tmp_path / "disk").mkdir()
    (target / "file").touch()
    settings.home.mkdir()
    for name, place in (("cache", target), ("logs", tmp_path / "gone")):
        (settings.home / name).symlink_to(place)
    (settings.home / "runs").mkdir()
    result = digits("clean", "--yes")
    assert (result.code, f"{target} is kept" in result.err) == (0, True)
    assert [path.name for path in settings.home.iterdir()] == [homes.MARK]
    assert (target / "file").is_file()


def test_clean_removes_a_folder_in_the_place_of_a_file(digits: Digits, settings: Settings) -> None:
    """A folder in the place of a predictor's record ended the command, and every later one, with an internal error."""
    for name in ("endpoint.json", "endpoint-mine.json"):
        (settings.home / name / "folder").mkdir(parents=True)
    assert digits("clean", "--yes").code == 0
    assert [path.name for path in settings.home.iterdir()] == [homes.MARK]


def test_clean_goes_on_after_a_folder_that_cannot_be_removed(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be removed, such as a mounted disk, is reported; the rest is removed."""
    remove = shutil.rmtree

    def busy(path: Path) -> None:
        if path.name == "runs":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", busy)
    for name in ("runs", "cache"):
        (settings.home / name).mkdir(parents=True)
    result = digits("clean", "--yes")
    assert (result.code, f"{settings.home / 'runs'}: Device or resource busy" in result.err) == (1, True)
    assert not (settings.home / "cache").exists()


def test_clean_without_a_home_creates_none(digits: Digits, settings: Settings, tmp_path: Path) -> None:
    """If DIGITS_HOME does not exist, `digits clean` removes what is elsewhere, and leaves no empty folder."""
    home = tmp_path / "not" / "there"
    result = digits("clean", "--yes", on=dataclasses.replace(settings, home=home))
    assert (result.code, "nothing to remove" in result.err) == (0, True)
    assert not home.parent.exists()

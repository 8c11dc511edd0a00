"""The mark of a DIGITS_HOME."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from digits import homes
from digits.errors import DigitsError, UsageError


@pytest.mark.parametrize("before", [None, [], ["kubeconfig"], ["lost+found", ".DS_Store"]])
def test_a_new_or_empty_folder_becomes_a_home(before: list[str] | None, tmp_path: Path) -> None:
    """A folder that does not exist, is empty, or has only the user's kubeconfig gets the mark; repeating is allowed."""
    home = tmp_path / "new" / "home"
    for name in before or []:
        (home / name).mkdir(parents=True, exist_ok=True)
    homes.claim(home)
    (home / "runs").mkdir()
    homes.claim(home)
    homes.check(home)
    assert homes.is_ours(home)


def test_two_homes_of_one_path_have_different_identities(tmp_path: Path) -> None:
    """Two containers with one Docker engine may have homes of one path, and a copy of a home has another path."""
    homes.claim(home := tmp_path / "home")
    first = homes.identity(home)
    homes.claim(home)
    assert homes.identity(home) == first
    shutil.copytree(home, tmp_path / "copy")
    assert homes.identity(tmp_path / "copy") != first
    home.rename(tmp_path / "elsewhere")
    homes.claim(home)
    assert homes.identity(home) != first
    (home / homes.MARK).write_text(homes.TEXT)  # as an earlier version wrote it
    assert homes.identity(home) == str(home)


def test_programs_that_start_together_have_one_identity(tmp_path: Path) -> None:
    """A mark is there whole or not at all, so that no program reads it without the id."""
    with ThreadPoolExecutor(8) as threads:
        for number in range(30):
            home = tmp_path / str(number)
            found = [threads.submit(lambda at: (homes.claim(at), homes.identity(at))[1], home) for _ in range(8)]
            assert len({each.result(10) for each in found}) == 1
            assert os.listdir(home) == [homes.MARK]  # noqa: PTH208


def test_another_folder_is_refused(tmp_path: Path) -> None:
    """A folder with other content gets no mark, nor does a folder inside a home."""
    (tmp_path / "pipeline").mkdir()
    for refuse in (homes.claim, homes.check):
        with pytest.raises(UsageError, match="is not a folder that digits created: it holds pipeline"):
            refuse(tmp_path)
    assert not homes.is_ours(tmp_path)
    homes.claim(tmp_path / "home")
    with pytest.raises(UsageError, match="inside another home"):
        homes.claim(tmp_path / "home" / "data" / "home")


def test_a_home_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    """If a file is in the way, the error names it."""
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(DigitsError, match=f"cannot write {home}/.*: {tmp_path / 'file'} is not a folder"):
            homes.claim(home)


def test_a_home_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A link in a circle is named, and not called a lack of space."""
    (tmp_path / "home").symlink_to("home")
    with pytest.raises(DigitsError, match=f"DIGITS_HOME: cannot read {tmp_path / 'home'}: Too many levels") as refused:
        homes.check(tmp_path / "home")
    assert "space" not in refused.value.remedy


def test_a_home_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home may be on a file system without them, if store and MLflow are elsewhere."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    homes.claim(tmp_path / "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == [homes.MARK]
    assert homes.identity(tmp_path / "home") != str(tmp_path / "home")


def test_concurrent_first_uses_agree(tmp_path: Path) -> None:
    """Programs that start at the same time in a new home, and write into it, all succeed."""

    def use(number: int) -> None:
        homes.claim(tmp_path / "home")
        (tmp_path / "home" / f"file{number}").touch()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(use, range(64)))
    assert homes.is_ours(tmp_path / "home")

"""`digits keys`, and the commands that need a trusted key."""

from __future__ import annotations

import dataclasses
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from digits.release import ledger, releases
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.command import Digits
from tests.helpers.signing import new_keys
from tests.helpers.support import Finished

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


@pytest.mark.parametrize("name", ["", ".", "..", "folder", "folder/"])
def test_a_folder_is_no_name_of_a_key(digits: Digits, tmp_path: Path, name: str) -> None:
    """A key pair is not written next to a folder that NAME names, or that an empty NAME stands for."""
    (tmp_path / "folder").mkdir()
    before = sorted([*tmp_path.iterdir(), *tmp_path.parent.iterdir()])
    assert digits("keys", "new", name).code == 2
    assert sorted([*tmp_path.iterdir(), *tmp_path.parent.iterdir()]) == before


def test_a_new_key_is_private_and_never_replaced(digits: Digits, tmp_path: Path) -> None:
    """The private key has mode 0600; an existing file of either name is kept."""
    made = digits("keys", "new", "mine", "--json")
    private, public = tmp_path / "mine.pem", tmp_path / "mine.pub"
    assert (made.code, made.json["private"], made.json["public"]) == (0, str(private), str(public))
    assert private.stat().st_mode & 0o777 == 0o600
    before = private.read_bytes()
    for lost in (public, None):
        assert digits("keys", "new", "mine").code == 2
        assert private.read_bytes() == before
        if lost:
            lost.unlink()


def test_a_umask_that_takes_everything_leaves_this_user_its_files(tmp_path: Path) -> None:
    """Under the umask 777 a new key and its folder can still be used by the user who made them."""
    name = tmp_path / "folder" / "mine"
    command = [sys.executable, "-m", "digits", "keys", "new", str(name)]
    subprocess.run(command, umask=0o777, check=True, timeout=60, capture_output=True)
    modes = [path.stat().st_mode & 0o777 for path in (name.parent, name.with_suffix(".pem"), name.with_suffix(".pub"))]
    assert modes == [0o700, 0o600, 0o600]


def test_a_key_that_cannot_be_written_leaves_nothing(digits: Digits, full_disk: Path) -> None:
    """On a full disk no empty file and no half of a pair remains, which would be in the way of the next attempt."""
    assert digits("keys", "new", str(full_disk / "mine")).code == 3
    assert [path.name for path in full_disk.iterdir()] == ["full"]


def test_a_name_that_no_file_can_have_is_an_error(digits: Digits) -> None:
    """A name that the file system refuses is an error that says so, not an internal one."""
    result = digits("keys", "new", "x" * 300)
    assert (result.code, "File name too long" in result.err, "internal" in result.err) == (1, True, False)


def test_releases_from_before_the_first_key_are_signed(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """`keys sign` signs champion and ledger; before that, verify and promote report which key is missing."""
    unsigned = finished.copy(tmp_path / "home")
    private, public = new_keys(tmp_path / "keys")
    settings = dataclasses.replace(unsigned, trusted_keys=str(public), signing_key=str(private))
    assert "not signed" in digits("verify", finished.version, on=unsigned).out
    assert digits("keys", "sign", on=unsigned).code == 2
    for command in ("verify", "promote"):
        refused = digits(command, finished.version, on=settings)
        assert (refused.code, "not signed" in refused.out + refused.err) == (1, True)
    signed = digits("keys", "sign", "--json", on=settings).json
    assert (signed["release"], signed["entry"]) == (finished.version, 1)
    result = digits("verify", finished.version, "--json", on=settings).json
    assert result["holds"]
    signers = {row["hop"]: row["signer"] for row in result["hops"]}
    assert {hop for hop, signer in signers.items() if signer} == {"release", "files", "provenance", "ledger"}
    assert set(signers.values()) == {"", signed["signer"]}
    assert ledger.champion(open_store(settings)) == finished.version


@pytest.mark.parametrize("command", ["promote", "rollback", "verify", "releases"])
def test_a_release_of_another_key_is_not_accepted(
    command: str, digits: Digits, finished: Finished, tmp_path: Path, settings: Settings
) -> None:
    """After the only trusted key was replaced, the commands name the key that signed."""
    (old, _), (new, public) = (new_keys(tmp_path / "keys", name=name) for name in ("old", "new"))
    settings = dataclasses.replace(finished.copy(tmp_path / "home"), signing_key=str(old))
    assert digits("keys", "sign", on=settings).code == 0
    settings = dataclasses.replace(settings, trusted_keys=str(public), signing_key=str(new))
    arguments = [finished.version] if command in {"promote", "verify"} else []
    refused = digits(command, *arguments, on=settings)
    assert refused.code == 1
    assert "is signed by key" in refused.out + refused.err
    store = open_store(settings)
    assert store.exists(releases.release_prefix(store, finished.version) + releases.SIGNATURE)


def test_the_advice_for_a_taken_name_is_a_command_for_the_shell(digits: Digits, tmp_path: Path) -> None:
    """A name with a space is quoted."""
    (tmp_path / "my key.pem").touch()
    assert "try: digits keys new 'my key-2'" in digits("keys", "new", "my key").err


def test_the_variables_of_a_new_pair_are_set_by_commands_for_the_shell(digits: Digits, tmp_path: Path) -> None:
    """A path with a space is quoted."""
    shown = digits("keys", "new", "my key").out.splitlines()
    assert [shlex.split(line)[1:] for line in shown[1:]] == [
        ["export", f"DIGITS_SIGNING_KEY={tmp_path}/my key.pem"],
        ["export", f"DIGITS_TRUSTED_KEYS={tmp_path}/my key.pub"],
    ]

"""The mark of a DIGITS_HOME: a file that shows that digits created the folder, so that it may remove its content."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from digits.errors import DigitsError, UsageError
from digits.files import PART, whole_file, write_whole

MARK = ".digits-home"
TEXT = (
    "digits created this folder. `digits clean` removes what it wrote here, and refuses a folder without this file.\n"
)
# May be in a folder before its first use: the kubeconfig of the user's cluster, and what a system creates by itself.
IGNORED = {MARK, "kubeconfig", "lost+found", ".DS_Store"}


def claim(home: Path) -> None:
    """Create the folder `home` with our mark. Do nothing if it has the mark.

    Raises:
        UsageError: the folder has other content, or is inside another home.
        DigitsError: the file system refused.
    """
    if is_ours(home):
        return
    check(home)
    for parent in home.parents:
        if is_ours(parent):
            raise UsageError(
                f"DIGITS_HOME: {home} is inside another home, {parent}", remedy="set DIGITS_HOME to another folder"
            )
    content = f"{TEXT}{secrets.token_hex(8)}\n"
    try:
        # Whole and at most once, because another program that starts at the same time reads the id.
        with contextlib.suppress(FileExistsError), whole_file(home / MARK, replace=False) as file:
            file.write(content.encode())
    except OSError:  # a file system without hard links, where the last of several writers succeeds
        write_whole(home / MARK, content)


def claim_if_possible(home: Path) -> None:
    """Mark a home for what may be written there, such as the seen ledger. Do nothing if it can only be read."""
    with contextlib.suppress(DigitsError):
        claim(home)


def check(home: Path) -> None:
    """Raise UsageError if `home` has content but not our mark: then the content is not ours.

    Raises DigitsError if it cannot be read.
    """
    try:
        found = {path.name for path in home.iterdir()} - IGNORED
        foreign = sorted(name for name in found if not (name.startswith(f".{MARK}.") and name.endswith(PART)))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as exc:
        raise DigitsError(
            f"DIGITS_HOME: cannot read {home}: {exc.strerror}", remedy="set it to a folder that this user can read"
        ) from exc
    # The mark is written before anything else, but after the listing began another program may have written both.
    if foreign and not is_ours(home):
        raise UsageError(
            f"DIGITS_HOME: {home} is not a folder that digits created: it holds {', '.join(foreign[:3])}",
            remedy=f"set DIGITS_HOME to a new or empty folder, such as {home / 'digits-home'}",
        )


def identity(home: Path) -> str:
    """Return what distinguishes this home from all others of one Docker engine: its path and the id in its mark.

    The path alone is the same in two containers, the id in two copies of a home. A mark of an earlier version has none.
    """
    mark = ""
    with contextlib.suppress(OSError):
        mark = (home / MARK).read_text(errors="replace").removeprefix(TEXT).strip()
    return f"{home}{mark}"


def is_ours(home: Path) -> bool:
    """Return whether a folder has our mark."""
    return os.path.isfile(home / MARK)  # noqa: PTH113 # Path.is_file raises OSError

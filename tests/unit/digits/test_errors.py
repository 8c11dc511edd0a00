"""The user and password of an address that is badly written."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from digits.errors import ReleaseError, UsageError, mask_address, mask_url, one_line, printable
from digits.http import base_url
from digits.release import releases
from digits.settings import Settings
from digits.store import open_store
from web_app.endpoints import Endpoint

PASSWORDS = (
    *("canary", "canary finch", "canary@finch", "canary/finch", "ca:canary", "canary//finch", "'canary' finch"),
    *("9canary://finch", " canary", "80/canary", "canary x://finch", "canary\nfinch", "[canary", "canary?a#finch"),
)
BEGINNINGS = ("", "http://", "s3://", "a=https://", "//", "http:", "http:/", "http//", "sqlite://", "HTTP://")
REFUSING: dict[str, Callable[[Settings, str], object]] = {
    "endpoints": lambda _, address: Endpoint.parse_all(address.split()),
    "endpoint": lambda _, address: base_url(address),
    "store": open_store,
    "database": lambda settings, address: dataclasses.replace(settings, tracking_uri=f"sqlite:{address}"),
    "version": lambda settings, address: releases.find(open_store(settings), address),
}


def addresses() -> Iterator[str]:
    """Yield 560 addresses with `canary` or `finch` in their user or password."""
    for begin, password, user in itertools.product(BEGINNINGS, PASSWORDS, ("u:{}", "{}", ":{}", "{}:")):
        yield f"{begin}{user.format(password)}@127.0.0.1:9"


def test_no_part_of_a_password_is_printed_with_the_settings(tmp_path: Path) -> None:
    """The settings are printed without any part of an address' user information, however it is written."""
    for address in addresses():
        shown = str(Settings(home=tmp_path, endpoints=address).describe())
        assert not re.search("canary|finch", shown), (address, shown)
        assert "@127.0.0.1:9" in shown


@pytest.mark.parametrize("refusing", REFUSING)
def test_no_part_of_a_password_is_in_the_error_for_an_address(refusing: str, tmp_path: Path) -> None:
    """The error for an address that is refused has no part of its user information."""
    settings, refused = Settings(home=tmp_path), list[tuple[str, str]]()
    for address in addresses():
        try:
            REFUSING[refusing](settings, address)
        except (UsageError, ReleaseError) as exc:
            refused.append((address, str(exc)))
    assert len(refused) > 500
    assert not [row for row in refused if re.search("canary|finch", row[1])]


def test_a_name_is_shown_in_one_line_without_what_a_terminal_acts_on() -> None:
    """Control characters, line breaks, changes of the direction and broken letters are replaced, spaces are not."""
    assert one_line("a\nb\tc\x1b[0m\u202e\u2028\udcff") == "a\ufffdb\ufffdc\ufffd[0m\ufffd\ufffd\ufffd"
    assert one_line("Screenshot at 10.30\u202fPM é 数.png") == "Screenshot at 10.30\u202fPM é 数.png"
    assert printable("two\nlines\x07") == "two\nlines\ufffd"


def test_a_fragment_without_fields_is_masked_in_an_address() -> None:
    """A key may be the whole fragment of an address; a page's place, or a section in another text, is shown."""
    assert mask_address("https://host/file?a=b#canary") == "https://host/file?a=<SECRET>#<SECRET>"
    for shown in ("http://mlflow/#/experiments/1", "/data#1", "file:///data#1"):
        assert mask_address(shown) == shown
    assert mask_url("see https://host/docs#install") == "see https://host/docs#install"

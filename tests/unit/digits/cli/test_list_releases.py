"""`digits releases`."""

from __future__ import annotations

import pytest

from digits.settings import Settings
from tests.helpers.command import Digits
from tests.helpers.support import Finished

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_releases_are_listed(digits: Digits, finished: Finished) -> None:
    """The list marks the champion, as text and as JSON."""
    result = digits("releases", on=finished.settings)
    assert result.out.startswith(finished.version)
    assert result.out.endswith("  champion\n")
    answer = digits("releases", "--json", on=finished.settings).json
    assert answer["champion"] == finished.version
    assert [row["version"] for row in answer["releases"]] == [finished.version]


@pytest.mark.parametrize("command", ["releases", "verify", "rollback", "promote 0", "predict 0", "report"])
def test_a_command_that_finds_nothing_creates_nothing(digits: Digits, settings: Settings, command: str) -> None:
    """A mistyped DIGITS_HOME is not created by a command that only looks for a release there."""
    assert digits(*command.split()).code in {1, 3}
    assert not settings.home.exists()


def test_no_releases_in_json_is_an_empty_list(digits: Digits) -> None:
    """With --json an empty list is not an error."""
    result = digits("releases", "--json")
    assert (result.code, result.json) == (0, {"releases": [], "damaged": {}, "champion": "", "previous": ""})

"""`digits feedback`."""

from __future__ import annotations

import numpy as np
import pytest

from digits.data import corrections
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.command import Digits
from tests.helpers.tasks import task_text

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_a_removed_correction_is_named(digits: Digits, settings: Settings) -> None:
    """A removed correction is printed as in the list, with the model's answer only if there was one."""
    store = FileStore(settings.home / "store")
    corrections.record(store, np.full((28, 28), 9, np.uint8), 7, drawing_png=b"png", release="", answer=None)
    corrections.record(store, np.full((28, 28), 8, np.uint8), 3, drawing_png=b"png", release="v1", answer=5)
    listed = digits("feedback").out.splitlines()
    assert sorted(line[14:] for line in listed) == ["a 3, read as 5 by v1", "a 7"]
    result = digits("feedback", "--remove", listed[0][:12])
    assert result.out.splitlines() == [f"removed {listed[0]}", listed[1]]


def test_a_correction_is_listed_and_removed(digits: Digits, settings: Settings) -> None:
    """`digits feedback` lists corrections and removes the given one, and none for an empty id."""
    assert digits("feedback").out == "no corrections\n"
    store = FileStore(settings.home / "store")
    image = np.full((28, 28), 200, np.uint8)
    key = corrections.record(store, image, 7, drawing_png=b"", release="v1", answer=1)
    result = digits("feedback")
    which = key.removeprefix("feedback/")[:12]
    assert result.out == f"{which}  a 7, read as 1 by v1\n"
    assert [one["label"] for one in digits("feedback", "--json").json["corrections"]] == [7]
    assert digits("feedback", "--remove", "").code == 2  # an unset variable of a shell
    assert digits("feedback", "--remove", which, "--json").json == {"corrections": [], "removed": 1}
    result = digits("feedback", "--remove", which)
    assert (result.code, "no corrections begin with" in result.err) == (3, True)


def test_a_correction_of_another_task_has_its_labels(digits: Digits, settings: Settings) -> None:
    """The corrections of a task are listed with its labels."""
    settings = settings.with_task(task_text(["red", "dark blue"], (8, 8, 3)))
    store, task = FileStore(settings.home / "store"), settings.declaration
    store.task = task.name
    image = np.full((8, 8, 3), 9, np.uint8)
    corrections.record(store, image, 1, drawing_png=b"png", release="v1", answer=0, task=task)
    assert digits("feedback", on=settings).out[14:] == "dark blue, read as red by v1\n"


@pytest.mark.parametrize("release", ["\x1b]0;title\x07", "v1\n3f2a9c81d0b4  a 7", "\u202ev1", "v" * 100_000])
def test_a_correction_of_a_foreign_store_is_one_line(digits: Digits, settings: Settings, release: str) -> None:
    """A release that another writer stored is printed only if it is printable, and only its first 100 characters."""
    store = FileStore(settings.home / "store")
    corrections.record(store, np.full((28, 28), 9, np.uint8), 7, drawing_png=b"", release=release, answer=1)
    listed = digits("feedback").out
    assert (listed.count("\n"), listed.strip().isprintable()) == (1, True)
    assert len(listed) < 150

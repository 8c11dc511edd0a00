"""The inputs of `digits predict`: files, pipes, devices and numbers."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from digits import files
from digits.cli.inputs import is_number, read_file, read_picture
from digits.errors import DataError, UsageError
from digits.tasks.task import BUILT_IN, find
from tests.helpers.drawings import SEVEN, draw

TASK = find(BUILT_IN)


def test_a_picture_is_read_from_a_pipe(tmp_path: Path) -> None:
    """A picture in a named pipe, as a shell's `<(command)` makes it, is read like a file."""
    Image.fromarray(255 - draw(SEVEN, side=280, pen=14)).save(tmp_path / "seven.png")
    os.mkfifo(pipe := tmp_path / "pipe")
    content = (tmp_path / "seven.png").read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=[content])
    writer.start()
    (digit,) = read_picture(TASK, "pipe", read_file(str(pipe))).digits
    writer.join(10)
    assert np.array_equal(digit.image, read_picture(TASK, "seven.png", content).digits[0].image)


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe without a writer, a folder, a missing file and a name that is too long are refused with the reason."""
    monkeypatch.setattr(files, "READ_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        (str(tmp_path / "pipe"), "did not end"),
        (str(tmp_path), "directory"),
        (str(tmp_path / "none.png"), "No such file"),
        ("1" * 5000, "too long"),
    ):
        assert not is_number(name)
        with pytest.raises(UsageError, match=reason):
            read_file(name)
    with pytest.raises(DataError, match="/dev/null: expected a picture"):
        read_picture(TASK, "/dev/null", read_file("/dev/null"))

"""`digits compile`."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits.data import survey
from pipeline import definition
from tests.helpers.command import Digits


@pytest.mark.parametrize("arguments", [("compile",), ("run", "--compile-only"), ("new", "shapes", "pictures")])
def test_an_output_that_cannot_be_written_is_refused_before_the_work(
    arguments: tuple[str, ...], digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the place of the output's folder is named before anything is compiled or read."""
    monkeypatch.setattr(definition, "compile_to", lambda *_, **__: pytest.fail("compiled"))
    monkeypatch.setattr(survey, "survey", lambda *_, **__: pytest.fail("read"))
    Path("file").touch()
    answer = digits(*arguments, "--output", "file/x.yaml")
    assert answer.code == 1
    assert "file is not a folder" in answer.err

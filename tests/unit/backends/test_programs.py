"""Programs of the host: found, run with a deadline, and reported if they fail."""

from __future__ import annotations

import os

import pytest

from backends.programs import ProgramError, need, program, with_pythonpath
from digits.errors import MissingError
from tests.helpers.support import ROOT


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kind on PATH the error has the address of its installation page."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingError, match="kind is not on PATH") as missing:
        need("kind")
    assert "https://" in missing.value.remedy


def test_a_python_process_finds_our_packages() -> None:
    """Our packages come first on its path, the other entries stay, and the original environment is not changed."""
    original = {"PYTHONPATH": "/theirs", "LANG": "C"}
    assert with_pythonpath(original) == {"PYTHONPATH": f"{ROOT}{os.pathsep}/theirs", "LANG": "C"}
    assert original["PYTHONPATH"] == "/theirs"
    assert with_pythonpath({}) == {"PYTHONPATH": str(ROOT)}


def test_programs_end_in_time() -> None:
    """A program that hangs is ended; the error of one that fails has its output."""
    with pytest.raises(ProgramError, match="did not end within"):
        program("sleep", "30", seconds=0.2)
    with pytest.raises(ProgramError, match="ended with 3: no luck"):
        program("sh", "-c", "echo no luck >&2; exit 3")

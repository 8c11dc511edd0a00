"""The fixture `digits`, which runs the command line in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from digits import homes
from digits.cli import main
from digits.settings import Settings
from tests.helpers.command import Answer, Digits


@pytest.fixture
def digits(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Digits:
    """Return a function that runs the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, on: Settings = settings, traceback: bool = False, ours: bool = True) -> Answer:
        if ours and os.path.isdir(on.home):  # noqa: PTH112 # Path.is_dir raises OSError
            (on.home / homes.MARK).touch()
        for name, value in on.environ().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["digits", *arguments])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as exc:
            code = int(exc.code or 0)
        out, err = capfd.readouterr()
        assert ("Traceback" in err) is traceback
        return Answer(code, out, err)

    return run

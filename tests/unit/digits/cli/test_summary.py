"""The summary of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from digits.cli import summary
from digits.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_an_endpoint_on_another_port_is_explained(settings: Settings) -> None:
    """If another program uses the predictor's port, the summary says so next to the address."""
    here, elsewhere = f"http://127.0.0.1:{settings.port}", "http://127.0.0.1:1"
    assert [summary._note_port(address, settings) for address in (here, "http://digits.example", "")] == ["", "", ""]
    assert summary._note_port(elsewhere, settings) == f"   (port {settings.port} was in use)"
    assert summary._note_port(elsewhere, dataclasses.replace(settings, port=0)) == ""


@pytest.mark.parametrize(
    ("task", "in_file", "expected"),
    [("my pets.toml", False, "digits up --task 'my pets.toml'   to"), ("my pets.toml", True, "digits up   to")],
)
def test_the_next_command_is_one_for_the_shell(
    task: str, in_file: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task file is quoted for the shell, and omitted if the file .env names it, which the next command reads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / task).write_text('name = "pets"\nlabels = ["cat", "dog"]\nimage = {height = 28, width = 28}\n')
    monkeypatch.delenv("DIGITS_TASK", raising=False)
    if in_file:
        (tmp_path / ".env").write_text(f"DIGITS_TASK='{task}'\n")
    else:
        monkeypatch.setenv("DIGITS_TASK", task)
    assert summary._next("digits up", Settings.load(), served=True).startswith(expected)

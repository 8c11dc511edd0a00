"""The option --task of the commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from digits.cli import WITHOUT_TASK, cli
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.command import Digits
from tests.helpers.support import Finished

OTHER = """
name = "other"
labels = ["a", "b"]
image = {height = 8, width = 8}
"""


def commands(group: click.Group) -> Iterator[click.Command]:
    """Yield the commands of a group that concern a task, and those of the groups in it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command) if name not in WITHOUT_TASK else ()
        elif command and name not in WITHOUT_TASK:
            yield command


def test_all_commands_take_a_task() -> None:
    """Each command that concerns a task has the option, also those of a group, once."""
    found = list(commands(cli))
    assert {"run", "deploy"} <= {command.name for command in found}
    for command in found:
        assert [option.name for option in command.params].count("task") == 1, command.name


def test_tasks_have_ledgers_of_their_own(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """With --task, a command sees that task's releases only; without it, those of digits."""
    (tmp_path / "other.toml").write_text(OTHER)
    settings = finished.copy(tmp_path / "home")
    own = digits("releases", "--json", on=settings)
    other = digits("releases", "--task", str(tmp_path / "other.toml"), "--json", on=settings)
    assert finished.version in own.out
    assert finished.version not in other.out
    refused = digits("promote", finished.version, "--task", str(tmp_path / "other.toml"), on=settings)
    assert refused.code == 1
    store = open_store(settings.with_task(str(tmp_path / "other.toml")))
    assert (ledger.champion(store), releases.list_releases(store)) == ("", ([], {}))


def test_the_option_lasts_for_its_command(digits: Digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Afterwards DIGITS_TASK is as before."""
    monkeypatch.setenv("DIGITS_TASK", "digits")
    digits("releases", "--task", "fashion", on=Settings(home=tmp_path / "home"))
    assert os.environ["DIGITS_TASK"] == "digits"


def test_a_wrong_task_names_the_key(digits: Digits, tmp_path: Path) -> None:
    """An invalid task file is a usage error of every command."""
    (tmp_path / "other.toml").write_text(OTHER.replace("height = 8", "height = 7"))
    result = digits("releases", "--task", str(tmp_path / "other.toml"), on=Settings(home=tmp_path / "home"))
    assert result.code == 2
    assert "image.height: expected a whole number from 8 to 96, got 7" in result.err


def test_workers_divide_a_batch_into_shards(digits: Digits, tmp_path: Path) -> None:
    """--workers needs shards, so it sets their number, which the compiled pipeline contains; their own is kept."""
    file = tmp_path / "pipeline.yaml"

    def shards(*options: str) -> int:
        digits("run", "--compile-only", "--output", str(file), *options)
        pipeline = next(yaml.safe_load_all(file.read_text()))
        return int(pipeline["root"]["inputDefinitions"]["parameters"]["shards"]["defaultValue"])

    assert [shards(), shards("--workers", "1"), shards("--workers", "2", "--shards", "8")] == [0, 4, 8]
    refused = digits("run", "--workers", "3")
    assert refused.code == 2
    assert "workers" in refused.err
    baseline = ("--model", "baseline")
    refused = digits("run", *baseline, "--workers", "2")
    assert (refused.code, "--workers 1" in refused.err, "--shards" in refused.err) == (2, True, False)
    assert shards(*baseline, "--workers", "1") == 0
    (task := tmp_path / "other.toml").write_text(OTHER + '[training]\nmodel = "baseline"\n')
    assert shards("--task", str(task), "--workers", "1") == 0

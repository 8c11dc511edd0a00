"""Checks of every command's options and help, and of errors in usage."""

from __future__ import annotations

import inspect
import json
import re
import sys

import click
import pytest

from digits.cli import cli, main


def _commands() -> list[tuple[str, click.Command]]:
    """Return (name, command) of every command, of groups those within them."""
    context, commands = click.Context(cli), []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        within = command.commands if isinstance(command, click.Group) else {}
        commands += [(f"{name} {sub}", of) for sub, of in within.items()] or [(name, command)]
    return commands


@pytest.mark.parametrize(("name", "command"), _commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_that_ends_answers_in_json(name: str, command: click.Command) -> None:
    """Every command has help, and --json unless it serves until it is stopped."""
    serves = name in {"up", "serve", "web", "cluster open"}
    assert ("as_json" in {parameter.name for parameter in command.params}) != serves
    assert command.help


@pytest.mark.parametrize(("name", "command"), _commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_help_has_an_example(name: str, command: click.Command) -> None:
    """The help of every command ends with an example, in lines that fit into 80 columns."""
    examples = inspect.cleandoc(command.help or "").partition("\n\n\b\n")[2].splitlines()
    assert any(re.search(rf"\bdigits {name}\b", line) for line in examples)
    assert max(map(len, examples)) <= 78


def test_wrong_usage_with_json_is_one_object(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --json a usage error that click detects is one object on standard output, and the exit code is 2."""
    monkeypatch.setattr(sys, "argv", ["digits", "run", "--epochs", "many", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == answer["exit_code"] == 2
    assert "many" in answer["error"]

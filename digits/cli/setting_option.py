"""Options that set a setting while the command runs: --task, which all commands have that concern a task, and more."""

from __future__ import annotations

import os
from typing import Any

import click

TASK_VARIABLE = "DIGITS_TASK"


def sets(variable: str) -> dict[str, Any]:
    """Return the arguments of an option that sets the environment variable of a setting while the command runs."""

    def choose(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is None:
            return
        before = os.environ.get(variable)
        os.environ[variable] = str(value)

        @context.call_on_close
        def restore() -> None:
            os.environ.pop(variable)
            if before is not None:
                os.environ[variable] = before

    return {"expose_value": False, "is_eager": True, "callback": choose}


def add_task_option(command: click.Command) -> None:
    """Add --task to a command, or to each command of a group."""
    if isinstance(command, click.Group):
        for part in command.commands.values():
            add_task_option(part)
    elif all(option.name != "task" for option in command.params):
        text = "What is recognised: digits, fashion, or a task file.  [digits]"
        command.params.append(click.Option(["--task"], metavar="TASK", help=text, **sets(TASK_VARIABLE)))

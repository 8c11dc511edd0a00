"""The option --task, which all commands have that concern a task."""

from __future__ import annotations

import os

import click

VARIABLE = "DIGITS_TASK"


def add_task_option(command: click.Command) -> None:
    """Add --task to a command, or to each command of a group. It sets DIGITS_TASK while the command runs."""
    if isinstance(command, click.Group):
        for part in command.commands.values():
            add_task_option(part)
    elif all(option.name != "task" for option in command.params):
        command.params.append(
            click.Option(
                ["--task"],
                metavar="TASK",
                help="What is recognised: digits, fashion, or a task file.  [digits]",
                expose_value=False,
                is_eager=True,
                callback=_choose,
            )
        )


def _choose(context: click.Context, _: click.Parameter, task: str | None) -> None:
    if task is None:
        return
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = task

    @context.call_on_close
    def restore() -> None:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before

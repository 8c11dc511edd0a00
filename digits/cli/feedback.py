"""`digits feedback`."""

from __future__ import annotations

import dataclasses

import click

from digits.cli.common import backend_option, emit, json_option, open_backend_store
from digits.data import corrections
from digits.tasks.task import Task


@click.command()
@click.option("--remove", multiple=True, metavar="ID", help="Remove a correction; the first letters of its id suffice.")
@backend_option("Backend to use.  [process]")
@json_option
def feedback(remove: tuple[str, ...], as_json: bool) -> None:
    """List the corrections that the next run trains on, or remove some of them.

    \b
    digits feedback
    digits feedback --remove 3f2a9c81d0b4
    """
    with open_backend_store() as (settings, store, _):
        task = settings.declaration
        for prefix in remove:
            click.echo(f"removed {_describe(task, corrections.remove(store, prefix, task))}", err=as_json)
        current = corrections.list_current(store, task)
    if as_json:
        emit({"corrections": [dataclasses.asdict(correction) for correction in current], "removed": len(remove)})
        return
    for correction in current:
        click.echo(_describe(task, correction))
    if not current:
        click.echo("no corrections")


def _describe(task: Task, correction: corrections.Correction) -> str:
    right = correction.damaged or f"{'a ' if task.is_number else ''}{_label(task, correction.label)}"
    read = "" if correction.answer is None or correction.damaged else f", read as {_label(task, correction.answer)}"
    by = f" by {correction.release}" if read and correction.release else ""
    return f"{correction.id[:12]}  {right}{read}{by}"


def _label(task: Task, number: int | None) -> str:
    """Return the label of a class, or its number if the task has lost it."""
    return str(number) if number is None or number >= len(task.labels) else task.labels[number]

"""`digits feedback`."""

from __future__ import annotations

import dataclasses

import click

from digits.cli.common import backend_option, emit, json_option, open_store_of
from digits.data import corrections


@click.command()
@click.option("--remove", multiple=True, metavar="ID", help="Take one back, by the first letters of its id.")
@backend_option
@json_option
def feedback(remove: tuple[str, ...], backend: str | None, as_json: bool) -> None:
    """List the corrections that the next run learns from, or take some back.

    \b
    digits feedback
    digits feedback --remove 3f2a9c81d0b4
    """
    with open_store_of(backend) as (_, store, _):
        for which in remove:
            click.echo(f"removed {_line(corrections.remove(store, which))}", err=as_json)
        found = corrections.list_current(store)
    if as_json:
        emit({"corrections": [dataclasses.asdict(one) for one in found], "removed": len(remove)})
        return
    for one in found:
        click.echo(_line(one))
    if not found:
        click.echo("no corrections")


def _line(one: corrections.Correction) -> str:
    taken = "" if one.answer is None else f", read as {one.answer}" + (f" by {one.release}" if one.release else "")
    return f"{one.id[:12]}  {one.damaged or f'a {one.label}{taken}'}"

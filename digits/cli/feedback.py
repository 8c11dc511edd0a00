"""`digits feedback`."""

from __future__ import annotations

import dataclasses

import click

from digits.cli.common import backend_option, emit, json_option, open_store_of
from digits.data import corrections


@click.command()
@click.option("--remove", multiple=True, metavar="ID", help="Remove a correction; the first letters of its id suffice.")
@backend_option
@json_option
def feedback(remove: tuple[str, ...], backend: str | None, as_json: bool) -> None:
    """List the corrections that the next run trains on, or remove some of them.

    \b
    digits feedback
    digits feedback --remove 3f2a9c81d0b4
    """
    with open_store_of(backend) as (_, store, _):
        for prefix in remove:
            click.echo(f"removed {_describe(corrections.remove(store, prefix))}", err=as_json)
        current = corrections.list_current(store)
    if as_json:
        emit({"corrections": [dataclasses.asdict(correction) for correction in current], "removed": len(remove)})
        return
    for correction in current:
        click.echo(_describe(correction))
    if not current:
        click.echo("no corrections")


def _describe(correction: corrections.Correction) -> str:
    answer = ""
    if correction.answer is not None:
        answer = f", read as {correction.answer}" + (f" by {correction.release}" if correction.release else "")
    return f"{correction.id[:12]}  {correction.damaged or f'a {correction.label}{answer}'}"

"""`digits feedback`."""

from __future__ import annotations

import dataclasses

import click

from digits import feedback as corrections
from digits.cli import emit
from digits.cli.releases import backend_option, opened


@click.command()
@click.option("--remove", multiple=True, metavar="ID", help="Take one back, by the first letters of its id.")
@backend_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def feedback(remove: tuple[str, ...], backend: str | None, as_json: bool) -> None:
    """List the corrections that the next run learns from, or take some back.

    \b
    digits feedback
    digits feedback --remove 3f2a9c81d0b4
    """
    with opened(backend) as (_, store, _):
        for which in remove:
            corrections.remove(store, which)
        found = corrections.listed(store)
    if as_json:
        emit({"corrections": [dataclasses.asdict(one) for one in found], "removed": len(remove)})
        return
    for one in found:
        taken = "nothing" if one.answer is None else f"a {one.answer}"
        said = one.damaged or f"a {one.label}, taken for {taken} by {one.release or 'no release'}"
        click.echo(f"{one.id[:12]}  {said}")
    if not found:
        click.echo("no corrections")

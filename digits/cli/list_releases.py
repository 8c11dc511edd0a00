"""`digits releases`."""

from __future__ import annotations

from typing import Any

import click

from digits.cli.common import backend_option, emit, json_option, open_backend_store
from digits.errors import MissingError, ReleaseError, printable
from digits.release import ledger
from digits.release.releases import list_releases


@click.command()
@backend_option("Backend to use.  [process]")
@json_option
def releases(as_json: bool) -> None:
    """List the releases, oldest first. The champion, the one that a rollback restores, and damaged ones are marked.

    \b
    digits releases
    digits releases --backend docker --json
    """
    with open_backend_store() as (_, store, _):
        manifests, damaged = list_releases(store)
        champion = previous = ""
        unreadable: ReleaseError | None = None
        try:
            champion, previous = ledger.champion(store), ledger.previous(store)
        except ReleaseError as exc:
            if as_json:
                raise
            unreadable = exc  # its remedy needs a version of those listed
    rows: list[dict[str, Any]] = [
        {
            "version": m["version"],
            "created": m["created"],
            "accuracy": m["metrics"]["accuracy"],
            "dataset": m["data"]["dataset"],
            "digest": m["digest"],
            "champion": m["version"] == champion,
            "previous": m["version"] == previous,
        }
        for m in manifests
    ]
    if as_json:
        emit({"releases": rows, "damaged": damaged, "champion": champion, "previous": previous})
        return
    if not rows and not damaged:
        raise MissingError("there are no releases yet", remedy="digits run")
    for row in rows:
        role = "champion" if row["champion"] else "digits rollback restores it" if row["previous"] else ""
        created = row["created"][:16].replace("T", " ")
        click.echo(f"{row['version']}  {created}  {row['accuracy']:.2%}  {row['dataset']}  {role}".rstrip())
    for version, why in damaged.items():
        click.echo(printable(f"{version}  damaged: {why}"))
    if unreadable:
        raise unreadable

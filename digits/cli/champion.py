"""`digits promote` and `digits rollback`: another champion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from digits.cli.common import backend_option, emit, json_option, open_store_of
from digits.errors import DigitsError
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store import ObjectStore

if TYPE_CHECKING:
    from backends.base import Backend


@click.command()
@click.argument("version")
@click.option("--why", default="promoted by hand", help="A sentence for the ledger.")
@backend_option
@json_option
def promote(version: str, why: str, backend: str | None, as_json: bool) -> None:
    """Make the release VERSION, or the one that begins so, the champion, past the gate.

    \b
    digits promote fb8e47d9ae35 --why "better on our scans"
    """
    with open_store_of(backend) as (settings, store, chosen):
        ledger.promote(store, releases.find(store, version), why)
        _follow_up(settings, store, chosen, as_json)


@click.command()
@backend_option
@json_option
def rollback(backend: str | None, as_json: bool) -> None:
    """Bring back the champion before this one; again, and the one before that.

    \b
    digits releases     says which one comes back
    digits rollback
    """
    with open_store_of(backend) as (settings, store, chosen):
        ledger.rollback(store)
        _follow_up(settings, store, chosen, as_json)


def _follow_up(settings: Settings, store: ObjectStore, backend: Backend, as_json: bool) -> None:
    """What follows a change of the champion: TensorFlow Serving's layout, the endpoint, MLflow's aliases."""
    from digits.release import mlflow_log

    champion = ledger.champion(store)
    try:
        ledger.write_serving_layout(store)
        endpoint = backend.redeploy()
        mlflow_log.mirror(settings, store)
    except DigitsError as exc:
        # The ledger has changed, so the same command once more would change it once more.
        again = f"then digits promote {champion} --backend {settings.backend}"
        exc.message = f"{champion} is the champion now, but {exc.message}"
        exc.remedy = " and ".join(filter(None, (exc.remedy, again)))
        raise
    click.echo(f"champion: {champion}" + (f", served on {endpoint}" if endpoint else ""), err=True)
    if as_json:
        emit({"champion": champion, "previous": ledger.previous(store), "endpoint": endpoint})

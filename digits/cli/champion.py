"""`digits promote` and `digits rollback`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from digits.cli.common import backend_option, emit, json_option, open_backend_store
from digits.errors import DigitsError, ReleaseError
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store import ObjectStore

if TYPE_CHECKING:
    from backends.base import Backend


@click.command()
@click.argument("version")
@click.option("--why", default="promoted manually", help="Reason to record in the ledger.")
@click.option("--new-ledger", is_flag=True, help="Set the ledger aside, which may be damaged, and begin a new one.")
@backend_option("Backend to use.  [process]")
@json_option
def promote(version: str, why: str, new_ledger: bool, as_json: bool) -> None:
    """Make a release the champion, whatever the gate decided.

    VERSION is the release's version or its first letters.

    \b
    digits promote fb8e47d9ae35 --why "better on our scans"
    digits promote fb8e47d9ae35 --new-ledger     after damage to the ledger
    """
    with open_backend_store() as (settings, store, opened):
        version = releases.find(store, version)
        if new_ledger:
            releases.load_whole(store, version)  # before the ledger is touched
            click.echo(f"the former ledger is in {ledger.set_aside(store)} of {store.uri}", err=True)
        ledger.promote(store, version, why)
        _apply(version, settings, store, opened, as_json)


@click.command()
@backend_option("Backend to use.  [process]")
@json_option
def rollback(as_json: bool) -> None:
    """Make the previous champion the champion again. Each further rollback goes back by one more.

    \b
    digits releases     shows which release a rollback restores
    digits rollback
    """
    with open_backend_store() as (settings, store, opened):
        _apply(ledger.rollback(store).version, settings, store, opened, as_json)


def _apply(version: str, settings: Settings, store: ObjectStore, backend: Backend, as_json: bool) -> None:
    """Update TensorFlow Serving's layout, the endpoint and MLflow's aliases to the new champion `version`."""
    from digits.release import mlflow_registry
    from digits.release.deploy import Superseded
    from digits.release.serving_layout import write_serving_layout

    try:
        write_serving_layout(store)
        try:
            endpoint = backend.redeploy()
        except Superseded:
            endpoint = backend.endpoint()  # the later promotion waits for its own release
        mlflow_registry.mirror_ledger(settings, store)
    except DigitsError as exc:
        # The ledger has changed already, so repeating a rollback would go back one more.
        again = f"then digits promote {version} --backend {settings.backend}"
        exc.message = f"{version} is the champion now, but {exc.message}"
        exc.remedy = " and ".join(filter(None, (exc.remedy, again)))
        raise
    champion = ledger.champion(store)
    if not champion:
        raise ReleaseError(f"{version} was the champion, but the ledger of {store.uri} was removed meanwhile")
    if champion != version:
        click.echo(f"{version} was the champion until {champion} was promoted", err=True)
    click.echo(f"champion: {champion}" + (f", served on {endpoint}" if endpoint else ""), err=True)
    if as_json:
        emit({"champion": champion, "previous": ledger.previous(store), "endpoint": endpoint})

"""`digits releases`, `promote`, `rollback`, `report`."""

from __future__ import annotations

import webbrowser
from typing import Any

import click

from digits import releases as store_releases
from digits.cli import emit
from digits.errors import MissingError, ReleaseError
from digits.settings import Settings
from digits.store import ObjectStore, open_store

_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


@click.command()
@_json
def releases(as_json: bool) -> None:
    """List the releases, oldest first; * is the champion, - the one a rollback would bring back."""
    store = open_store(Settings.load())
    champion, previous = store_releases.champion(store), store_releases.previous(store)
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
        for m in store_releases.versions(store)
    ]
    if as_json:
        emit({"releases": rows, "champion": champion, "previous": previous})
        return
    if not rows:
        raise MissingError("there are no releases yet", remedy="digits run")
    for row in rows:
        mark = "*" if row["champion"] else "-" if row["previous"] else " "
        when = row["created"][:16].replace("T", " ")
        click.echo(f"{mark} {row['version']}  {when}  {row['accuracy']:.2%}  {row['dataset']}")


@click.command()
@click.argument("version")
@click.option("--why", default="promoted by hand", help="A sentence for the ledger.")
@_json
def promote(version: str, why: str, as_json: bool) -> None:
    """Make a release the champion, past the gate."""
    settings = Settings.load()
    store = open_store(settings)
    store_releases.promote(store, version, why)
    _follow_up(settings, store, as_json)


@click.command()
@_json
def rollback(as_json: bool) -> None:
    """Bring back the champion before this one."""
    settings = Settings.load()
    store = open_store(settings)
    store_releases.rollback(store)
    _follow_up(settings, store, as_json)


def _follow_up(settings: Settings, store: ObjectStore, as_json: bool) -> None:
    """What follows a change of the champion: TensorFlow Serving's layout, MLflow's aliases, the endpoint."""
    from backends import open_backend
    from digits import tracking

    champion = store_releases.champion(store)
    store_releases.write_serving_layout(store)
    tracking.mirror(settings, store)
    backend = open_backend(settings)
    try:
        endpoint = backend.redeploy()
    finally:
        backend.close()
    click.echo(f"champion: {champion}" + (f", served on {endpoint}" if endpoint else ""), err=True)
    if as_json:
        emit({"champion": champion, "previous": store_releases.previous(store), "endpoint": endpoint})


@click.command()
@click.argument("run", default="")
@click.option("--open/--no-open", "open_page", default=True, help="Open it in a browser.  [open]")
@_json
def report(run: str, open_page: bool, as_json: bool) -> None:
    """Open the report of the newest run that has one, or of RUN."""
    from backends import runs

    home = Settings.load().home
    found = [runs.find(home, run)] if run else runs.all_runs(home)
    paths = [r.folder / "report.html" for r in found if (r.folder / "report.html").exists()]
    if not paths:
        raise MissingError(f"no report of {run or 'any run'}", remedy="digits run")
    if as_json:
        emit({"report": str(paths[-1])})
    else:
        click.echo(str(paths[-1]))
    if open_page:
        webbrowser.open(paths[-1].as_uri())


@click.command()
@click.argument("target", default="")
@_json
def verify(target: str, as_json: bool) -> None:
    """Walk the chain data -> run -> model -> endpoint of TARGET and say where it breaks.

    TARGET is a release's version, an endpoint's address, or nothing: the champion and the endpoint that serves it.
    """
    from backends import open_backend
    from digits import deployment, verification

    settings = Settings.load()
    store = open_store(settings)
    version, endpoint = target, ""
    if "://" in target:
        version, endpoint = deployment.request(f"{target}/v2/models/digits")["parameters"]["release"], target
    elif not target:
        version = store_releases.champion(store)
        backend = open_backend(settings)
        try:
            endpoint = backend.endpoint()
        finally:
            backend.close()
    if not version:
        raise MissingError("there is no champion to verify", remedy="digits run")
    hops = []
    for hop in verification.verify(settings, store, version, endpoint):
        hops.append({"hop": hop.name, "holds": hop.holds, "found": hop.found})
        mark = click.style("✓", fg="green") if hop.holds else click.style("✗", fg="red")
        click.echo(f"  {mark} {hop.name:<10} {hop.found}", err=as_json)
    broken = [hop["hop"] for hop in hops if not hop["holds"]]
    if as_json:
        emit({"release": version, "endpoint": endpoint, "hops": hops, "holds": not broken})
    if broken:
        raise ReleaseError(f"the chain of release {version} breaks at: {', '.join(map(str, broken))}")

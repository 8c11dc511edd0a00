"""`digits releases`, `promote`, `rollback`, `verify`, `report`."""

from __future__ import annotations

import itertools
import sys
import webbrowser
from typing import TYPE_CHECKING, Any

import click

from digits.cli import emit
from digits.cli.common import backend_option, json_option, opened
from digits.cli.progress import wrapped
from digits.errors import DigitsError, EndpointError, MissingError, ReleaseError
from digits.release import ledger
from digits.release import releases as store_releases
from digits.settings import Settings
from digits.store import ObjectStore

if TYPE_CHECKING:
    from backends.base import Backend

# What mends a link of the chain; of the others: a release is never written again, so another takes its place.
_MENDS = {
    "release": "digits releases lists those that are whole; digits promote one of them",
    "run": "give MLFLOW_TRACKING_URI the address that it had when the release was made",
    "ledger": "restore promotions/digits/ from a backup",
    "endpoint": "digits run, which serves the champion; or digits doctor",
}
_ELSEWHERE = "see that it is reached (digits cluster open, for the kind cluster's), and what is deployed there"
_OTHERS_MEND = "digits rollback to the champion before, or digits run --seed 1 for another release"


@click.command()
@backend_option
@json_option
def releases(backend: str | None, as_json: bool) -> None:
    """List the releases, oldest first, and say which is the champion, which one comes back, which one is damaged.

    \b
    digits releases
    digits releases --backend docker --json
    """
    with opened(backend) as (_, store, _):
        champion, previous = ledger.champion(store), ledger.previous(store)
        manifests, damaged = store_releases.listed(store)
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
        role = "champion" if row["champion"] else "comes back by digits rollback" if row["previous"] else ""
        when = row["created"][:16].replace("T", " ")
        click.echo(f"{row['version']}  {when}  {row['accuracy']:.2%}  {row['dataset']}  {role}".rstrip())
    for version, why in damaged.items():
        click.echo(f"{version}  damaged: {why}")


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
    with opened(backend) as (settings, store, chosen):
        ledger.promote(store, store_releases.find(store, version), why)
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
    with opened(backend) as (settings, store, chosen):
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


@click.command()
@click.argument("run", default="")
@click.option("--open/--no-open", "open_page", default=True, help="Open it in a browser.  [open]")
@json_option
def report(run: str, open_page: bool, as_json: bool) -> None:
    """Open the report of the newest run that has one, or of RUN.

    \b
    digits report
    digits report 20261123-063030-271828-6321
    digits report --no-open     print its path
    """
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
@backend_option
@json_option
def verify(target: str, backend: str | None, as_json: bool) -> None:
    """Walk the chain data -> run -> model -> endpoint of TARGET and say where it breaks.

    TARGET is a release's version or how it begins, an endpoint's address, or nothing: the champion and the endpoint
    that serves it.

    \b
    digits verify
    digits verify fb8e47d9ae35
    digits verify http://127.0.0.1:8080
    """
    from digits.release import verify

    hops = []
    with opened(backend) as (settings, store, chosen):
        version, endpoint = "", ""
        if "://" in target:
            endpoint = target.rstrip("/")
            version = _served_by(endpoint, settings.endpoint_token)
        elif target:
            version = store_releases.find(store, target)
        else:
            version, endpoint = ledger.champion(store), chosen.endpoint()
        if not version:
            raise MissingError("there is no champion to verify", remedy="digits run")
        # Of an endpoint on Kubeflow a machine outside may know nothing; elsewhere the champion has one.
        lacks = not (target or endpoint or settings.backend == "kubeflow")
        none = verify.Hop("endpoint", False, "nothing is served; digits serve, or digits run")
        for hop in itertools.chain(verify.verify(settings, store, version, endpoint), [none] * lacks):
            hops.append({"hop": hop.name, "holds": hop.holds, "found": hop.found})
            mark = click.style("✓", fg="green") if hop.holds else click.style("✗", fg="red")
            click.echo(f"  {mark} {hop.name:<10} {wrapped(hop.found, 15)}", err=as_json)
    broken = [hop["hop"] for hop in hops if not hop["holds"]]
    if as_json:
        emit({"release": version, "endpoint": endpoint, "hops": hops, "holds": not broken})
        sys.exit(1 if broken else 0)
    if broken:
        mend = _MENDS.get(str(broken[0]), _OTHERS_MEND)
        raise ReleaseError(
            f"the chain of release {version} breaks at: {', '.join(map(str, broken))}",
            remedy=_ELSEWHERE if "://" in target and broken[0] == "endpoint" else mend,
        )


def _served_by(address: str, token: str) -> str:
    """The release that an endpoint says it serves."""
    from digits.release import deploy

    try:
        return str(deploy.request(f"{address}/v2/models/digits", token=token)["parameters"]["release"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise EndpointError(f"{address} does not say which release it serves: {exc}", remedy=_ELSEWHERE) from exc

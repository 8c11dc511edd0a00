"""`digits cluster up|status|down`."""

from __future__ import annotations

from typing import Any

import click

from digits.cli import emit
from digits.settings import Settings

_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


def _report(text: str) -> None:
    click.echo(f"  {text}", err=True)


@click.group()
def cluster() -> None:
    """Make and remove a kind cluster of our own, with KServe and MinIO; your kubectl context is not touched."""


@cluster.command()
@_json
def up(as_json: bool) -> None:
    """Make the cluster, or what is missing of it, and wait until all of it is ready."""
    from backends.cluster import kind
    from backends.docker import containers, images

    settings = Settings.load()
    client = containers.connect()
    built = {
        kind.PREDICTOR_IMAGE: images.ensure(client, settings, "predictor", _report),
        kind.WEB_IMAGE: images.ensure(client, settings, "web", _report),
    }
    kind.up(settings, _report, images=built)
    if as_json:
        emit(kind.status(settings))


@cluster.command()
@_json
def status(as_json: bool) -> None:
    """Say what there is of the cluster."""
    from backends.cluster import kind

    found = kind.status(Settings.load())
    if as_json:
        emit(found)
        return
    rows: list[tuple[str, Any]] = [
        ("cluster", found["cluster"] if found["exists"] else f"no cluster {found['cluster']} (digits cluster up)"),
        ("answers", "yes" if found["answers"] else "no"),
        ("kserve", found["kserve"]),
        ("namespace", found["namespace"]),
    ]
    rows += [("pod", f"{pod['name']}  {'ready' if pod['ready'] else pod['phase']}") for pod in found["pods"]]
    rows += [
        ("endpoint", f"{item['name']}  release {item['release']}  {'ready' if item['ready'] else 'not ready'}")
        for item in found["endpoints"]
    ]
    for name, value in rows:
        click.echo(f"  {name:<10} {value}")


@cluster.command()
@_json
def down(as_json: bool) -> None:
    """Remove the cluster and all that `up` made for it."""
    from backends.cluster import kind

    removed = kind.down(Settings.load(), _report)
    if not removed:
        _report("there was no cluster")
    if as_json:
        emit({"removed": removed})

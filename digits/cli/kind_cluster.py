"""`digits cluster up|deploy|rollback|open|status|down`."""

from __future__ import annotations

import time
from typing import Any

import click

from digits.cli.cluster_corrections import bring, bring_home, report
from digits.cli.common import LOCAL_BACKENDS, emit, json_option, open_store_of
from digits.cli.open_cluster import open_command
from digits.errors import EndpointError, MissingError
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store import open_store


@click.group()
def cluster() -> None:
    """Make and remove a kind cluster of our own, with KServe and MinIO; your kubectl context is not touched."""


@cluster.command(short_help="Make what is missing of the cluster.")
@json_option
def up(as_json: bool) -> None:
    """Make the cluster, or what is missing of it, and wait until all of it is ready.

    \b
    digits cluster up && digits cluster deploy
    """
    from backends.docker import containers, images
    from backends.kind import cluster
    from backends.kind.namespace import PREDICTOR_IMAGE, WEB_IMAGE

    settings, began = Settings.load(), time.monotonic()

    def timed(text: str) -> None:
        report(f"{time.monotonic() - began:4.0f} s  {text}")

    client = containers.connect()
    built = {
        PREDICTOR_IMAGE: images.ensure(client, settings, "predictor", timed),
        WEB_IMAGE: images.ensure(client, settings, "web", timed),
    }
    cluster.up(settings, timed, images=built)
    if as_json:
        emit(cluster.status(settings))
    else:
        report("next  digits cluster deploy")


@cluster.command(short_help="Serve a release of this machine behind KServe.")
@click.argument("release", default="")
@click.option("--backend", type=click.Choice(LOCAL_BACKENDS), help="Backend whose release is served.  [process]")
@json_option
def deploy(release: str, backend: str | None, as_json: bool) -> None:
    """Serve RELEASE, or the champion of this machine, behind KServe; it is copied into the cluster's store.

    \b
    digits run && digits cluster deploy
    digits cluster deploy fb8e47d9ae35
    """
    from backends.kind.namespace import store
    from backends.kserve import rollout
    from backends.kserve.service import NAME

    settings = Settings.load()
    with open_store_of(backend) as (_, source, _):
        version = releases.find(source, release) if release else ledger.champion(source)
        if not version:
            raise MissingError("there is no champion to deploy", remedy="digits run")
        with store(settings) as reached:
            target = open_store(reached)
            report(f"release {version} to the cluster's store")
            manifest = releases.copy(source, target, version)
            uri = releases.release_uri(target, version)
            bring(target, source)
    report(f"InferenceService {NAME} in namespace {settings.namespace}; waiting until it answers")
    url = rollout.deploy(settings, manifest, uri)
    _told(version, url, as_json)


@cluster.command()
@json_option
def rollback(as_json: bool) -> None:
    """Serve again what the cluster served before.

    Done twice, it is what it was.

    \b
    digits cluster status       what is served now
    digits cluster rollback
    """
    from backends.kserve import rollout
    from backends.kserve.service import cluster_url

    settings = Settings.load()
    version = rollout.rollback(settings)
    _told(version, cluster_url(settings.namespace), as_json)


def _told(version: str, url: str, as_json: bool) -> None:
    if as_json:
        emit({"release": version, "endpoint": url})
        return
    for name, value in (("release", version), ("endpoint", f"{url} (in the cluster)"), ("next", "digits cluster open")):
        click.echo(f"  {name:<10} {value}")


@cluster.command()
@json_option
def status(as_json: bool) -> None:
    """Say what there is of the cluster.

    \b
    digits cluster status
    digits cluster status --json
    """
    from backends.kind import cluster

    found = cluster.status(Settings.load())
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
@click.option("--yes", is_flag=True, help="Also where corrections made on its page cannot be brought back first.")
@json_option
def down(yes: bool, as_json: bool) -> None:
    """Remove the cluster and all that `up` made for it.

    Corrections made on its page are copied to this machine's store first.

    \b
    digits cluster down
    digits cluster down --yes     even if corrections are lost by it
    """
    from backends.kind import cluster

    settings = Settings.load()
    if cluster.status(settings)["exists"]:
        try:
            bring_home(settings)
        except EndpointError as exc:
            if not yes:
                raise
            report(exc.message)
    removed = cluster.down(settings, report)
    if not removed:
        report("there was no cluster")
    if as_json:
        emit({"removed": removed})


cluster.add_command(open_command)

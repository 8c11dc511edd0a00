"""`digits cluster up`, `deploy`, `rollback`, `status` and `down`; `open` is in `digits.cli.open_cluster`."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click

from digits.cli.cluster_corrections import copy_corrections, fetch_corrections, report
from digits.cli.common import LOCAL_BACKENDS, backend_option, emit, json_option, open_backend_store, wrap
from digits.cli.open_cluster import open_command
from digits.errors import EndpointError, MissingError
from digits.release import ledger, releases
from digits.release.write import copy_release
from digits.settings import Settings
from digits.store import open_store


@click.group()
def cluster() -> None:
    """Create, use and remove a kind cluster with KServe and MinIO. Your kubectl context is not changed."""


@cluster.command(short_help="Create the cluster, or what is missing of it.")
@json_option
def up(as_json: bool) -> None:
    """Create the cluster, or what is missing of it, and wait until it is ready.

    \b
    digits cluster up && digits cluster deploy
    """
    from backends.docker import containers, images
    from backends.kind import cluster
    from backends.kind.namespace import PREDICTOR_IMAGE, WEB_IMAGE

    settings, start = Settings.load(), time.monotonic()

    def report_time(text: str) -> None:
        report(f"{time.monotonic() - start:4.0f} s  {text}")

    cluster.check(settings)  # the images take minutes
    with contextlib.closing(containers.connect()) as client:
        built = {
            PREDICTOR_IMAGE: images.ensure_image(client, settings, "predictor", report_time),
            WEB_IMAGE: images.ensure_image(client, settings, "web", report_time),
        }
    cluster.up(settings, report_time, images=built)
    if as_json:
        emit(cluster.status(settings))
    else:
        report("next  digits cluster deploy")


@cluster.command(short_help="Serve a release of this machine with KServe.")
@click.argument("release", default="")
@backend_option("Backend whose release is served.  [process]", LOCAL_BACKENDS)
@json_option
def deploy(release: str, as_json: bool) -> None:
    """Copy RELEASE, by default the champion of this machine, to the cluster's store and serve it with KServe.

    \b
    digits run && digits cluster deploy
    digits cluster deploy fb8e47d9ae35
    """
    from backends.kind.namespace import store
    from backends.kserve import rollout

    settings = Settings.load()
    with open_backend_store() as (_, source, _):
        version = releases.find(source, release) if release else ledger.champion(source)
        if not version:
            raise MissingError("there is no champion to deploy", remedy="digits run")
        with store(settings) as reached:
            target = open_store(reached)
            report(f"copying release {version} to the cluster's store")
            manifest = copy_release(source, target, version)
            uri = releases.release_uri(target, version)
            copy_corrections(target, source)
    report(f"InferenceService {settings.declaration.name} in namespace {settings.namespace}: waiting until it answers")
    url = rollout.deploy(settings, manifest, uri)
    _print_deployed(version, url, as_json)


@cluster.command()
@json_option
def rollback(as_json: bool) -> None:
    """Serve the release again that the cluster served before. A second rollback undoes the first.

    \b
    digits cluster status       shows what is served now
    digits cluster rollback
    """
    from backends.kserve import rollout
    from backends.kserve.service import cluster_url

    settings = Settings.load()
    version = rollout.rollback(settings)
    _print_deployed(version, cluster_url(settings.namespace, settings.declaration.name), as_json)


def _print_deployed(version: str, url: str, as_json: bool) -> None:
    if as_json:
        emit({"release": version, "endpoint": url})
        return
    for name, value in (("release", version), ("endpoint", f"{url} (in the cluster)"), ("next", "digits cluster open")):
        click.echo(f"  {name:<10} {value}")


@cluster.command()
@json_option
def status(as_json: bool) -> None:
    """Show the state of the cluster, its pods and its endpoints.

    \b
    digits cluster status
    digits cluster status --json
    """
    from backends.kind import cluster

    state = cluster.status(Settings.load())
    if as_json:
        emit(state)
        return
    rows: list[tuple[str, Any]] = [
        ("cluster", state["cluster"] if state["exists"] else f"no cluster {state['cluster']} (digits cluster up)"),
        ("answers", "yes" if state["answers"] else "no (digits cluster up)"),
        ("kserve", state["kserve"]),
        ("namespace", state["namespace"]),
    ]
    rows += [("pod", f"{pod['name']}  {'ready' if pod['ready'] else pod['phase']}") for pod in state["pods"]]
    rows += [
        ("endpoint", f"{item['name']}  release {item['release']}  {'ready' if item['ready'] else 'not ready'}")
        for item in state["endpoints"]
    ]
    rows += [("", f"{item['name']}: {wrap(item['why'], 13)}") for item in state["endpoints"] if item["why"]]
    for name, value in rows:
        click.echo(f"  {name:<10} {value}")


@cluster.command()
@click.option("--yes", is_flag=True, help="Remove the cluster even if its corrections cannot be copied first.")
@json_option
def down(yes: bool, as_json: bool) -> None:
    """Remove the cluster and everything that `up` created for it.

    Corrections made on its page are first copied to this machine's store.

    \b
    digits cluster down
    digits cluster down --yes     even if corrections are lost
    """
    from backends.kind import cluster

    settings = Settings.load()
    if cluster.status(settings)["exists"]:
        cluster.check_ours(settings)
        try:
            fetch_corrections(settings)
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

"""`digits cluster up|deploy|rollback|open|status|down`."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import click

from digits.cli import emit
from digits.cli.common import HERE, json_option, opened
from digits.data import corrections
from digits.errors import DigitsError, EndpointError, MissingError
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store import ObjectStore, open_store

LOOK_SECONDS, MISSED_LOOKS = 5.0, 3


def _report(text: str) -> None:
    click.echo(f"  {text}", err=True)


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

    def report(text: str) -> None:
        _report(f"{time.monotonic() - began:4.0f} s  {text}")

    client = containers.connect()
    built = {
        PREDICTOR_IMAGE: images.ensure(client, settings, "predictor", report),
        WEB_IMAGE: images.ensure(client, settings, "web", report),
    }
    cluster.up(settings, report, images=built)
    if as_json:
        emit(cluster.status(settings))
    else:
        _report("next  digits cluster deploy")


@cluster.command(short_help="Serve a release of this machine behind KServe.")
@click.argument("release", default="")
@click.option("--backend", type=click.Choice(HERE), help="Backend whose release is served.  [process]")
@json_option
def deploy(release: str, backend: str | None, as_json: bool) -> None:
    """Serve RELEASE, or the champion of this machine, behind KServe; it is copied into the cluster's store.

    \b
    digits run && digits cluster deploy
    digits cluster deploy fb8e47d9ae35
    """
    from backends.kind.namespace import store
    from backends.kserve import rollout

    settings = Settings.load()
    with opened(backend) as (_, source, _):
        version = releases.find(source, release) if release else ledger.champion(source)
        if not version:
            raise MissingError("there is no champion to deploy", remedy="digits run")
        with store(settings) as reached:
            target = open_store(reached)
            _report(f"release {version} to the cluster's store")
            manifest = releases.copy(source, target, version)
            uri = releases.release_uri(target, version)
            _bring(target, source)
    _report(f"InferenceService {rollout.NAME} in namespace {settings.namespace}; waiting until it answers")
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

    settings = Settings.load()
    version = rollout.rollback(settings)
    _told(version, f"http://{rollout.NAME}-predictor.{settings.namespace}.svc.cluster.local", as_json)


def _bring(cluster: ObjectStore, here: ObjectStore) -> None:
    """Corrections made on the cluster's page, for the next run on this machine."""
    if count := corrections.copy(cluster, here):
        them = "it" if count == 1 else "them"
        _report(f"{count} correction{'s' * (count > 1)} from the cluster's page; the next run here learns from {them}")


def _bring_home(settings: Settings) -> None:
    """As `_bring`, where no store is open. Raises EndpointError if it can't be done."""
    from backends.kind.namespace import credentials, store
    from backends.kserve.kube import kubeconfig_path

    try:
        if kubeconfig_path(settings).is_file() and credentials(settings) is None:
            return  # without a store there are no corrections
        with opened(None) as (_, here, _), store(settings) as reached:
            _bring(open_store(reached), here)
    except DigitsError as exc:
        raise EndpointError(
            f"corrections made on the cluster's page cannot be brought back: {exc.message}",
            remedy=f"{exc.remedy or 'digits cluster up'}; or digits cluster down --yes, which gives them up",
        ) from exc


def _bring_home_or_say(settings: Settings) -> None:
    """As `_bring_home`, where the cluster stays, and they with it."""
    try:
        _bring_home(settings)
    except EndpointError as exc:
        _report(exc.message)


def _told(version: str, url: str, as_json: bool) -> None:
    if as_json:
        emit({"release": version, "endpoint": url})
        return
    for name, value in (("release", version), ("endpoint", f"{url} (in the cluster)"), ("next", "digits cluster open")):
        click.echo(f"  {name:<10} {value}")


@cluster.command(name="open", short_help="Bring the page and the endpoint to this machine.")
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser.  [open]")
def open_command(open_page: bool) -> None:
    """Bring the cluster's page and endpoint to ports of this machine, until Ctrl-C.

    A deployment or rollback meanwhile is followed within half a minute. Corrections made on that page are copied to
    this machine's store at the end, for its next run.

    \b
    digits cluster open
    digits cluster open --no-open     only print the addresses
    """
    import webbrowser

    from backends.kserve import rollout
    from backends.kserve.kube import kubeconfig_path
    from backends.kserve.port_forward import forwarded
    from backends.process.predictor import free_port

    settings = Settings.load()
    page_at, endpoint_at = free_port(settings.web_port), free_port(settings.port)
    page, gone = f"http://127.0.0.1:{page_at}", ""
    with contextlib.ExitStack() as at_last, contextlib.suppress(KeyboardInterrupt):  # how it is meant to end
        while True:
            with (
                rollout.connected(settings, local_port=endpoint_at) as endpoint,
                forwarded(kubeconfig_path(settings), settings.namespace, "service/web", 80, local_port=page_at),
            ):
                if gone:
                    click.echo("connected again", err=True)
                else:
                    at_last.callback(_bring_home_or_say, settings)
                    click.echo(f"endpoint {endpoint}", err=True)
                    click.echo(f"draw at {page}   (Ctrl-C ends it)", err=True)
                    if open_page:
                        webbrowser.open(page)
                gone = _watch(f"{page}/healthz", f"{endpoint}/v2/health/live")
            # A forwarded port is one pod's, and a deployment or rollback replaces the pod.
            click.echo(f"{gone} no longer answers", err=True)


def _watch(*addresses: str) -> str:
    """Look at them now and then; return the one that has not answered several times in a row."""
    import urllib3

    missed = dict.fromkeys(addresses, 0)
    while max(missed.values()) < MISSED_LOOKS:
        time.sleep(LOOK_SECONDS)
        for address in addresses:
            try:
                urllib3.request("GET", address, timeout=LOOK_SECONDS, retries=False)
                missed[address] = 0
            except urllib3.exceptions.HTTPError:
                missed[address] += 1
    return max(missed, key=lambda address: missed[address])


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
            _bring_home(settings)
        except EndpointError as exc:
            if not yes:
                raise
            _report(exc.message)
    removed = cluster.down(settings, _report)
    if not removed:
        _report("there was no cluster")
    if as_json:
        emit({"removed": removed})

"""`digits cluster open`."""

from __future__ import annotations

import contextlib
import time

import click

from digits.cli.cluster_corrections import bring_home_or_say
from digits.http import request
from digits.settings import Settings

LOOK_SECONDS, MISSED_LOOKS = 5.0, 3


@click.command(name="open", short_help="Bring the page and the endpoint to this machine.")
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
                    at_last.callback(bring_home_or_say, settings)
                    click.echo(f"endpoint {endpoint}", err=True)
                    click.echo(f"draw at {page}   (Ctrl-C ends it)", err=True)
                    if open_page:
                        webbrowser.open(page)
                gone = _watch(f"{page}/healthz", f"{endpoint}/v2/health/live")
            # A forwarded port is one pod's, and a deployment or rollback replaces the pod.
            click.echo(f"{gone} no longer answers", err=True)


def _watch(*addresses: str) -> str:
    """Look at them now and then; return the one that has not answered several times in a row."""
    missed = dict.fromkeys(addresses, 0)
    while max(missed.values()) < MISSED_LOOKS:
        time.sleep(LOOK_SECONDS)
        for address in addresses:
            try:
                request(address, seconds=LOOK_SECONDS)
                missed[address] = 0
            except OSError:
                missed[address] += 1
    return max(missed, key=lambda address: missed[address])

"""`digits cluster open`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator

import click

from digits.cli.cluster_corrections import try_to_fetch_corrections
from digits.cli.common import announce_page
from digits.errors import DigitsError, EndpointError
from digits.http import request
from digits.settings import Settings
from digits.tasks.task import BUILT_IN

POLL_SECONDS, MAX_FAILURES, ANSWER_SECONDS = 1.0, 2, 5.0
RECONNECT_SECONDS = 300.0  # as long as a pod may take to start
PAGE_SECONDS = 30.0  # in which the page's process must start, and end


@click.command(name="open", short_help="Forward the page and the endpoint to this machine.")
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser.  [open]")
def open_command(open_page: bool) -> None:
    """Forward the cluster's page and endpoint to ports of this machine until Ctrl-C.

    The cluster's page is for digits. For another task, this machine serves a page for the forwarded endpoint.
    After a deployment or rollback it reconnects within seconds, and if a pod is lost, when another is ready. At the
    end, corrections made on the cluster's page are copied to this machine's store for its next run.

    \b
    digits cluster open
    digits cluster open --no-open     only print the addresses
    """
    from backends.kserve import rollout
    from backends.kserve.kube import kubeconfig_path
    from backends.kserve.port_forward import forwarded
    from backends.ports import free_port

    settings = Settings.load()
    own_page = settings.declaration.name != BUILT_IN
    page_port, endpoint_port = free_port(settings.web_port), free_port(settings.port)
    page, lost, until = f"http://127.0.0.1:{page_port}", "", 0.0
    with contextlib.ExitStack() as at_exit, contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is the normal end
        while True:
            try:
                with (
                    rollout.connected(settings, local_port=endpoint_port) as endpoint,
                    _page_for(settings, endpoint, page_port)
                    if own_page
                    else forwarded(
                        kubeconfig_path(settings), settings.namespace, "service/web", 80, local_port=page_port
                    ),
                ):
                    if lost:
                        click.echo("connected again", err=True)
                    else:
                        if not own_page:
                            at_exit.callback(try_to_fetch_corrections, settings)
                        click.echo(f"endpoint {endpoint}", err=True)
                        announce_page(settings, page, "Ctrl-C closes the connection", opens=open_page)
                    lost = wait_for_failure(f"{page}/healthz", f"{endpoint}/v2/health/live")
            except DigitsError:  # no pod is ready, or `digits cluster down` has removed the cluster
                if not lost or time.monotonic() > until or not kubeconfig_path(settings).is_file():
                    raise
                time.sleep(POLL_SECONDS)
                continue
            # A forwarded port belongs to one pod, which a deployment or rollback replaces.
            until = time.monotonic() + RECONNECT_SECONDS
            click.echo(f"{lost} no longer answers", err=True)


@contextlib.contextmanager
def _page_for(settings: Settings, endpoint: str, port: int) -> Iterator[None]:
    """Serve the page for an endpoint in a process of its own while the block runs; corrections stay on this machine."""
    from backends.programs import python, python_environment

    page = subprocess.Popen(
        python("-m", "digits", "web", "--no-open", "--endpoint", endpoint, "--port", str(port)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=python_environment(os.environ | settings.environ()),
    )
    try:
        deadline = time.monotonic() + PAGE_SECONDS
        while page.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                request(f"http://127.0.0.1:{port}/healthz", seconds=ANSWER_SECONDS)
                break
            time.sleep(0.1)
        else:
            raise EndpointError(
                f"the page does not answer within {PAGE_SECONDS:.0f} s",
                remedy=f"digits web --endpoint {endpoint} --port {port}, which prints the reason",
            )
        yield
    finally:
        page.terminate()
        try:
            page.wait(PAGE_SECONDS)
        except subprocess.TimeoutExpired:
            page.kill()
            page.wait(PAGE_SECONDS)


def wait_for_failure(*addresses: str) -> str:
    """Poll addresses until one fails MAX_FAILURES times in a row. Return that address."""
    failures = dict.fromkeys(addresses, 0)
    while max(failures.values()) < MAX_FAILURES:
        time.sleep(POLL_SECONDS)
        for address in addresses:
            try:
                request(address, seconds=ANSWER_SECONDS)
                failures[address] = 0
            except OSError:
                failures[address] += 1
    return max(failures, key=lambda address: failures[address])

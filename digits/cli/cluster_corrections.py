"""Copying corrections from a kind cluster to this machine."""

from __future__ import annotations

import click

from digits import homes
from digits.cli.common import open_backend_store
from digits.data import corrections
from digits.errors import DigitsError, EndpointError
from digits.settings import Settings
from digits.store import ObjectStore, open_store


def report(text: str) -> None:
    """Print a line of progress on standard error."""
    click.echo(f"  {text}", err=True)


def copy_corrections(cluster: ObjectStore, here: ObjectStore) -> None:
    """Copy the corrections in the cluster's store to this machine's store, for its next run."""
    if count := corrections.copy(cluster, here):
        them = "it" if count == 1 else "them"
        report(f"copied {count} correction{'s' * (count > 1)} from the cluster's page; the next run trains on {them}")


def fetch_corrections(settings: Settings) -> None:
    """Copy the corrections of the cluster, if it has a store, to this machine's store.

    Raises:
        EndpointError: the corrections cannot be copied.
    """
    from backends.kind.namespace import credentials, store
    from backends.kserve.kube import kubeconfig_path

    try:
        if kubeconfig_path(settings).is_file() and credentials(settings) is None:
            return  # without a store there are no corrections
        homes.claim(settings.home)
        with open_backend_store() as (_, here, _), store(settings) as reached:
            copy_corrections(open_store(reached), here)
    except DigitsError as exc:
        raise EndpointError(
            f"cannot copy the corrections made on the cluster's page: {exc.message}",
            remedy=f"{exc.remedy or 'digits cluster up'}; or digits cluster down --yes, which discards them",
        ) from exc


def try_to_fetch_corrections(settings: Settings) -> None:
    """Copy the cluster's corrections. A failure is only printed, because the corrections remain in the cluster."""
    try:
        fetch_corrections(settings)
    except EndpointError as exc:
        report(exc.message)

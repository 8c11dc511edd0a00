"""Corrections made on the page of a kind cluster, copied to this machine."""

from __future__ import annotations

import click

from digits.cli.common import open_store_of
from digits.data import corrections
from digits.errors import DigitsError, EndpointError
from digits.settings import Settings
from digits.store import ObjectStore, open_store


def report(text: str) -> None:
    """Print a line of progress on standard error."""
    click.echo(f"  {text}", err=True)


def bring(cluster: ObjectStore, here: ObjectStore) -> None:
    """Corrections made on the cluster's page, for the next run on this machine."""
    if count := corrections.copy(cluster, here):
        them = "it" if count == 1 else "them"
        report(f"{count} correction{'s' * (count > 1)} from the cluster's page; the next run here learns from {them}")


def bring_home(settings: Settings) -> None:
    """As `bring`, where no store is open. Raises EndpointError if it can't be done."""
    from backends.kind.namespace import credentials, store
    from backends.kserve.kube import kubeconfig_path

    try:
        if kubeconfig_path(settings).is_file() and credentials(settings) is None:
            return  # without a store there are no corrections
        with open_store_of(None) as (_, here, _), store(settings) as reached:
            bring(open_store(reached), here)
    except DigitsError as exc:
        raise EndpointError(
            f"corrections made on the cluster's page cannot be brought back: {exc.message}",
            remedy=f"{exc.remedy or 'digits cluster up'}; or digits cluster down --yes, which gives them up",
        ) from exc


def bring_home_or_say(settings: Settings) -> None:
    """As `bring_home`, where the cluster stays, and they with it."""
    try:
        bring_home(settings)
    except EndpointError as exc:
        report(exc.message)

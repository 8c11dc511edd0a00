"""`digits verify`."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

import click

from digits.cli.common import backend_option, emit, json_option, open_store_of, wrap
from digits.errors import EndpointError, MissingError, ReleaseError
from digits.release import ledger, releases

if TYPE_CHECKING:
    pass

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
    with open_store_of(backend) as (settings, store, chosen):
        version, endpoint = "", ""
        if "://" in target:
            endpoint = target.rstrip("/")
            version = _served_by(endpoint, settings.endpoint_token)
        elif target:
            version = releases.find(store, target)
        else:
            version, endpoint = ledger.champion(store), chosen.endpoint()
        if not version:
            raise MissingError("there is no champion to verify", remedy="digits run")
        # Of an endpoint on Kubeflow a machine outside may know nothing; elsewhere the champion has one.
        lacks = not (target or endpoint or settings.backend == "kubeflow")
        none = verify.Check("endpoint", False, "nothing is served; digits serve, or digits run")
        for check in itertools.chain(verify.verify(settings, store, version, endpoint), [none] * lacks):
            hops.append({"hop": check.name, "holds": check.passed, "found": check.detail})
            mark = click.style("✓", fg="green") if check.passed else click.style("✗", fg="red")
            click.echo(f"  {mark} {check.name:<10} {wrap(check.detail, 15)}", err=as_json)
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
    from digits.http import request_json

    try:
        return str(request_json(f"{address}/v2/models/digits", token=token)["parameters"]["release"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise EndpointError(f"{address} does not say which release it serves: {exc}", remedy=_ELSEWHERE) from exc

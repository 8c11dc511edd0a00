"""`digits verify`."""

from __future__ import annotations

import itertools
import sys

import click

from digits.cli.common import backend_option, emit, json_option, open_backend_store, wrap
from digits.errors import EndpointError, MissingError, ReleaseError
from digits.http import base_url
from digits.release import ledger, releases
from digits.remedies import remedy

_AGAIN = f"{releases.AGAIN}; digits promote makes that the champion whatever the gate decides"
# The remedy for each failed check whose error has none, or only the one for every damaged release.
_REMEDIES = {
    "release": f"digits releases lists the intact releases; digits promote one of them; or {_AGAIN}",
    "provenance": _AGAIN,
    "files": f"digits rollback to the previous champion; or {_AGAIN}",
    "run": f"set MLFLOW_TRACKING_URI to the address that it had when the release was made; or {_AGAIN}",
}
_OTHER_REMEDY = "digits rollback to the previous champion, or digits run --seed 1 for another release"
_REMOTE_REMEDY = "check that the address is reachable (digits cluster open, for kind) and what is deployed there"


@click.command()
@click.argument("target", default="")
@backend_option("Backend to use.  [process]")
@json_option
def verify(target: str, as_json: bool) -> None:
    """Check the digests of TARGET from its data to the endpoint, and report what does not match.

    TARGET is a release's version or its first letters, or the address of an endpoint; by default the champion and its
    endpoint.

    \b
    digits verify
    digits verify fb8e47d9ae35
    digits verify http://127.0.0.1:8080
    """
    from digits.release import verify
    from digits.serving import client

    rows, remedies = [], dict[str, str]()
    with open_backend_store() as (settings, store, opened):
        version, endpoint = "", ""
        if "://" in target:
            endpoint = base_url(target)
            try:
                version = str(client.metadata(endpoint, settings).get("release", ""))
            except EndpointError as exc:
                exc.remedy = _REMOTE_REMEDY
                raise
            if not version:
                raise EndpointError(f"{endpoint} does not report its release", remedy=_REMOTE_REMEDY)
        elif target:
            version = releases.find(store, target)
        else:
            version, endpoint = ledger.champion(store), opened.endpoint()
        if not version:
            raise MissingError("there is no champion to verify", remedy="digits run")
        # The champion should have an endpoint. On Kubeflow it may be unreachable from here, so none is required.
        absent = not (target or endpoint or settings.backend == "kubeflow")
        no_endpoint = verify.Check("endpoint", False, "nothing is served; digits serve, or digits run")
        for check in itertools.chain(verify.verify(settings, store, version, endpoint), [no_endpoint] * absent):
            rows.append({"hop": check.name, "holds": check.passed, "found": check.detail, "signer": check.signer})
            if not check.passed and check.remedy and releases.AGAIN not in check.remedy:
                remedies[check.name] = check.remedy
            mark = click.style("✓", fg="green") if check.passed else click.style("✗", fg="red")
            click.echo(f"  {mark} {check.name:<10} {wrap(check.detail, 15)}", err=as_json)
    failed = [str(row["hop"]) for row in rows if not row["holds"]]
    if as_json:
        emit({"release": version, "endpoint": endpoint, "hops": rows, "holds": not failed})
        sys.exit(1 if failed else 0)
    if failed:
        what = (_REMEDIES | {"ledger": ledger.restore_remedy(store)} | remedies).get(failed[0], _OTHER_REMEDY)
        if failed[0] == "endpoint":
            here = remedy(
                "champion is not verified at the endpoint",
                settings.backend,
                namespace=settings.namespace,
                name=settings.declaration.name,
            )
            what = _REMOTE_REMEDY if "://" in target else here
        raise ReleaseError(f"release {version} failed these checks: {', '.join(failed)}", remedy=what)

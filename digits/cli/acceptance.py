"""`digits acceptance`."""

from __future__ import annotations

import contextlib
import datetime
import errno
import sys
from pathlib import Path

import click

from digits import homes
from digits.cli.common import emit, json_option, show_finding
from digits.errors import DigitsError, MissingError, UsageError, one_line
from digits.files import user_path
from digits.settings import Settings

COLOURS = {"passed": "green", "failed": "red", "skipped": "yellow"}


@click.command()
@click.option(
    "--only", metavar="PROBES", default="", help="Probes to run, separated by commas, and what they need.  [all]"
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the results, new or empty.  [DIGITS_HOME/acceptance/TIME]",
)
@click.option("--list", "listing", is_flag=True, help="List the probes and run none.")
@json_option
def acceptance(only: str, output: Path | None, listing: bool, as_json: bool) -> None:
    """Check whether a cluster has what runs and endpoints need. Everything that a probe creates is removed again.

    It uses the kubeconfig in DIGITS_HOME, or the service account of its pod, and the namespace K8S_NAMESPACE. The
    results are JUnit XML, JSON and a page, in Sonobuoy's layout. The exit code is 3 if a probe failed.

    \b
    digits acceptance
    digits acceptance --only kserve,s3 --output results
    sonobuoy results results
    """
    from backends.acceptance.probe import Context, Outcome, chosen, run_probes
    from backends.acceptance.probes import PROBES
    from backends.acceptance.result_files import report, write_results

    if listing:
        for probe in PROBES:
            click.echo(f"{probe.name:<10} {probe.title}")
        return
    names = frozenset(name.strip() for name in only.split(",") if name.strip())
    if unknown := names - {probe.name for probe in PROBES}:
        raise UsageError(
            f"--only: expected probes of {', '.join(probe.name for probe in PROBES)}, got {', '.join(sorted(unknown))}"
        )
    settings = Settings.load().with_backend("kubeflow")
    now = datetime.datetime.now(datetime.UTC)
    if output is None:
        homes.claim(settings.home)
        output = settings.home / "acceptance" / now.strftime("%Y%m%d-%H%M%S-%f")
    try:
        user_path(output).mkdir(parents=True, exist_ok=True)  # before the probes, which take minutes
        if any(output.iterdir()):
            raise FileExistsError(errno.ENOTEMPTY, "it is not empty")
    except OSError as exc:
        raise UsageError(
            f"--output: expected a new or empty folder that can be written, got {output}: {exc.strerror}",
            remedy="name another one",
        ) from exc
    probes, outcomes = chosen(PROBES, names), list[Outcome]()
    context = Context(settings, frozenset(probe.name for probe in probes) if names else names)
    for outcome in run_probes(probes, context):
        state = click.style(f"{outcome.state:<8}", fg=COLOURS[outcome.state])
        click.echo(f"{state} {outcome.name:<10} {outcome.seconds:5.1f} s  {outcome.title}", err=as_json)
        for finding in outcome.findings:
            show_finding(finding, as_json)
        outcomes.append(outcome)
    server, address = None, "none"
    with contextlib.suppress(DigitsError):
        server, address = context.kube.request("GET", "/version"), context.kube.server
    about = {"cluster": address, "namespace": context.namespace, "time": now.isoformat(timespec="seconds")}
    content = report(outcomes, about)
    write_results(output, outcomes, content, server)
    click.echo(f"\nresults in {one_line(str(output))}", err=as_json)
    if as_json:
        emit({**content, "folder": str(output)})
    if content["failed"]:
        click.echo(f"failed: {', '.join(content['failed'])}", err=as_json)
        sys.exit(MissingError.exit_code)

"""`digits report`."""

from __future__ import annotations

import webbrowser

import click

from digits.cli.common import emit, json_option
from digits.errors import MissingError
from digits.settings import Settings


@click.command()
@click.argument("run", default="")
@click.option("--open/--no-open", "open_page", default=True, help="Open the report in a browser.  [open]")
@json_option
def report(run: str, open_page: bool, as_json: bool) -> None:
    """Open the report of RUN, by default of the newest run that has one.

    \b
    digits report
    digits report 20261123-063030-271828-6321
    digits report --no-open     only print its path
    """
    from backends import runs

    home = Settings.load().home
    candidates = [runs.find(home, run)] if run else runs.all_runs(home)
    paths = [path for candidate in candidates if (path := candidate.folder / "report.html").exists()]
    if not paths:
        raise MissingError(f"{f'run {run} has' if run else 'there is'} no report", remedy="digits run")
    if as_json:
        emit({"report": str(paths[-1])})
    else:
        click.echo(str(paths[-1]))
    if open_page:
        webbrowser.open(paths[-1].as_uri())

"""Options and helpers that several commands share."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click

from digits import homes
from digits.cli.setting_option import sets
from digits.errors import printable
from digits.findings import Finding
from digits.settings import BACKENDS, Settings

if TYPE_CHECKING:
    from backends.base import Backend
    from digits.store import ObjectStore

T = TypeVar("T", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on standard output.")
# The backends that serve on this machine. Kubeflow's endpoint and releases may be unreachable from here.
LOCAL_BACKENDS = tuple(name for name in BACKENDS if name != "kubeflow")


def backend_option(text: str, backends: Iterable[str] = BACKENDS) -> Callable[[T], T]:
    """Return the option --backend with a help text, which sets DIGITS_BACKEND while the command runs."""
    return click.option("--backend", type=click.Choice(list(backends)), help=text, **sets("DIGITS_BACKEND"))


@contextlib.contextmanager
def open_backend_store() -> Iterator[tuple[Settings, ObjectStore, Backend]]:
    """Open the settings' backend and its object store.

    Yields:
        (the settings by which this machine reaches the store and the endpoint, the store, the backend).

    Raises:
        UsageError: DIGITS_HOME is not a folder that digits created.
        DigitsError: the backend or the store cannot be reached.
    """
    from backends import open_backend
    from digits.store import open_store

    settings = Settings.load()
    homes.check(settings.home)
    with contextlib.closing(open_backend(settings)) as opened:
        settings = opened.host_settings()
        yield settings, open_store(settings), opened


def emit(answer: Any) -> None:
    """Write the one JSON object of `--json` to standard output."""
    click.echo(json.dumps(answer))


def announce_page(settings: Settings, url: str, note: str, *, opens: bool) -> None:
    """Print the address of a page with a note, and open it in a browser if it `opens`."""
    what = "draw" if settings.declaration.drawn else "the page is"
    click.echo(f"{what} at {url}   ({note})", err=True)
    if opens:
        import webbrowser  # every command imports this module

        # In a thread, because a browser in the terminal runs until the user leaves it, and the page must answer it.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def wrap(text: str, indent: int) -> str:
    """Break `text` at the terminal's width, if there is one, and indent all lines but the first.

    Characters that a terminal would act on are replaced, because a part may come from a server or a store.
    """
    text = printable(text)
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        return text
    width = max(min(shutil.get_terminal_size().columns, 120) - indent, 20)
    lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
    return ("\n" + " " * indent).join(lines)


def show_finding(finding: Finding, to_stderr: bool) -> None:
    """Print a finding: its mark, name and text, and its remedy."""
    mark, colour = {True: ("✓", "green"), False: ("✗", "red"), None: ("-", "yellow")}[finding.ok]
    tested = f" (tested: {finding.tested})" if finding.tested else ""
    click.echo(f"  {click.style(mark, fg=colour)} {finding.name:<16} {wrap(finding.found + tested, 21)}", err=to_stderr)
    if finding.remedy:
        click.echo(f"    {'':<16} try: {wrap(finding.remedy, 26)}", err=to_stderr)

"""The `digits` command: the top layer, which alone may import every other one, and does so late.

`digits --help` must answer at once, so that a command's module is imported only when the command is used.
"""

from __future__ import annotations

import datetime
import difflib
import importlib
import os
import signal
import sys
import traceback
from typing import Any, NoReturn

import click

from digits import __version__
from digits.errors import DigitsError, mask_url

# {command: (module of digits.cli, with ":function" if it is not named as the command, one line of help)}
COMMANDS = {
    "up": ("up", "Run what is not cached, serve the model and open the drawing page."),
    "run": ("run", "Run the pipeline."),
    "compile": ("compile:compile_command", "Write the pipeline as YAML for Kubeflow."),
    "predict": ("predict", "Recognise picture files, or test images by their number."),
    "serve": ("serve", "Serve the champion (or one release) over KServe's protocols."),
    "web": ("web", "Serve the drawing page for any KServe endpoint."),
    "releases": ("list_releases", "List the releases."),
    "promote": ("champion", "Make a release the champion."),
    "rollback": ("champion", "Bring back the champion before this one."),
    "verify": ("verify_release", "Check the chain from data to endpoint."),
    "report": ("open_report", "Open the report of a run."),
    "feedback": ("feedback", "List the corrections that the next run learns from, or take some back."),
    "doctor": ("doctor", "Say what is there, what is missing and how to get it."),
    "clean": ("clean", "Stop what runs and remove what was made."),
    "images": ("build_images", "Build the container images."),
    "cluster": ("kind_cluster", "Make, use and remove a kind cluster with KServe."),
    "submit": ("kubeflow", "Submit a run to Kubeflow Pipelines."),
    "upload": ("kubeflow", "Upload the pipeline to Kubeflow Pipelines."),
    "schedule": ("schedule", "Run the pipeline on Kubeflow at set times."),
}


class Commands(click.Group):
    """Finds a command's module when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is that of use."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"digits.cli.{module}"), name or cmd_name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """As click's, with what was probably meant by a name that is none."""
        if args[0] not in COMMANDS and (close := difflib.get_close_matches(args[0], COMMANDS, 2)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(close)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table alone, without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="digits")
def cli() -> None:
    """Train a handwritten-digit classifier and put it behind a KServe endpoint and a drawing page.

    \b
    digits up                                  everything, then draw
    digits run --epochs 5 --optimizer adam     one run of the pipeline
    digits predict picture.png                 ask the served model
    """


def main() -> None:
    """Run a command; an error is one message on standard error and its exit code, 1 where it is none of ours."""
    # Being told to end is being interrupted: what was started is ended, and the run's record says so.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        cli.main(standalone_mode=False)
    except DigitsError as exc:
        _end(exc)
    except click.ClickException as exc:
        exc.show()
        _fail(exc.format_message(), "digits --help", exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        _fail("interrupted", "", 130)
    except Exception as exc:  # noqa: BLE001 # the last resort: what nobody foresaw
        _end(_fault(exc))


def _end(exc: DigitsError) -> NoReturn:
    """End with an error of ours."""
    click.echo(f"{click.style('error:', fg='red', bold=True)} {exc}", err=True)
    _fail(exc.message, exc.remedy, exc.exit_code)


def _fault(exc: Exception) -> DigitsError:
    """What to say of an error that is none of ours. Its traceback is kept in a file, else shown on standard error."""
    from digits.files import write_whole
    from digits.settings import Settings

    told = mask_url("".join(traceback.format_exception(exc)))
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    try:
        kept = Settings.load().home / "logs" / f"fault-{stamp}-{os.getpid()}.txt"
        write_whole(kept, told)
        where = str(kept)
    except Exception:  # noqa: BLE001 # whatever keeps it from being written: it must not be lost
        click.echo(told, err=True)
        where = "the traceback above"
    words = f"{type(exc).__name__}: {' '.join(mask_url(str(exc)).split())[:300]}".removesuffix(": ")
    at = traceback.extract_tb(exc.__traceback__)[-1]
    return DigitsError(
        f"a fault of digits itself, not of what you asked: {words} ({at.filename}:{at.lineno})",
        remedy=f"report it with {where} and the output of digits doctor, as CONTRIBUTING.md says",
    )


def _fail(message: str, remedy: str, code: int) -> NoReturn:
    """End with an exit code and, where --json was asked for, the error as its one object."""
    if "--json" in sys.argv:
        from digits.cli.common import emit

        emit({"error": message, "remedy": remedy, "exit_code": code})
    sys.exit(code)

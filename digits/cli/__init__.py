"""The `digits` command: the top layer, the only part of `digits` that imports `pipeline`, `backends` and `web_app`.

A command's module is imported only when that command runs, so that `digits --help` stays fast.
"""

from __future__ import annotations

import datetime
import difflib
import errno
import importlib
import io
import itertools
import os
import re
import signal
import sys
import traceback
import warnings
from typing import Any, NoReturn

import click

from digits import __version__
from digits.cli import streams
from digits.cli.setting_option import add_task_option
from digits.errors import DigitsError, MissingError, UsageError, mask_url
from digits.variables import remove_unused

# {command: (module of digits.cli, with ":function" if that is not named like the command; one line of help)}
COMMANDS = {
    "new": ("new", "Write the task file for pictures of your own."),
    "up": ("up", "Run the pipeline, serve the model and open the drawing page."),
    "run": ("run", "Run the pipeline."),
    "compile": ("compile:compile_command", "Write the pipeline as YAML for Kubeflow."),
    "predict": ("predict", "Recognise pictures with the deployed model."),
    "batch": ("batch", "Recognise many pictures without the endpoint."),
    "serve": ("serve", "Serve the champion, or one release, over KServe's protocols."),
    "web": ("web", "Serve the drawing page for any KServe endpoint."),
    "releases": ("list_releases", "List the releases."),
    "promote": ("champion", "Make a release the champion."),
    "rollback": ("champion", "Make the previous champion the champion again."),
    "verify": ("verify_release", "Check the digests from the data to the endpoint."),
    "keys": ("keys", "Make the keys that sign releases."),
    "report": ("open_report", "Open the report of a run."),
    "data": ("copy_data", "Copy a data set to a folder or an object store."),
    "feedback": ("feedback", "List or remove the corrections that the next run trains on."),
    "doctor": ("doctor", "Check what is installed and reachable, and print the settings."),
    "clean": ("clean", "Stop the predictor and remove what runs created."),
    "images": ("build_images", "Build the container images."),
    "cluster": ("kind_cluster", "Create, use and remove a kind cluster with KServe."),
    "submit": ("kubeflow", "Submit a run to Kubeflow Pipelines."),
    "watch": ("kubeflow", "Watch a run that continues on Kubeflow."),
    "upload": ("kubeflow", "Upload the pipeline to Kubeflow Pipelines."),
    "acceptance": ("acceptance", "Check whether a cluster has what runs and endpoints need."),
    "schedule": ("kubeflow", "Run the pipeline on Kubeflow on a schedule."),
}


STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the last when the terminal is closed
WITHOUT_TASK = ("keys", "images", "clean", "new")
# The error numbers of a path that this user may not use, or that no file system here accepts.
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP, errno.ENAMETOOLONG}


class Commands(click.Group):
    """A group of commands whose modules are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command and return it; None if there is no such command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"digits.cli.{module}"), name or cmd_name)
        if cmd_name not in WITHOUT_TASK:
            add_task_option(command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Resolve a command as click does, but suggest similar names for an unknown one, and refuse an empty argument.

        It mostly comes from an unset variable of the shell, and the default may be wrong: `digits verify "$VERSION"`
        would check the champion. The manifests start the predictor with `--release=` for any release.
        """
        for before, argument in itertools.pairwise(args):
            if argument == "" or (re.fullmatch("--[a-z-]+=", argument) and args[0] != "serve"):
                raise UsageError(
                    f"{argument[:-1] or f'the argument after {before}'}: expected a value, got an empty text",
                    remedy="set the variable that it comes from, or omit what has a default",
                )
        if args[0] not in COMMANDS and (close := difflib.get_close_matches(args[0], COMMANDS, 2)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(close)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands to the help without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="digits")
def cli() -> None:
    """Train a classifier of small images, by default of digits, and serve it with a KServe endpoint and a page.

    \b
    digits up                                  run everything, then draw a digit
    digits run --epochs 5 --optimizer adam     run the pipeline once
    digits predict picture.png                 classify a picture
    digits new flowers ~/pictures/flowers      begin with pictures of your own
    """


def main() -> None:
    """Run a command. Print an error as one message on standard error and exit with its code."""
    for number in STOPPING:
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:  # by nohup
            signal.signal(number, _interrupt)
    streams.prepare()
    if "PYTHONWARNINGS" in os.environ:  # of another project; with `error`, a library's warning would end the command
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
    remove_unused()
    os.umask(os.umask(0o077) & 0o077)  # this user can always use what the command writes
    try:
        if sys.flags.optimize > 1:
            raise UsageError(
                "MLflow and other libraries need docstrings, which -OO removes", remedy="unset PYTHONOPTIMIZE"
            )
        cli.main(standalone_mode=False)
    except DigitsError as exc:
        _exit_with(exc)
    except click.ClickException as exc:
        exc.show(text := io.StringIO())  # which may repeat an argument with a password
        click.echo(mask_url(text.getvalue()), err=True, nl=False)
        _fail(mask_url(exc.format_message()), "digits --help", exc.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        _fail("interrupted", "", 130)
    except Exception as exc:  # noqa: BLE001 # any other exception is a bug
        _exit_with(_describe_bug(exc))


def _interrupt(*_: object) -> None:
    """Raise KeyboardInterrupt at the first signal, so that child processes end and the run's record is updated.

    Further signals do not cut this short; it has deadlines.
    """
    for number in STOPPING:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, lambda *_: None)  # SIG_IGN would be inherited by programs that are started now
    raise KeyboardInterrupt


def _exit_with(exc: DigitsError) -> NoReturn:
    click.echo(f"{click.style('error:', fg='red', bold=True)} {exc}", err=True)
    _fail(exc.message, exc.remedy, exc.exit_code, **exc.partial)


def _describe_bug(exc: Exception) -> DigitsError:
    """Return the error for an unexpected exception.

    A path that the system refuses is named, and so are a lack of memory and a working directory that was removed.
    Otherwise the traceback is written to a file in DIGITS_HOME, or to standard error if that fails.
    """
    from digits import events, homes
    from digits.files import write_whole
    from digits.settings import Settings

    if isinstance(exc, OSError) and exc.filename and exc.errno in REFUSED:
        return DigitsError(f"{exc.filename}: {exc.strerror}", remedy="allow this user to use it, or name another place")
    try:
        os.getcwd()  # noqa: PTH109 # Path.cwd does the same
    except FileNotFoundError:
        return UsageError("the present folder was removed", remedy="change to another folder: cd")
    cause = f"{type(exc).__name__}: {' '.join(mask_url(str(exc)).split())[:300]}".removesuffix(": ")
    if events.is_out_of_memory(exc):
        return MissingError(f"no memory is left: {cause}", remedy="end other programs, or raise the limit (ulimit -v)")
    text = mask_url("".join(traceback.format_exception(exc)))
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
    try:
        homes.claim(home := Settings.load().home)
        path = home / "logs" / f"fault-{stamp}-{os.getpid()}.txt"
        write_whole(path, text)
        where = str(path)
    except Exception:  # noqa: BLE001 # whatever prevents the file, the traceback must not be lost
        click.echo(text, err=True)
        where = "the traceback above"
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return DigitsError(
        f"internal error in digits: {cause} ({frame.filename}:{frame.lineno})",
        remedy=f"report it with {where} and the output of digits doctor, see CONTRIBUTING.md",
    )


def _fail(message: str, remedy: str, code: int, **partial: object) -> NoReturn:
    """Exit with `code`. With --json, first print the error as the JSON object."""
    if "--json" in sys.argv:
        from digits.cli.common import emit

        emit({**partial, "error": message, "remedy": remedy, "exit_code": code})
    sys.exit(code)

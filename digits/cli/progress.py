"""What a run looks like in the terminal, on standard error: a line a step while it goes, a summary at the end."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from rich.live import Live

    from backends.base import Result
    from digits.events import Event
    from digits.settings import Settings

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MARKS = {"cached": ("=", "cyan"), "finished": ("✓", "green"), "failed": ("✗", "red"), "exited": ("✗", "red")}


class Progress:
    """Prints events as they come, a line each. In a terminal the steps that run tick in a region below those lines."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._began: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._failed: set[str] = set()
        self._live = None if quiet or not _terminal() else self._region()

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for step, at in self._running.items():  # its process was ended before it could say anything
            self._ended(click.style("✗", fg="red"), step, f"{time.monotonic() - at:6.1f} s  stopped")
        self._running.clear()
        if self._live:
            self._live.stop()

    def watch(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        step, kind = event["step"], event["event"]
        if kind == "run":
            self._line(f"run {event['id']}", dim=True)
        elif kind == "fallback":
            self._line("NO MNIST: nothing answered within seconds, and DIGITS_DATA is not set.", fg="yellow", bold=True)
            self._line("The model learns from scikit-learn's 1,797 digits instead and is marked so.", fg="yellow")
        elif kind == "started":
            self._began[step], self._running[step] = event["time"], time.monotonic()
        elif kind == "progress":
            self._line(f"    {event['text']}", dim=True)
        elif kind in MARKS:
            self._running.pop(step, None)
            took = f"{event['time'] - self._began[step]:6.1f} s" if step in self._began else ""
            if step and step not in self._failed:  # a step says why it failed, and then its process ends
                self._ended(click.style(*MARKS[kind]), step, "cached" if kind == "cached" else took)
            if kind in {"failed", "exited"}:
                self._failed.add(step)

    def _ended(self, mark: str, step: str, how: str) -> None:
        self._line(f"  {mark} {step:<18} {how}".rstrip())

    def _line(self, text: str, **style: Any) -> None:
        text = click.style(text, **style) if style else text
        if self._live:
            from rich.text import Text

            self._live.console.print(Text.from_ansi(text), soft_wrap=True)
        else:
            click.echo(text, err=True)

    def _region(self) -> Live:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.text import Text

        def running() -> Group:
            now = time.monotonic()
            turn = SPINNER[int(now * 10) % len(SPINNER)]
            return Group(*(Text(f"  {turn} {step:<18} {now - at:6.1f} s") for step, at in list(self._running.items())))

        return Live(console=Console(stderr=True), get_renderable=running, refresh_per_second=10, transient=True)


def _terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def summary(result: Result, settings: Settings, *, following: bool = True) -> dict[str, Any]:
    """Print how a run ended and, if it is `following`, what to do next; returns it as the object of `--json`."""
    from digits.steps import plain

    if not result.outputs:  # Kubeflow has them, and the pods that told them are gone
        steps = {name: {"state": s.state, "seconds": round(s.seconds, 2)} for name, s in result.steps.items()}
        click.echo("\n  succeeded; what the steps answered is on the run's page", err=True)
        return {"run": result.run_id, "state": result.state, "backend": settings.backend, "steps": steps}
    published = result.outputs["published"]
    accuracy = published["accuracy"]
    report = settings.home / "runs" / result.run_id / "report.html"
    answer = {
        "run": result.run_id,
        "state": result.state,
        "backend": settings.backend,
        "seconds": round(result.seconds, 2),
        "steps": {name: {"state": s.state, "seconds": round(s.seconds, 2)} for name, s in result.steps.items()},
        "accuracy": accuracy,
        "release": published["version"],
        "digest": published["digest"],
        "promoted": published["promoted"],
        "why": published["why"],
        "champion": published["champion"],
        "data": plain(result.outputs["data"] | {"feedback": result.outputs["feedback"]}),
        "training_seconds": result.outputs["trained"]["seconds"],
        "mlflow_run": published["mlflow_run"],
        "endpoint": result.outputs["deployed"]["endpoint"],
        "report": str(report) if report.exists() else "",  # Kubeflow's is where MLflow's server can be reached
    }
    draw = {
        "kubeflow": f"kubectl -n {settings.namespace} port-forward svc/web 8000:80",
        "docker": "digits up --backend docker",
    }.get(settings.backend, "digits up")
    standing = "champion" if answer["champion"] == answer["release"] else "kept, not promoted"
    corrections = int(answer["data"].get("feedback", {}).get("count", 0))
    cached = sum(step.state == "cached" for step in result.steps.values())
    trained = (
        "" if result.steps["train"].state == "cached" else f", {answer['training_seconds']:.1f} s of them training"
    )
    _table(
        ("accuracy", f"{accuracy:.2%} on {answer['data']['dataset']}"),
        ("release", f"{published['version']}  {standing}"),
        ("why", published["why"]),
        ("champion", answer["champion"] if answer["champion"] != answer["release"] else ""),
        ("feedback", f"{corrections} corrected drawing{'s' * (corrections > 1)} collected" if corrections else ""),
        ("endpoint", answer["endpoint"] + _moved(answer["endpoint"], settings)),
        ("report", "digits report" if answer["report"] else "on the run's page"),
        (
            "time",
            f"{result.seconds:.1f} s{trained}"
            + (f"; {cached} of {len(result.steps)} steps from the cache" if cached else ""),
        ),
        ("next", (f"{draw}   to draw" if answer["endpoint"] else "digits releases") if following else ""),
    )
    return answer


def _moved(endpoint: str, settings: Settings) -> str:
    """That the endpoint is not where DIGITS_PORT says, for another program is."""
    parts = urlsplit(endpoint)
    moved = parts.hostname == "127.0.0.1" and parts.port != settings.port
    return f"   (port {settings.port} was taken)" if moved else ""


def _table(*rows: tuple[str, str]) -> None:
    """Rows of a name and a value; those without a value are left out."""
    click.echo("", err=True)
    for name, value in rows:
        if value:
            click.echo(f"  {click.style(f'{name:<10}', dim=True)} {wrapped(value, 13)}", err=True)


def wrapped(text: str, indent: int) -> str:
    """`text` broken at the terminal's width, its further lines indented by `indent` columns; elsewhere as it is."""
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        return text
    width = max(min(shutil.get_terminal_size().columns, 120) - indent, 20)
    lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
    return ("\n" + " " * indent).join(lines)

"""What a run looks like in the terminal, on standard error: a line a step while it goes, a summary at the end."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from backends.base import Result
    from digits.events import Event
    from digits.settings import Settings


class Progress:
    """Prints events as they come. In a terminal the running step's line is rewritten; elsewhere lines only grow."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet, self._live = quiet, sys.stderr.isatty()
        self._began: dict[str, float] = {}
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def watch(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        step, kind = event["step"], event["event"]
        if kind == "run":
            self._line(f"run {event['id']}", dim=True)
        elif kind == "fallback":
            self._line("NO MNIST: nothing answered within seconds, and DIGITS_DATA is not set.", fg="yellow", bold=True)
            self._line("The model will learn from scikit-learn's 1,797 digits instead and is marked so.", fg="yellow")
        elif kind == "started":
            self._began[step] = event["time"]
            self._running(step, "")
        elif kind == "progress":
            self._line(f"    {event['text']}", dim=True)
        elif kind == "cached":
            self._line(f"  {click.style('=', fg='cyan')} {step:<18} cached")
        elif kind == "finished":
            seconds = event["time"] - self._began.get(step, time.time())
            self._line(f"  {click.style('✓', fg='green')} {step:<18} {seconds:6.1f} s")
        elif kind in {"failed", "exited"}:
            self._line(f"  {click.style('✗', fg='red')} {step}")

    def _running(self, step: str, text: str) -> None:
        if self._live:
            self._close()
            click.echo(f"  … {step} {text}", err=True, nl=False)
            self._open = True

    def _line(self, text: str, **style: Any) -> None:
        self._close()
        click.echo(click.style(text, **style) if style else text, err=True)

    def _close(self) -> None:
        if self._open:
            click.echo("\r\x1b[2K", err=True, nl=False)
            self._open = False


def summary(result: Result, settings: Settings) -> dict[str, Any]:
    """Print how a run ended; returns it as the object of `--json`."""
    from digits.steps import plain

    if not result.outputs:  # Kubeflow has them, and the pods that told them are gone
        steps = {name: {"state": s.state, "seconds": round(s.seconds, 2)} for name, s in result.steps.items()}
        click.echo("\n  succeeded; what the steps answered is on the run's page", err=True)
        return {"run": result.run_id, "state": result.state, "backend": settings.backend, "steps": steps}
    published = result.outputs["published"]
    accuracy = published["accuracy"]
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
        "report": str(settings.home / "runs" / result.run_id / "report.html"),
    }
    gate = "promoted" if published["promoted"] else "kept, not promoted"
    rows = [
        ("accuracy", f"{accuracy:.2%} on {answer['data']['dataset']}"),
        ("release", f"{published['version']}  {gate}: {published['why']}"),
        ("endpoint", answer["endpoint"]),
        ("report", "digits report"),
        ("time", f"{result.seconds:.1f} s, {answer['training_seconds']:.1f} s of them training"),
    ]
    click.echo("", err=True)
    for name, value in rows:
        if value:
            click.echo(f"  {click.style(f'{name:<10}', dim=True)} {value}", err=True)
    return answer

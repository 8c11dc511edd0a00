"""The progress of a run on standard error: one line per step."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

if TYPE_CHECKING:
    from rich.live import Live

    from digits.events import Event

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MARKS = {"cached": ("=", "cyan"), "finished": ("✓", "green"), "failed": ("✗", "red"), "exited": ("✗", "red")}


class Progress:
    """Prints one line per event. In a terminal a region below shows the running steps with their elapsed seconds."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._failed: set[str] = set()
        terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._live = self._region() if terminal and not quiet else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for step, at in self._running.items():  # steps whose process was killed, so that no event reported their end
            self._step_line(click.style("✗", fg="red"), step, f"{time.monotonic() - at:6.1f} s  stopped")
        self._running.clear()
        if self._live:
            self._live.stop()

    def watch(self, event: Event) -> None:
        """Print one event."""
        if self._quiet:
            return
        step, kind = event["step"], event["event"]
        if kind == "run":
            self._line(f"run {event['id']}", dim=True)
        elif kind == "fallback":
            self._line(
                "MNIST is not available: no mirror answered within seconds, and DIGITS_DATA is not set.",
                fg="yellow",
                bold=True,
            )
            self._line(
                "The model is trained on scikit-learn's 1,797 digits instead, and its release is marked so.",
                fg="yellow",
            )
        elif kind == "started":
            self._started[step], self._running[step] = event["time"], time.monotonic()
        elif kind == "progress":
            self._line(f"    {event['text']}", dim=True)
        elif kind in MARKS:
            self._running.pop(step, None)
            duration = f"{event['time'] - self._started[step]:6.1f} s" if step in self._started else ""
            if step and step not in self._failed:  # one failure may give two events, failed and exited
                self._step_line(click.style(*MARKS[kind]), step, "cached" if kind == "cached" else duration)
            if kind in {"failed", "exited"}:
                self._failed.add(step)

    def _step_line(self, mark: str, step: str, result: str) -> None:
        self._line(f"  {mark} {step:<18} {result}".rstrip())

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
            frame = SPINNER[int(now * 10) % len(SPINNER)]
            return Group(*(Text(f"  {frame} {step:<18} {now - at:6.1f} s") for step, at in list(self._running.items())))

        return Live(console=Console(stderr=True), get_renderable=running, refresh_per_second=10, transient=True)

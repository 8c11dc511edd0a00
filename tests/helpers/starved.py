"""Make steps of a run fail for lack of memory. A copy of this module is the `sitecustomize` of the run's programs.

The steps in the variable STARVED_STEPS cannot map more memory after they have started. `train` cannot after its first
epoch, when TensorFlow is loaded and the export has not begun.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VARIABLE = "STARVED_STEPS"
MIN_BLOCK = 1024  # bytes; reporting the failure needs less


def environment(folder: Path, steps: list[str], path: str) -> dict[str, str]:
    """Return the variables of a run whose `steps` run out of memory. `folder`: for the copy; `path`: PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(__file__, folder / "sitecustomize.py")
    return {VARIABLE: ",".join(steps), "PYTHONPATH": os.pathsep.join([str(folder), path])}


def put() -> None:
    """Limit the memory if this program is one of the steps; otherwise do nothing."""
    if "backends.process.step_main" not in sys.orig_argv:
        return
    from digits import events

    reported, emit = events.reported, events.emit
    victims = os.environ[VARIABLE].split(",")
    held: list[bytes] = []

    @contextlib.contextmanager
    def starving(step: str) -> Iterator[None]:
        with reported(step):
            try:
                if step in victims and step != "train":
                    _no_more(held)
                yield
            finally:
                held.clear()  # as a program frees its memory when an error ends it

    def recorded(event: str, step: str = "", **details: Any) -> None:
        emit(event, step, **details)
        if event == "progress" and step == "train" and step in victims:
            _no_more(held)

    events.reported, events.emit = starving, recorded


def _no_more(held: list[bytes]) -> None:
    """Limit the memory to what is mapped now, and allocate what is free of it in `held`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    size = 1 << 20
    while size >= MIN_BLOCK:
        try:
            held.append(bytes(size))
        except MemoryError:
            size //= 2


if __name__ == "sitecustomize":
    put()

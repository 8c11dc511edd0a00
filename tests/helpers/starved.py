"""Memory that ends within a step: put into the programs of a run as the module that Python imports at its start.

The steps that the variable STARVED_STEPS names may map no more memory from a moment on: when they begin their work, and
`train` when it has told of an epoch, so that TensorFlow is there and the export still to come.
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
LEAST = 1024  # bytes; less is needed to say what happened


def environment(folder: Path, steps: list[str], path: str) -> dict[str, str]:
    """What a run finds in its environment whose `steps` shall starve. `folder`: for the module; `path`: PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(__file__, folder / "sitecustomize.py")
    return {VARIABLE: ",".join(steps), "PYTHONPATH": os.pathsep.join([str(folder), path])}


def put() -> None:
    """In a step's program, see to it that the step starves; in all others, do nothing."""
    if "kfp.dsl.executor_main" not in sys.orig_argv:
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
                held.clear()  # as a program gives back what it held when an error ends it

    def recorded(event: str, step: str = "", **details: Any) -> None:
        emit(event, step, **details)
        if event == "progress" and step == "train" and step in victims:
            _no_more(held)

    events.reported, events.emit = starving, recorded


def _no_more(held: list[bytes]) -> None:
    """What is mapped now is all that there is; and of that, what is free is taken and `held`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    size = 1 << 20
    while size >= LEAST:
        try:
            held.append(bytes(size))
        except MemoryError:
            size //= 2


if __name__ == "sitecustomize":
    put()

"""Finding and ending processes, also those of a run whose program was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import psutil


def variable(process: psutil.Process, name: str) -> str | None:
    """Return the value of a variable in the environment that a process was started with; None if it is unknown.

    A run's processes are recognised by such a variable and not by their ids, because ids are reused.
    """
    try:
        return process.environ().get(name)
    except (psutil.Error, OSError):  # it has ended, or belongs to another user
        return None


def end_with_variable(name: str, value: str, seconds: float = 5) -> None:
    """End all processes that were started with the variable `name` set to `value`.

    They get SIGTERM, then SIGKILL; after each signal this waits at most `seconds`.
    """
    for end in (psutil.Process.terminate, psutil.Process.kill):
        _signal([process for process in psutil.process_iter() if variable(process, name) == value], end, seconds)


def kill_children(pid: int) -> None:
    """Kill all descendants of a process, and wait until they have ended, at most 5 s."""
    with contextlib.suppress(psutil.NoSuchProcess):
        _signal(psutil.Process(pid).children(recursive=True), psutil.Process.kill, 5)


def _signal(processes: list[psutil.Process], end: Callable[[psutil.Process], None], seconds: float) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            end(process)
    psutil.wait_procs(processes, timeout=seconds)

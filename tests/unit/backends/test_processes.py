"""Processes are recognised by a variable of their environment and ended with all their descendants."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from backends import processes

NAME = "DIGITS_TEST_PROCESSES"
WAITS = "print(flush=True); input()"
# Starts a child that ignores SIGTERM, prints its id, and waits.
STUBBORN = """
import subprocess, sys
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
process.stdout.readline()
print(process.pid, flush=True)
input()
"""


@pytest.fixture
def started() -> Iterator[dict[str, tuple[subprocess.Popen[bytes], bytes]]]:
    """Waiting processes by the value of their variable, each with its first line of output."""
    programs = {}
    for value, code in (("ours", STUBBORN), ("other", WAITS)):
        program = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {NAME: value}
        )
        assert program.stdout is not None
        programs[value] = (program, program.stdout.readline())
    yield programs
    for program, _ in programs.values():
        program.kill()
        program.communicate()


def has_ended(pid: int) -> bool:
    """Return whether a process has ended; in a container nothing may collect the exit code of an orphan."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_only_processes_with_the_variable_are_ended(
    started: dict[str, tuple[subprocess.Popen[bytes], bytes]],
) -> None:
    """A process that ignores SIGTERM is killed; a process with another value of the variable is left alone."""
    (ours, child), (other, _) = started["ours"], started["other"]
    processes.end_with_variable(NAME, "ours", seconds=1)
    assert has_ended(ours.pid)
    assert has_ended(int(child))
    assert other.poll() is None


def test_children_are_killed(started: dict[str, tuple[subprocess.Popen[bytes], bytes]]) -> None:
    """All descendants of a process end; the process itself does not."""
    program, child = started["ours"]
    processes.kill_children(program.pid)
    assert has_ended(int(child))
    assert program.poll() is None
    processes.kill_children(int(child))  # a process that does not exist has none

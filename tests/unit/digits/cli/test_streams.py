"""Commands whose standard streams are closed, full, broken or of another encoding."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from digits.settings import Settings
from tests.helpers.support import child_environment


def shell(command: str, settings: Settings, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command in which `digits` is this program."""
    script = f'digits() {{ "{sys.executable}" -m digits "$@"; }}; {command}'
    environ = child_environment(settings) | environment
    return subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-", "2>/dev/full"])
def test_a_command_does_its_work_without_a_stream(closed: str, settings: Settings) -> None:
    """If a stream is closed, or standard error is full, the exit code is that of the work."""
    result = shell(f"digits feedback --json {closed}", settings)
    assert result.returncode == 0, result.stderr
    assert ">&-" in closed.split() or json.loads(result.stdout) == {"corrections": [], "removed": 0}


@pytest.mark.parametrize(
    ("output", "code", "error"),
    [("> /dev/full", 1, "cannot write to standard output: No space left"), ("| true; exit ${PIPESTATUS[0]}", 0, "")],
    ids=["full", "no reader"],
)
def test_lost_output_is_reported(output: str, code: int, error: str, settings: Settings) -> None:
    """Output that could not be written is an error without a traceback; a reader that has gone is none."""
    result = shell(f"digits feedback --json {output}", settings)
    assert (result.returncode, error in result.stderr, "Traceback" in result.stderr) == (code, True, False)


def test_text_is_written_in_any_encoding(settings: Settings) -> None:
    """A character that the terminal's encoding lacks is replaced."""
    result = shell("digits run --help", settings, PYTHONIOENCODING="ascii")
    assert (result.returncode, "s3://" in result.stdout) == (0, True)


def test_confirmation_needs_an_open_input(settings: Settings) -> None:
    """With a closed standard input nothing can be confirmed, which is a usage error."""
    result = shell("digits clean <&-", settings)
    assert (result.returncode, "--yes" in result.stderr) == (2, True)

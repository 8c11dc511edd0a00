"""Events of failures: cause, remedy and exit code."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from digits import events


@pytest.mark.parametrize(
    ("error", "cause", "remedy", "exit_code"),
    [
        (MemoryError(), "MemoryError", "more memory", 3),
        (MemoryError("Unable to allocate 6 GiB"), "MemoryError: Unable to allocate 6 GiB", "more memory", 3),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "OSError: [Errno 12] Cannot allocate", "more memory", 3),
        (ImportError("a.so: failed to map segment from shared object"), "ImportError: a.so", "more memory", 3),
        (OSError(errno.ENOSPC, "No space left"), "OSError: [Errno 28] No space left", "free some space", 3),
        (OSError(errno.EDQUOT, "Quota exceeded"), f"OSError: [Errno {errno.EDQUOT}] Quota", "free some space", 3),
        (ValueError("odd"), "ValueError: odd", "", 1),
    ],
    ids=repr,
)
def test_lack_of_memory_or_space_is_reported_with_a_remedy(
    error: Exception, cause: str, remedy: str, exit_code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lack of memory or disk space has exit code 3 and a remedy; any other error has only its cause."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events.jsonl"))
    with pytest.raises(type(error)), events.reported("train"):
        raise error
    entered, event = events.EventLog(tmp_path / "events.jsonl").read_new()
    assert (entered["event"], entered["step"]) == ("entered", "train")
    assert (event["event"], event["step"], event["exit_code"]) == ("failed", "train", exit_code)
    assert event["cause"].startswith(cause)
    assert not event["cause"].endswith(": ")
    assert remedy in event["remedy"]
    assert bool(event["remedy"]) == bool(remedy)


def test_events_mask_passwords(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password in the URL of an error message is masked in the event."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events.jsonl"))
    with pytest.raises(OSError, match="canary"), events.reported("publish"):
        raise OSError("cannot reach http://user:canary@127.0.0.1:9/api")
    _, event = events.EventLog(tmp_path / "events.jsonl").read_new()
    assert event["cause"] == "OSError: cannot reach http://<SECRET>@127.0.0.1:9/api"


FAILING = """
from digits.events import reported
with reported("fetch-mnist"):
    try:
        raise OSError("Max retries exceeded with url: /a.gz?X-Amz-Signature=canary")
    except OSError as exc:
        raise ValueError("no answer") from exc
"""


def test_the_traceback_of_a_step_holds_no_secret() -> None:
    """The messages of libraries' exceptions in the traceback, which goes to the step's log, are masked."""
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "ValueError: no answer" in done.stderr) == (1, True)
    assert "/a.gz?X-Amz-Signature=<SECRET>" in done.stderr
    assert "url: /a.gz?X-Amz-Signature=canary" not in done.stderr

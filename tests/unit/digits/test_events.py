"""What a step tells of an error that is not one of ours, before that ends it."""

from __future__ import annotations

import errno
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
def test_what_the_machine_lacks_is_told_with_its_remedy(
    error: Exception, cause: str, remedy: str, exit_code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory and space that are not there are the machine's fault, with exit code 3; all else has its cause alone."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events.jsonl"))
    with pytest.raises(type(error)), events.reported("train"):
        raise error
    (told,) = events.Reader(tmp_path / "events.jsonl").new()
    assert (told["event"], told["step"], told["exit_code"]) == ("failed", "train", exit_code)
    assert told["cause"].startswith(cause)
    assert not told["cause"].endswith(": ")
    assert remedy in told["remedy"]
    assert bool(told["remedy"]) == bool(remedy)


def test_no_event_tells_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an error that is not ours says of an address, its password is masked in the file of events."""
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events.jsonl"))
    with pytest.raises(OSError, match="canary"), events.reported("publish"):
        raise OSError("cannot reach http://user:canary@127.0.0.1:9/api")
    (told,) = events.Reader(tmp_path / "events.jsonl").new()
    assert told["cause"] == "OSError: cannot reach http://<SECRET>@127.0.0.1:9/api"

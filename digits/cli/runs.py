"""Runs as a user names them."""

from __future__ import annotations

from pathlib import Path

from digits.errors import MissingError

LISTED = 5


def check_id(home: Path, run_id: str) -> None:
    """Raise MissingError, which lists the last runs, unless `run_id` is one of this home; '' is the newest."""
    from backends import runs

    found = [run.id for run in runs.all_runs(home)]
    if run_id and found and run_id not in found:
        raise MissingError(
            f"no run {run_id} in {home / 'runs'}; the last of {len(found)}: {', '.join(found[-LISTED:])}",
            remedy="give one of those, or none for the newest",
        )

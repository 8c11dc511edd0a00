"""An API server with one TrainJob, and settings that reach it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.trainer import trainjob
from digits.settings import Settings
from tests.helpers.kubernetes_api import TrainerApi, kubernetes_api, write_kubeconfig


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Yield settings of an empty cluster. The progress goes to the file `events` of the home."""
    for name, value in {"live": None, "changes": [], "pods": [], "log": "", "refusal": 0}.items():
        monkeypatch.setattr(TrainerApi, name, value)
    monkeypatch.setattr(trainjob, "POLL_SECONDS", 0.01)
    monkeypatch.setenv("DIGITS_EVENTS", str(tmp_path / "events"))
    settings = Settings(home=tmp_path)
    with kubernetes_api(TrainerApi) as url:
        write_kubeconfig(settings, url)
        yield settings

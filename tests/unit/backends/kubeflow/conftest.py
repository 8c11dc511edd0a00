"""A server of the Pipelines API, settings for it, and short waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kubeflow import backend as kubeflow
from digits import homes
from digits.settings import Settings
from tests.helpers.kfp_api import Pipelines, serving
from tests.helpers.kfp_runs import compile_quickly


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeflow, "POLL_SECONDS", 0.01)
    compile_quickly(monkeypatch)


@pytest.fixture
def api() -> Iterator[Pipelines]:
    with serving(Pipelines()) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, api: Pipelines) -> Settings:
    homes.claim(home := tmp_path / "home")
    return Settings(home=home, backend="kubeflow", kfp_host=api.url, kfp_ui="https://kubeflow.test")

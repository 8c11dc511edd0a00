"""A server of the Pipelines API, settings for it, and short waits."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backends.kubeflow import backend as kubeflow
from backends.kubeflow import submit as kubeflow_submit
from backends.kubeflow.submit import compiled
from backends.kubeflow.tasks import UNCACHED_STEPS
from digits.settings import Settings
from tests.helpers.kfp_api import Pipelines, serving

COMPILED: dict[Any, Any] = {}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without delay, and compile the same settings once for all tests."""
    monkeypatch.setattr(kubeflow, "POLL_SECONDS", 0.01)

    def once(settings: Settings, uncached: tuple[str, ...] = UNCACHED_STEPS) -> Any:
        replaced = {"home": Path("/"), "store": "file:///", "tracking_uri": "sqlite:////x", "kfp_host": "http://x"}
        key = (dataclasses.replace(settings, **replaced), uncached)
        if key not in COMPILED:
            COMPILED[key] = compiled(settings, uncached)
        return copy.deepcopy(COMPILED[key])

    monkeypatch.setattr(kubeflow_submit, "compiled", once)


@pytest.fixture
def api() -> Iterator[Pipelines]:
    with serving(Pipelines()) as server:
        yield server


@pytest.fixture
def settings(tmp_path: Path, api: Pipelines) -> Settings:
    return Settings(home=tmp_path, backend="kubeflow", kfp_host=api.url)

"""Settings of a home without a cluster, and an API server with pods."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.kserve.kube import Kube
from digits.settings import Settings
from tests.helpers.kubernetes_api import PodApi, kubernetes_api, write_kubeconfig


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def api(settings: Settings) -> Iterator[Kube]:
    with kubernetes_api(PodApi) as url:
        write_kubeconfig(settings, url)
        yield Kube.connect(settings)

"""Remedies that depend on the backend."""

from __future__ import annotations

import pytest

from digits.remedies import REMEDIES, remedy
from digits.settings import BACKENDS

VALUES = {"path": "/home/kubeconfig", "name": "MINIO_ENDPOINT", "namespace": "team"}


@pytest.mark.parametrize("situation", REMEDIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_a_remedy_that_exists_there(situation: str, backend: str) -> None:
    """A remedy is complete on each backend, and none for Kubeflow starts a cluster or a page on this machine."""
    text = remedy(situation, backend, **VALUES)
    assert text
    assert "$" not in text
    if backend == "kubeflow":
        assert not any(command in text for command in ("digits cluster up", "digits up"))

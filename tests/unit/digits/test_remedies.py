"""Remedies that depend on the backend."""

from __future__ import annotations

import ast

import pytest

from digits.remedies import REMEDIES, remedy
from digits.settings import BACKENDS
from tests.helpers.support import ROOT

VALUES = {"path": "/home/kubeconfig", "name": "MINIO_ENDPOINT", "namespace": "team"}


@pytest.mark.parametrize("situation", REMEDIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_has_a_remedy_that_exists_there(situation: str, backend: str) -> None:
    """A remedy is complete on each backend, and none for Kubeflow starts a cluster or a page on this machine."""
    text = remedy(situation, backend, **VALUES)
    assert text
    assert "$" not in text
    assert "NAMESPACE" not in text
    if backend == "kubeflow":
        assert not any(command in text for command in ("digits cluster", "digits up"))


def test_modules_that_backends_share_name_no_command_of_one() -> None:
    """Remedies outside of the table name no command that exists on one backend only."""
    found = [
        (path.name, constant.value)
        for folder in ("digits", "backends/kserve", "backends/kubeflow", "pipeline")
        for path in (ROOT / folder).rglob("*.py")
        if "cli" not in path.parts
        for keyword in ast.walk(ast.parse(path.read_text()))
        if isinstance(keyword, ast.keyword) and keyword.arg == "remedy"
        for constant in ast.walk(keyword.value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    ]
    assert len(found) > 50
    assert [item for item in found if any(word in item[1] for word in ("digits cluster", "digits up", "docker"))] == []

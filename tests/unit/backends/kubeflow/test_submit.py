"""The name of a compiled version, and the parameters that keep stale results out of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from backends.base import Request
from backends.kubeflow.submit import compile_version, external_inputs
from digits.settings import Settings


def test_a_version_is_named_by_its_content(tmp_path: Path) -> None:
    """The same code and settings give the same version; another image gives another one."""
    first = compile_version(Settings(home=tmp_path), tmp_path / "a.yaml")
    assert compile_version(Settings(home=tmp_path / "elsewhere"), tmp_path / "b.yaml") == first
    assert compile_version(Settings(home=tmp_path, steps_image="other:1"), tmp_path / "c.yaml") != first


def test_unknown_corrections_are_never_cached(tmp_path: Path) -> None:
    """If the store of the cluster is not reachable, each run has a new value for the corrections."""
    here = Settings(home=tmp_path)
    assert external_inputs(here, Request({}))["feedback"] != external_inputs(here, Request({}))["feedback"]
    away = dataclasses.replace(here, store="s3://digits", minio_endpoint="http://127.0.0.1:9", minio_access_key="a")
    assert external_inputs(away, Request({}))["feedback"] != external_inputs(away, Request({}))["feedback"]

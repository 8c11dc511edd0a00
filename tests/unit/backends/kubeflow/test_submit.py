"""The name of a compiled version, and the parameters that keep stale results out of a run."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from backends.base import Request
from backends.kubeflow.submit import compile_version, external_inputs
from digits.settings import Settings
from tests.helpers.support import ROOT


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


def test_the_command_needs_no_package_of_another_extra() -> None:
    """The extra `pipeline`, which docs/kubeflow.md installs, has each package that a command for Kubeflow imports."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"] | {"": project["dependencies"]}
    names = {extra: {re.split("[^a-z0-9-]", each)[0] for each in extras[extra]} for extra in extras}
    others = set().union(*names.values()) - names["pipeline"] - names[""]
    blocked = sorted(module for module, owners in packages_distributions().items() if others & set(owners))
    modules = "backends.kubeflow.backend, backends.kubeflow.batch_run, digits.cli.predict, digits.cli.kubeflow"
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import {modules}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert {"mlflow", "kserve"} <= set(blocked)
    assert done.returncode == 0, done.stderr

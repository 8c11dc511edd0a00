"""Programs of the host: found, run with a deadline, and reported if they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from backends.programs import ProgramError, need, program, python, python_environment
from digits.errors import MissingError
from tests.helpers.support import ROOT


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kind on PATH the error has the address of its installation page."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingError, match="kind is not on PATH") as missing:
        need("kind")
    assert "https://" in missing.value.remedy


def test_a_python_process_finds_our_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absolute entries of its path stay; the working directory is not on it, as `` or `.` would add it."""
    given = {"PYTHONPATH": os.pathsep.join(["", ".", "/theirs"]), "LANG": "C"}
    assert python_environment(given) == {"PYTHONPATH": "/theirs", "PYTHONSAFEPATH": "1", "LANG": "C"}
    monkeypatch.setattr(sys, "path", [str(ROOT), *(path for path in sys.path if path != str(ROOT))])  # not installed
    assert python_environment({})["PYTHONPATH"] == str(ROOT)


@pytest.mark.parametrize(
    "name",
    [
        "KERAS_BACKEND", "TF_XLA_FLAGS", "PYTHONINSPECT", "PYTHONWARNINGS", "MLFLOW_RUN_ID", "OTEL_PYTHON_CONTEXT",
        "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "_KFP_RUNTIME", "CLUSTER_SPEC",
        "KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT",
    ],
)  # fmt: skip
def test_variables_that_change_results_are_not_passed_on(name: str) -> None:
    """Settings of the user's other projects do not reach our programs; addresses and credentials do."""
    kept = {"MLFLOW_TRACKING_TOKEN": "x", "MLFLOW_S3_ENDPOINT_URL": "x", "OMP_NUM_THREADS": "2"}
    assert python_environment(kept | {name: "x"}).items() > kept.items()
    assert name not in python_environment({name: "x"})


def test_a_file_of_the_working_directory_replaces_no_module(tmp_path: Path) -> None:
    """Files named like modules in the working directory are not imported, also by `python -m digits`."""
    for name in ("token", "email", "calendar", "kfp", "click", "pathlib", "digits"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this file was run')")
    environment = python_environment(os.environ)
    code = "import token, email, calendar, kfp, click, backends.runs"
    for command in (python("-c", code), [sys.executable, "-c", code]):
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
    (tmp_path / "digits.py").unlink()
    plain = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONSAFEPATH"}}
    subprocess.run([sys.executable, "-m", "digits", "--help"], cwd=tmp_path, env=plain, check=True, timeout=60)


def test_a_program_that_is_missing_when_it_is_needed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that did not check its programs before ends with the same advice."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingError, match="kubectl is not on PATH"):
        program("kubectl", "version")


def test_a_program_works_on_what_its_arguments_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A repository that variables of git name, as in a hook, is not changed; kind uses Docker."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "KUBECONFIG", "KIND_EXPERIMENTAL_PROVIDER"):
        monkeypatch.setenv(name, str(tmp_path / "theirs"))
    program("git", "init", "-q", str(tmp_path / "ours"))
    assert (tmp_path / "ours" / ".git" / "HEAD").is_file()
    assert not (tmp_path / "theirs").exists()
    seen = program("env")
    assert "KIND_EXPERIMENTAL_PROVIDER=docker" in seen
    assert str(tmp_path) not in seen.replace(f"PWD={tmp_path}", "")


def test_programs_end_in_time() -> None:
    """A program that hangs is ended; the error of one that fails has its output."""
    with pytest.raises(ProgramError, match="did not end within"):
        program("sleep", "30", seconds=0.2)
    with pytest.raises(ProgramError, match="ended with 3: no luck"):
        program("sh", "-c", "echo no luck >&2; exit 3")


def test_the_programs_of_a_program_end_with_it(tmp_path: Path) -> None:
    """The deadline also ends a credential plugin for which kubectl waits."""
    with pytest.raises(ProgramError, match="did not end within"):
        program("sh", "-c", f"sh -c 'echo $$ > {tmp_path}/plugin; sleep 300; true'; true", seconds=1)
    assert not psutil.pid_exists(int((tmp_path / "plugin").read_text()))

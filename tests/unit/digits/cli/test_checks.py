"""The checks of `digits doctor` that need no engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from digits.cli import checks
from digits.findings import run_check
from digits.settings import Settings
from tests.helpers.shapes import shapes_task, write_shapes
from tests.helpers.support import answering


def test_a_password_in_the_address_of_data_is_masked(settings: Settings) -> None:
    """The address of the data set is shown without its password."""
    placed = dataclasses.replace(settings, data="https://me:canary@host.example/mnist")
    finding = run_check("data", True, lambda: checks.check_data(placed))
    assert ("host.example" in finding.found, "canary" in finding.found) == (True, False)


def test_the_data_of_the_task_is_checked(settings: Settings, tmp_path: Path) -> None:
    """A folder with the pictures of another task passes for it and fails for digits."""
    write_shapes(tmp_path, 2)
    placed = dataclasses.replace(settings, data=str(tmp_path))
    finding = run_check("data", True, lambda: checks.check_data(placed.with_task(shapes_task().text())))
    assert (finding.ok, finding.found) == (True, f"shapes in {tmp_path}")
    finding = run_check("data", True, lambda: checks.check_data(placed))
    assert (finding.ok, "train-images-idx3-ubyte" in finding.found) == (False, True)


@pytest.mark.parametrize("data", ["http://host.example/mnist", "s3://bucket/mnist"])
def test_a_remote_address_of_data_is_not_checked(data: str, settings: Settings) -> None:
    """A remote address of data is not contacted, and is marked as not checked."""
    finding = run_check("data", True, lambda: checks.check_data(dataclasses.replace(settings, data=data)))
    assert (finding.ok, finding.found) == (None, f"{data} (not checked)")


def test_a_server_that_is_not_a_store_fails(settings: Settings) -> None:
    """MinIO's console, which answers every request with a page, is not accepted as the object store."""
    with answering(b"<!doctype html><title>MinIO Console</title>") as endpoint:
        keys = {"minio_access_key": "access", "minio_secret_key": "a-secret-key"}
        placed = dataclasses.replace(settings, store="s3://digits", minio_endpoint=endpoint, **keys)
        finding = run_check("object store", True, lambda: checks.check_store(placed))
    assert (finding.ok, "MINIO_ENDPOINT" in finding.remedy) == (False, True)


def test_the_libraries_own_settings_are_listed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Variables and files that the libraries read are shown, without secrets; those without effect are marked."""
    for name, value in {"KERAS_BACKEND": "torch", "OMP_NUM_THREADS": "2", "AWS_SESSION_TOKEN": "canary"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("https_proxy", "http://me:canary@proxy.example:3128")
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    (finding,) = checks.find_surroundings(settings)
    for shown in ("KERAS_BACKEND=torch (not used)", "OMP_NUM_THREADS=2", "keras.json (not used)", "proxy.example"):
        assert shown in finding.found
    assert "canary" not in finding.found


def test_a_home_that_a_run_refuses_has_failed(settings: Settings, tmp_path: Path) -> None:
    """A file as DIGITS_HOME, a home below a file, and a folder with foreign content fail; one to create passes."""
    (file := tmp_path / "file").write_text("x")
    (foreign := tmp_path / "foreign").mkdir()
    (foreign / "thesis.txt").write_text("x")

    def passed(home: Path) -> bool | None:
        placed = dataclasses.replace(settings, home=home)
        return run_check("home", True, lambda: checks.check_home(placed)).ok

    assert [passed(home) for home in (file, file / "x" / "y", foreign, tmp_path / "new" / "x")] == [*[False] * 3, True]

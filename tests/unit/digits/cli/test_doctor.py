"""`digits doctor`: its answer is on standard output, and a mark never promises more than there is."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from backends import runs
from backends.process import predictor
from digits.cli import checks, engine_checks
from digits.cli.doctor import run_check
from digits.data import catalog
from digits.data.catalog import SOURCES, Source
from digits.files import sha256_of, write_json
from digits.settings import Settings
from tests.helpers.command import Digits
from tests.helpers.mnist_files import tiny_files
from tests.helpers.support import answering, free_port


@pytest.fixture
def installed(settings: Settings, mnist_folder: Path) -> Settings:
    """Settings with data and a secret."""
    return dataclasses.replace(settings, data=str(mnist_folder), endpoint_token="canary")


def test_the_answer_can_be_kept_in_a_file(digits: Digits, installed: Settings) -> None:
    """Checks, then the settings with a value and their meaning, then how many have none; no secret among it."""
    said = digits("doctor", on=installed)
    assert (said.code, said.err) == (0, "")
    unset = sum(not value for _, value, _ in installed.describe())
    order = ["✓ python", "✓ data", "leftovers", "DIGITS_HOME=", "folder that holds runs", f"{unset} settings unset"]
    places = [said.out.index(part) for part in order]
    assert places == sorted(places)
    assert "DIGITS_ENDPOINT_TOKEN=<SECRET>" in said.out
    assert "canary" not in said.out


def test_a_misspelt_variable_is_listed(digits: Digits, installed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that nothing reads is shown with the one that was meant, and is no reason to fail."""
    monkeypatch.setenv("DIGITS_WEBPORT", "9000")
    said = digits("doctor", "--json", on=installed)
    assert said.code == 0
    (found,) = (finding for finding in said.json["findings"] if finding["name"] == "unknown setting")
    assert (found["ok"], found["remedy"]) == (None, "DIGITS_WEB_PORT")
    assert "DIGITS_WEBPORT" in said.err


def test_no_data_is_no_tick(digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a run would fall back to scikit-learn's digits, that is marked, with what to set; the exit code is 0."""
    source = catalog.Source(catalog.SOURCES["mnist"].files, ("http://127.0.0.1:9/",))
    monkeypatch.setitem(catalog.SOURCES, "mnist", source)
    said = digits("doctor", on=settings)
    assert said.code == 0
    assert "- data" in said.out
    assert "try: set DIGITS_DATA" in said.out


@pytest.mark.parametrize("built", [True, False])
def test_an_image_that_is_not_built_is_no_tick(
    built: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that the first run would have to build is named as not built, with the command that builds it."""
    from backends.docker import containers, images

    class Engine:
        def close(self) -> None:
            """Nothing is open."""

    def reference(_: Any, __: Settings, which: str) -> str:
        return f"digits-{which}:1"

    monkeypatch.setattr(containers, "connect", Engine)
    monkeypatch.setattr(images, "reference", reference)
    monkeypatch.setattr(images, "present", lambda _, name: built or "predictor" not in name)
    found = run_check("images", True, lambda: engine_checks.check_images(settings))
    if built:
        assert (found.ok, found.found) == (True, "digits-steps:1, digits-predictor:1")
    else:
        assert (found.ok, found.found) == (None, "not built yet: digits-predictor:1")
        assert found.remedy.startswith("digits images build")


def test_a_password_in_the_datas_address_is_masked(settings: Settings) -> None:
    """The data set's address is shown without its password, in the checks too."""
    placed = dataclasses.replace(settings, data="https://me:canary@host.example/mnist")
    found = run_check("data", True, lambda: checks.check_data(placed))
    assert ("host.example" in found.found, "canary" in found.found) == (True, False)


def test_a_folder_with_another_data_set_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that holds another known data set than MNIST is fine; one that holds none is not."""
    files = {name: (sha256_of(content), len(content)) for name, content in tiny_files().items()}
    monkeypatch.setitem(SOURCES, "fashion-mnist", Source(files, ()))
    for name, content in tiny_files().items():
        (tmp_path / name).write_bytes(content)
    placed = dataclasses.replace(settings, data=str(tmp_path))
    found = run_check("data", True, lambda: checks.check_data(placed))
    assert (found.ok, found.found) == (True, f"fashion-mnist in {tmp_path}")
    (tmp_path / name).unlink()
    found = run_check("data", True, lambda: checks.check_data(placed))
    assert (found.ok, "train-images-idx3-ubyte: expected 47040016 bytes" in found.found) == (False, True)


@pytest.mark.parametrize("data", ["http://host.example/mnist", "s3://bucket/mnist"])
def test_data_that_was_not_asked_for_is_no_tick(data: str, settings: Settings) -> None:
    """An address is not looked into here, and is not said to hold anything."""
    found = run_check("data", True, lambda: checks.check_data(dataclasses.replace(settings, data=data)))
    assert (found.ok, found.found) == (None, f"{data} (not checked)")


@pytest.mark.parametrize(
    ("asked", "now", "said"),
    [
        (0, 0, ""),
        (1, 1, "; port {asked} was in use when it started"),
        (0, 1, "; it was started for port {asked}, the next run moves it to {now} (DIGITS_PORT)"),
    ],
)
def test_a_port_is_told_as_it_is_recorded(asked: int, now: int, said: str, settings: Settings) -> None:
    """Of a predictor elsewhere than at DIGITS_PORT doctor says whether it was taken or has changed; else nothing."""
    with answering(b'{"parameters": {"release": "r"}}') as address:
        ports = (int(address.split(":")[1]), free_port())
        state = predictor.Predictor(
            f"http://{address}", "", os.getpid(), runs.started_at(os.getpid()), "w", ports[asked]
        )
        write_json(settings.home / "endpoint.json", dataclasses.asdict(state))
        found = run_check(
            "e", False, lambda: engine_checks.check_endpoint(dataclasses.replace(settings, port=ports[now]))
        )
    assert found.found == f"http://{address} serves release r" + said.format(asked=ports[asked], now=ports[now])


def test_an_endpoint_in_a_cluster_is_not_asked_from_here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No laptop resolves the cluster's names, and nobody is told to remove the runs for that."""
    address = "http://digits-predictor.digits.svc.cluster.local"
    monkeypatch.setattr("backends.kubeflow.backend.KubeflowBackend.endpoint", lambda _: address)
    kubeflow = dataclasses.replace(settings, backend="kubeflow", kfp_host="http://127.0.0.1:9")
    found = run_check("endpoint", False, lambda: engine_checks.check_endpoint(kubeflow))
    assert (found.ok, address in found.found, found.remedy) == (True, True, "")


def test_a_server_that_is_no_store_is_no_tick(settings: Settings) -> None:
    """MinIO's console in MINIO_ENDPOINT answers everything with a page, and is not taken for the object store."""
    with answering(b"<!doctype html><title>MinIO Console</title>") as endpoint:
        keys = {"minio_access_key": "access", "minio_secret_key": "a-secret-key"}
        placed = dataclasses.replace(settings, store="s3://digits", minio_endpoint=endpoint, **keys)
        found = run_check("object store", True, lambda: checks.check_store(placed))
    assert (found.ok, "MINIO_ENDPOINT" in found.remedy) == (False, True)

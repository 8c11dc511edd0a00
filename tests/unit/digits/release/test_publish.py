"""Publishing that is interrupted and repeated."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.evaluation import metrics
from digits.release import gate, ledger, mlflow_registry, publish, verify
from digits.release.publish import publish_candidate
from digits.release.write import write_release
from digits.settings import Settings
from digits.store import open_store
from digits.tasks.task import find
from tests.helpers.small_releases import manifest, release_folder
from tests.helpers.support import Finished, another_release

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's, about its own libraries


@pytest.mark.parametrize("at", ["_log", "mlflow_registry.register", "_gate"])
def test_an_interrupted_publication_is_completed_by_the_next(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """An interrupted publication promotes nothing that MLflow lacks, and repeating it completes every record."""
    settings = finished.empty(tmp_path / "home")
    store = open_store(settings)
    candidate = finished.candidate()
    with monkeypatch.context() as interruption:
        interruption.setattr(f"digits.release.publish.{at}", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            publish_candidate(settings, store, candidate, "digits-tests")
    assert ledger.champion(store) == ""
    published, report = publish_candidate(settings, store, candidate, "digits-tests")
    assert published.version == finished.version == ledger.champion(store)
    assert "experiment digits-tests" in report
    checks = {check.name: check.passed for check in verify.verify(settings, store, finished.version)}
    assert checks == dict.fromkeys(["release", "data", "identity", "files", "provenance", "run", "ledger"], True)


def test_without_mlflow_a_release_is_published_promoted_and_verified(finished: Finished, tmp_path: Path) -> None:
    """On Kubeflow without an address of MLflow no run is recorded, and each check of the release says so or holds."""
    settings = Settings(home=tmp_path / "home", backend="kubeflow")
    store = open_store(settings)
    published, report = publish_candidate(settings, store, finished.candidate(), "digits-tests")
    assert published.promoted
    assert published.mlflow_run == ""
    assert "no MLflow run" in report
    mlflow_registry.mirror_ledger(settings, store)
    assert not list(settings.home.glob("mlflow*")) + list(settings.home.glob("mlartifacts"))
    checks = {check.name: check for check in verify.verify(settings, store, finished.version)}
    assert all(check.passed for check in checks.values())
    assert "not recorded" in checks["run"].detail


def test_a_release_that_was_made_without_mlflow_is_recorded_by_a_later_run(finished: Finished, tmp_path: Path) -> None:
    """MLflow that is added later does not fail the checks of such a release, and the next publication records it."""
    settings = finished.empty(tmp_path / "home").with_backend("kubeflow")
    store = open_store(settings)
    publish_candidate(settings, store, finished.candidate(), "digits-tests")
    with_mlflow = settings.with_backend("process")
    assert all(check.passed for check in verify.verify(with_mlflow, store, finished.version))
    again, report = publish_candidate(with_mlflow, store, finished.candidate(), "digits-tests")
    assert again.mlflow_run
    assert '<p class="gate">' in report, "it is the champion already, which is no rejection"
    checks = {check.name: check for check in verify.verify(with_mlflow, store, finished.version)}
    assert checks["run"].passed
    assert again.mlflow_run[:12] in checks["run"].detail


def test_the_best_champion_since_the_last_manual_promotion_is_a_rival(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gate also compares with the most accurate of its own promotions since the last manual one."""
    store, candidate = open_store(Settings(home=tmp_path / "home")), finished.candidate()
    answers = np.ones(candidate.evaluation.count, bool)
    monkeypatch.setattr(publish, "_rival", lambda _, version, *__: ({}, gate.Rival(version, answers)))
    last, versions = None, []
    for seed, accuracy in enumerate((0.9946, 0.9937, 0.9941)):
        about = manifest(seed) | {"metrics": {"accuracy": accuracy}}
        about["data"] = about["data"] | {"test": candidate.about["data"]["test"]}
        versions.append(write_release(store, release_folder(tmp_path / str(seed)), about)["version"])
        last = ledger.append(store, last, versions[-1], "good", action="gate")

    def references() -> list[str]:
        return [rival.version for rival in publish._reference(store, ledger.entries(store), candidate)]

    assert references() == versions[:1]
    ledger.rollback(store)
    assert references() == versions[:1]
    ledger.promote(store, versions[2], "by a person")
    assert references() == []


@pytest.mark.parametrize("change", [{"height": 20}, {"labels": ("a", "b")}], ids=["size", "labels"])
def test_a_champion_with_another_size_or_other_labels_stays(
    finished: Finished, tmp_path: Path, change: dict[str, Any]
) -> None:
    """A release of the same task, whose file was changed, cannot be compared; only a person replaces the champion."""
    store, candidate = open_store(Settings(home=tmp_path / "home")), finished.candidate()
    task = dataclasses.replace(find("digits"), **change).of_model().text()
    about = manifest(1) | {"task": task}
    champion = write_release(store, release_folder(tmp_path / "1"), about)["version"]
    ledger.append(store, None, champion, "good", action="gate")
    decision = publish._decide(store, ledger.entries(store), candidate)
    assert not decision.promote
    assert f"digits promote {candidate.version}" in decision.why


def test_a_release_that_is_worse_on_one_corruption_is_rejected(finished: Finished, tmp_path: Path) -> None:
    """The reason names the corruption, although the answers to all other images are the champion's."""
    store, candidate = open_store(finished.copy(tmp_path / "home")), finished.candidate()
    champion = another_release(store, finished.version)["version"]
    ledger.promote(store, champion, "by a person")
    entries, corrupted = ledger.entries(store)[1:], candidate.evaluation.corrupted()
    assert publish._decide(store, entries, candidate).promote
    none = np.packbits(np.zeros_like(corrupted["shot noise"])).tobytes().hex()
    bits = candidate.evaluation.corrupted_bits | {"shot noise": none}
    worse = dataclasses.replace(candidate, evaluation=dataclasses.replace(candidate.evaluation, corrupted_bits=bits))
    decision = publish._decide(store, entries, worse)
    assert not decision.promote
    assert "worse than the champion on shot noise: " in decision.why


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_release_that_always_gives_one_answer_is_not_promoted(finished: Finished, tmp_path: Path) -> None:
    """Nine of ten test images have one class, and a model that answers it always reaches the least accuracy."""
    store = open_store(finished.empty(tmp_path / "home"))
    labels = np.array([7] * 9 + [1], np.uint8)
    test = Dataset(np.zeros((10, 28, 28), np.uint8), labels)
    evaluation = metrics.evaluate(np.eye(10, dtype=np.float32)[[7] * 10], test, find("digits"))
    candidate = dataclasses.replace(finished.candidate(), test=test, evaluation=evaluation, min_accuracy=0.9)
    decision = publish._decide(store, [], candidate)
    assert (decision.promote, "not above 90.00%" in decision.why) == (False, True)

"""Publishing of a trained model: manifest, gate, ledger and MLflow, in an order that survives an interruption.

The release is complete in the store before anything refers to it. Its training is logged in MLflow before the ledger
makes it the champion. Each write is repeated when the same model is published again, and restores what is missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from digits import provenance
from digits.data import catalog
from digits.data.dataset import Dataset
from digits.errors import ReleaseError
from digits.evaluation import metrics, report
from digits.evaluation.corruptions import corrupt
from digits.evaluation.slices import slices
from digits.files import canonical_json
from digits.release import gate, golden, ledger, mlflow_check, mlflow_log, mlflow_registry, releases, signatures
from digits.release.serving_layout import write_serving_layout
from digits.release.write import write_release
from digits.results import PublishedRelease
from digits.settings import IMAGE_VARIABLE, Settings
from digits.signature import model_signature
from digits.store import ObjectStore
from digits.tasks.task import find


@dataclass(frozen=True)
class Candidate:
    """A trained model, with the data for its manifest, for MLflow and for the gate."""

    model: Path  # the folder of the exported model
    test: Dataset
    history: list[dict[str, float]]  # one entry per epoch
    evaluation: metrics.Evaluation
    about: dict[str, Any]  # `Lineage.describe()`
    min_accuracy: float  # for a promotion, in 0..1

    @cached_property
    def digest(self) -> str:
        """Return the release's digest."""
        about = self.about
        return releases.identity(
            weights=about["weights"], data=about["data"], code=about["code"], parameters=about["parameters"]
        )

    @cached_property
    def corrupted(self) -> dict[str, Dataset]:
        """Return the corrupted test images by the corruption's name."""
        return corrupt(self.test, find(self.about["task"]))

    @property
    def version(self) -> str:
        """Return the release's version."""
        return releases.version_from_digest(self.digest)


def publish_candidate(
    settings: Settings, store: ObjectStore, candidate: Candidate, experiment: str
) -> tuple[PublishedRelease, str]:
    """Publish a candidate and log it to the MLflow experiment. Return the release and the report as HTML."""
    version, digest = candidate.version, candidate.digest
    mlflow_registry.ensure_model(settings)  # which refuses another project's model before anything is written
    with mlflow_log.current_run(settings, experiment, version) as run_id:
        # MLflow's run names the release before the manifest names the run, so that `digits verify` always finds both.
        mlflow_log.name_release(settings, run_id, version, digest)
        logged = mlflow_check.logged_manifest(settings, version, _earlier_run(store, version))
        manifest = write_release(store, candidate.model, _manifest(candidate, run_id), logged)
        releases.check_nothing_else(store, manifest)
        _log(settings, run_id, manifest, candidate)
        decision = _gate(store, candidate)
        champion = ledger.champion(store)
        html = report.render(
            candidate.evaluation,
            candidate.history,
            candidate.about
            | {"version": version, "digest": digest, "created": manifest["created"], "experiment": experiment}
            | {"mlflow_run": run_id, "mlflow": mlflow_log.link(settings, run_id)}
            | {"signer": _signer(store)},
            asdict(decision) | {"at": provenance.timestamp(), "champion": champion == version},
        )
        mlflow_log.log_decision(settings, run_id, promoted=decision.promote, why=decision.why, report=html)
        if champion:
            write_serving_layout(store)
        mlflow_registry.mirror_ledger(settings, store)
    published = PublishedRelease(
        version=version,
        digest=digest,
        uri=releases.release_uri(store, version),
        accuracy=candidate.evaluation.accuracy,
        promoted=decision.promote,
        why=decision.why,
        champion=champion,
        mlflow_run=run_id,
    )
    return published, html


def _manifest(candidate: Candidate, run_id: str) -> releases.Manifest:
    """Return the manifest without the files' digests, which `write_release` adds."""
    evaluation = candidate.evaluation
    first = int(evaluation.correct().argmax())  # the first test image that the model recognises
    image = candidate.test.images[first : first + 1]
    return {
        "name": find(candidate.about["task"]).name,
        "task": candidate.about["task"],
        "version": candidate.version,
        "digest": candidate.digest,
        "signature": model_signature(find(candidate.about["task"])),
        **{name: candidate.about[name] for name in ("weights", "data", "code", "libraries", "parameters")},
        "mlflow_run": run_id,
        "build": {"seconds": candidate.about["training_seconds"], "image": os.environ.get(IMAGE_VARIABLE, "")},
        "metrics": {"count": evaluation.count, "interval": evaluation.interval, **evaluation.metrics},
        "calibration": {
            "temperature": candidate.about["temperature"],
            "threshold": evaluation.threshold,
            "sets": evaluation.calibration,
        },
        "golden": golden.create(image[0], metrics.predict(candidate.model / "model.onnx", image)[0]),
    }


def _signer(store: ObjectStore) -> str:
    """Return the fingerprint of the key that signs releases, '' if there is none."""
    key = signatures.signing_key(store.trust)
    return signatures.fingerprint(key.public_key()) if key else ""


def _gate(store: ObjectStore, candidate: Candidate) -> gate.Decision:
    """Promote the candidate if it passes. If the champion changes meanwhile, decide again against the new champion."""
    while True:
        entries = ledger.entries(store)
        last = entries[-1] if entries else None
        if last and last.version == candidate.version:
            return gate.Decision(False, "it is the champion already")
        decision = _decide(store, entries, candidate)
        if not decision.promote or ledger.append(store, last, candidate.version, decision.why, action="gate"):
            return decision


def _decide(store: ObjectStore, entries: list[ledger.Entry], candidate: Candidate) -> gate.Decision:
    """Decide on the candidate, given the entries of the ledger."""
    correct, version, labels = candidate.evaluation.correct(), candidate.version, candidate.test.labels
    guess = float(np.bincount(labels).max() / len(labels))
    if not entries:
        return gate.decide(correct, [], min_accuracy=candidate.min_accuracy, guess=guess)
    champion = entries[-1].version
    if earlier := [entry.n for entry in entries if entry.version == version]:
        # The release was replaced or rolled back; another run with the same data and settings must not undo that.
        reason = f"it was the champion before (ledger entry {earlier[-1]}); digits promote {version} brings it back"
        return gate.Decision(False, reason)
    try:
        if _classified(releases.load(store, champion)["task"]) != _classified(candidate.about["task"]):
            reason = (
                f"the champion {champion} has other labels or another image size; digits promote {version} replaces it"
            )
            return gate.Decision(False, reason)
        manifest, rival = _rival(store, champion, candidate)
    except ReleaseError as exc:
        exc.remedy = f"digits promote another release, such as {version} of this run; or restore it from a backup"
        raise
    own, other = candidate.about["data"]["dataset"], manifest["data"]["dataset"]
    if other not in {own, catalog.FALLBACK}:
        # A model would always win on the test set of its own data. A champion of the fallback data may be replaced.
        return gate.Decision(False, f"trained on {own}; the champion {champion} was trained on {other}")
    rivals = [rival, *_reference(store, entries, candidate)]
    return gate.decide(
        correct,
        rivals,
        min_accuracy=candidate.min_accuracy,
        guess=guess,
        slices=slices(candidate.test, find(candidate.about["task"])),
        corrupted=candidate.evaluation.corrupted(),
    )


def _classified(text: str) -> tuple[object, ...]:
    """Return which images a model of a task takes, and which classes it names. Others cannot be compared."""
    task = find(text)
    return task.labels, task.input_shape, task.reading


def _rival(
    store: ObjectStore, version: str, candidate: Candidate, name: str = "the champion"
) -> tuple[releases.Manifest, gate.Rival]:
    """Return the manifest of a release, and which of the candidate's images it recognises. Raises ReleaseError."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = releases.download(store, version, Path(folder))
        corrupted = metrics.recognised(Path(folder) / "model.onnx", {"": candidate.test, **candidate.corrupted})
    return manifest, gate.Rival(version, corrupted.pop(""), name, corrupted)


def _reference(store: ObjectStore, entries: list[ledger.Entry], candidate: Candidate) -> list[gate.Rival]:
    """Return the most accurate champion since the last manual promotion, [] if that is the present one.

    Only releases with this test set count. One that can no longer be read is left out.
    """
    accuracies = {}
    for version in ledger.references(entries):
        with contextlib.suppress(ReleaseError):
            manifest = releases.load(store, version)
            if manifest["data"].get("test") == candidate.about["data"]["test"]:
                accuracies[version] = float(manifest["metrics"]["accuracy"])
    champion = entries[-1].version
    for version in sorted(accuracies, key=accuracies.__getitem__, reverse=True):
        if accuracies[version] <= accuracies.get(champion, 0):
            break
        with contextlib.suppress(ReleaseError):
            return [_rival(store, version, candidate, "the best champion since the last manual promotion")[1]]
    return []


def _log(settings: Settings, run_id: str, manifest: releases.Manifest, candidate: Candidate) -> None:
    """Log parameters, metrics and files to the MLflow run, and register the model once."""
    evaluation, about = candidate.evaluation, candidate.about
    scalars = evaluation.scalars
    scalars |= {f"precision_{label}": value for label, value in enumerate(evaluation.precision)}
    scalars |= {f"recall_{label}": value for label, value in enumerate(evaluation.recall)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(candidate.model / "architecture.json", folder / "architecture.json")
        (folder / mlflow_log.CONFUSION).write_bytes(canonical_json(evaluation.confusion))
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
        mlflow_log.log_training(
            settings,
            run_id,
            parameters=about["parameters"],
            history=candidate.history,
            metrics={f"test_{key}": value for key, value in scalars.items()},
            tags={
                "dataset": about["data"]["dataset"],
                "data_digest": about["data"]["source"],
                "code_digest": about["code"],
            },
            folder=folder,
        )
    try:
        mlflow_check.check_logged(settings, manifest)
    except ReleaseError:
        mlflow_registry.register(settings, run_id, candidate.model / "model.onnx", manifest)
        mlflow_check.check_logged(settings, manifest, decided=False)


def _earlier_run(store: ObjectStore, version: str) -> str:
    """Return the MLflow run that the stored manifest names, '' if there is no readable manifest."""
    try:
        return str(releases.load(store, version).get("mlflow_run", ""))
    except ReleaseError:
        return ""

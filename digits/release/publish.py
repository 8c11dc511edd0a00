"""Publishing a trained model: manifest, gate, ledger, MLflow and the final report, in an order that loses nothing.

The release is complete in the store before anything refers to it, and MLflow knows all of its training, before the
ledger makes it the champion. What comes behind that entry (the decision's own record, TensorFlow Serving's layout,
MLflow's aliases) is made good when the publication is done again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from digits import provenance
from digits.data import catalog
from digits.data.dataset import Dataset
from digits.evaluation import metrics, report
from digits.files import canonical_json, write_whole
from digits.release import gate, golden, ledger, mlflow_log, mlflow_registry, releases
from digits.release.serving_layout import write_serving_layout
from digits.release.write import write_release
from digits.settings import Settings
from digits.signature import MODEL_SIGNATURE
from digits.store import ObjectStore


def publish(
    settings: Settings,
    store: ObjectStore,
    *,
    inputs: dict[str, Path],
    digests: dict[str, str],
    experiment: str,
    min_accuracy: float,
    report_path: Path,
) -> dict[str, Any]:
    """See `digits.steps.publish`."""
    judged = json.loads(inputs["evaluation"].read_text())
    history = json.loads(inputs["history"].read_text())
    test = Dataset.load(inputs["test"], digest=digests["test"])
    about, figures = judged["about"], judged["evaluation"]
    right = np.unpackbits(np.frombuffer(bytes.fromhex(judged["right"]), np.uint8), count=len(test)).astype(bool)

    digest = releases.identity(
        weights=digests["weights"], data=about["data"], code=about["code"], parameters=about["parameters"]
    )
    version = releases.version_from_digest(digest)
    with mlflow_log.current_run(settings, experiment, version) as run_id:
        # The run names the release before the release names the run: whenever this ends, the chain holds.
        mlflow_log.name_release(settings, run_id, version, digest)
        manifest = write_release(
            store, inputs["model"], _manifest(version, digest, about, figures, inputs["model"], test, right, run_id)
        )

        _log(settings, run_id, manifest, about, figures, history, inputs["model"])

        decision = _gate(store, version, manifest, right, test, min_accuracy)
        html = report.render(
            figures,
            history,
            about
            | {"version": version, "digest": digest, "created": manifest["created"], "experiment": experiment}
            | {"mlflow_run": run_id, "mlflow": mlflow_log.link(settings, run_id)},
            decision.as_dict() | {"at": provenance.timestamp()},
        )
        write_whole(report_path, html)
        mlflow_log.log_decision(settings, run_id, promoted=decision.promote, why=decision.why, report=html)
        if decision.promote:
            write_serving_layout(store)
        mlflow_registry.mirror_ledger(settings, store)
        champion = ledger.champion(store)
        return {
            "version": version,
            "digest": digest,
            "uri": releases.release_uri(store, version),
            "accuracy": figures["accuracy"],
            "promoted": decision.promote,
            "why": decision.why,
            "champion": champion,
            "champion_uri": releases.release_uri(store, champion) if champion else "",
            "mlflow_run": run_id,
        }


def _manifest(
    version: str,
    digest: str,
    about: dict[str, Any],
    figures: dict[str, Any],
    model: Path,
    test: Dataset,
    right: np.ndarray[Any, np.dtype[np.bool_]],
    run_id: str,
) -> releases.Manifest:
    """All but the files' digests, which publishing adds."""
    chosen = int(right.argmax())  # the first test image that the model recognises
    probabilities = metrics.predict(model / "model.onnx", test.images[chosen : chosen + 1])[0]
    return {
        "name": "digits",
        "version": version,
        "digest": digest,
        "signature": MODEL_SIGNATURE,
        "weights": about["weights"],
        "data": about["data"],
        "code": about["code"],
        "libraries": about["libraries"],
        "parameters": about["parameters"],
        "mlflow_run": run_id,
        "metrics": {name: figures[name] for name in ("accuracy", "interval", "loss", "auc", "count")},
        "golden": golden.create(test.images[chosen], probabilities),
    }


def _gate(
    store: ObjectStore,
    version: str,
    manifest: releases.Manifest,
    right: np.ndarray[Any, np.dtype[np.bool_]],
    test: Dataset,
    min_accuracy: float,
) -> gate.Decision:
    """Promote `version` if it passes; judged again should another promotion come between."""
    decided: list[gate.Decision] = []

    def recheck(champion: str) -> str | None:
        decision = _judge(store, champion, manifest, right, test, min_accuracy)
        decided.append(decision)
        return decision.why if decision.promote else None

    if ledger.champion(store) == version:
        return gate.Decision(True, "it is the champion already")
    ledger.promote(store, version, "", recheck=recheck)
    return decided[-1] if decided else gate.Decision(True, "promoted by another run of the same release")


def _judge(
    store: ObjectStore,
    champion: str,
    manifest: releases.Manifest,
    right: np.ndarray[Any, np.dtype[np.bool_]],
    test: Dataset,
    min_accuracy: float,
) -> gate.Decision:
    if not champion:
        return gate.decide(right, None, min_accuracy=min_accuracy)
    version = manifest["version"]
    if before := [entry.n for entry in ledger.entries(store) if entry.version == version]:
        # Whoever replaced it or rolled it back meant to; a run of the same data and settings must not undo that.
        back = f"digits promote {version} brings it back"
        return gate.Decision(False, f"it was the champion before (ledger entry {before[-1]}); {back}")
    ours, theirs = manifest["data"]["dataset"], releases.load(store, champion)["data"]["dataset"]
    if theirs not in {ours, catalog.FALLBACK}:
        # On its own test set a model of other data would always win; only the fall-back's champion gives way.
        return gate.Decision(False, f"trained on {ours}; the champion {champion} was trained on {theirs}")
    with tempfile.TemporaryDirectory() as folder:
        releases.download(store, champion, Path(folder), only="model.onnx")
        answers = metrics.predict(Path(folder) / "model.onnx", test.images).argmax(1)
    return gate.decide(right, answers == test.labels, min_accuracy=min_accuracy, champion=champion)


def _log(
    settings: Settings,
    run_id: str,
    manifest: releases.Manifest,
    about: dict[str, Any],
    figures: dict[str, Any],
    history: list[dict[str, float]],
    model: Path,
) -> None:
    scalars = {name: figures[name] for name in ("accuracy", "loss", "auc")}
    scalars |= {f"precision_{d}": value for d, value in enumerate(figures["precision"])}
    scalars |= {f"recall_{d}": value for d, value in enumerate(figures["recall"])}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(model / "architecture.json", folder / "architecture.json")
        (folder / "confusion_matrix.json").write_bytes(canonical_json(figures["confusion"]))
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))
        mlflow_log.log_training(
            settings,
            run_id,
            parameters=about["parameters"],
            history=history,
            metrics={f"test_{key}": value for key, value in scalars.items()},
            tags={
                "dataset": about["data"]["dataset"],
                "data_digest": about["data"]["source"],
                "code_digest": about["code"],
            },
            folder=folder,
        )
    if not mlflow_registry.find_registered(settings, manifest["version"]):
        mlflow_registry.register(settings, run_id, model / "model.onnx", manifest)

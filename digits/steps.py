"""The seven steps of the pipeline as plain functions on paths and parameters.

A component of `pipeline` calls one of these and declares its outputs; `backends.fake` calls them without any
engine. Each may run twice: it reads its inputs, never changes them, and writes its outputs whole.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from digits import events, provenance
from digits.data import catalog, corrections, dataset, fetch
from digits.data.dataset import Dataset
from digits.errors import DataError
from digits.files import sha256_of_folder, write_json, write_whole
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store import open_store

if TYPE_CHECKING:
    from digits.evaluation.metrics import Evaluation

VALIDATION_SHARE = 12  # one in twelve training images is held out: 5,000 of MNIST's 60,000
# A small data set is shown several times an epoch, so that an epoch has enough steps to learn something.
LEAST_EPOCH = 20_000
MAX_FEEDBACK = 3_000

Json = dict[str, Any]


def fetch_mnist(dataset: str, out: Path) -> Json:
    """Get the data set and write its training and test parts to the folder `out`.

    Returns {"dataset": name, "digest": of both parts' source, "train": digest, "test": digest, ...}.
    """
    settings = Settings.load()
    fetched = fetch.fetch(dataset, fetch.open_place(settings), settings.home / "data")
    facts: Json = {"dataset": fetched.name, "digest": fetched.digest}
    facts |= {"train": fetched.train.save(out / "train.npz"), "test": fetched.test.save(out / "test.npz")}
    facts |= {"train_count": len(fetched.train), "test_count": len(fetched.test)}
    if fetched.name == catalog.FALLBACK:
        events.emit(
            "progress", "fetch-mnist", text=f"NO MNIST: using scikit-learn's {len(fetched.train)} digits instead"
        )
    write_json(out / "facts.json", facts)
    return facts


def collect_feedback(store: str, out: Path) -> Json:
    """Write the corrected drawings of the object store as a data set. Returns {"digest", "count", "rejected"}."""
    collected = corrections.collect(open_store(Settings.load(), store), limit=MAX_FEEDBACK)
    digest = collected.save(out)
    return {"digest": digest, "count": len(collected), "rejected": sum(collected.rejected.values())}


def prepare(fetched: Path, corrections: Path, digests: Json, seed: int, out: dict[str, Path]) -> Json:
    """Split a validation set off, join the corrections to the rest, and write train, validation and test sets.

    Args:
        fetched: the folder that `fetch_mnist` wrote.
        corrections: the file that `collect_feedback` wrote.
        digests: {"fetched": what fetch_mnist said, "feedback": what collect_feedback said}; content is checked.
        seed: of the split.
        out: where to write {"train", "validation", "test"}.

    Returns the three digests, the count of corrections used, and whether the images are handwritten digits.
    """
    facts = json.loads((fetched / "facts.json").read_text())
    if facts["digest"] != digests["fetched"]:
        raise DataError(
            f"{fetched} changed: expected digest {digests['fetched']}, found {facts['digest']}",
            remedy="run again with --no-cache to make it anew",
        )
    train = Dataset.load(fetched / "train.npz", digest=facts["train"])
    test = Dataset.load(fetched / "test.npz", digest=facts["test"])
    corrected = Dataset.load(corrections, digest=digests["feedback"])
    rest, validation = dataset.split(train, len(train) // VALIDATION_SHARE, seed)
    everything = dataset.with_feedback(rest, corrected)
    return {
        "train": everything.save(out["train"]),
        "validation": validation.save(out["validation"]),
        "test": test.save(out["test"]),
        "feedback_used": min(len(corrected), len(everything) - len(rest)),
        "digits": catalog.are_digits(facts["dataset"]),
    }


def train(sets: dict[str, Path], prepared: Json, parameters: Json, out: Path, history: Path) -> Json:
    """Fit the network and export it. The only step that imports TensorFlow.

    Args:
        sets: the "train" and "validation" files that `prepare` wrote.
        prepared: what `prepare` said of them; content is checked.
        parameters: preset, model, epochs, optimizer, batch_size, learning_rate, seed.
        out: folder for model.keras, saved_model/, model.onnx and architecture.json.
        history: file for the list of {epoch, loss, accuracy, val_loss, val_accuracy, seconds}.

    Returns {"weights": their digest, "model": digest of its files, "count": of weights, "seconds": of training alone,
    "parameters": those given, with what the preset has for 0}.
    """
    from digits.training import export, fit

    config = fit.TrainingConfig(**parameters)
    train_set = Dataset.load(sets["train"], digest=prepared["train"])
    validation = Dataset.load(sets["validation"], digest=prepared["validation"])
    if len(train_set) < LEAST_EPOCH:
        train_set = dataset.join(*[train_set] * -(-LEAST_EPOCH // len(train_set)))

    def on_epoch(result: fit.EpochResult) -> None:
        events.emit(
            "progress",
            "train",
            text=f"epoch {result.epoch}  accuracy {result.accuracy:.2%}  "
            f"validation {result.val_accuracy:.2%}  {result.seconds:.1f} s",
        )

    trained = fit.train(
        (train_set.images, train_set.labels),
        (validation.images, validation.labels),
        config,
        on_epoch,
        add_styles=prepared["digits"],
    )
    shutil.rmtree(out, ignore_errors=True)
    export.export(trained.model, out)
    write_whole(out / "architecture.json", trained.model.to_json())
    rows = [vars(result) for result in trained.history]
    write_json(history, rows)
    return {
        "weights": export.weights_digest(trained.model),
        "model": sha256_of_folder(out),
        "seconds": sum(result.seconds for result in trained.history),
        "count": int(trained.model.count_params()),
        "parameters": parameters | config.resolved,
    }


def evaluate(model: Path, test: Path, digests: Json, history: Path, about: Json, out: dict[str, Path]) -> Evaluation:
    """Judge the model on the test set with ONNX Runtime.

    Args:
        model: the folder that `train` wrote.
        test: the test set.
        digests: {"test": its digest, "model": digest of the model's files}; content is checked.
        history: the file that `train` wrote.
        about: what the report says of the run: parameters, data, weights, code.
        out: where to write {"evaluation": JSON, "report": HTML}.
    """
    from digits.evaluation import metrics, report

    check_model(model, digests["model"])
    test_set = Dataset.load(test, digest=digests["test"])
    probabilities = metrics.predict(model / "model.onnx", test_set.images)
    result = metrics.evaluate(probabilities, test_set)
    right = probabilities.argmax(1) == test_set.labels
    write_json(
        out["evaluation"],
        {"evaluation": result.as_dict(), "right": np.packbits(right).tobytes().hex(), "about": about},
    )
    write_whole(out["report"], report.render(result.as_dict(), json.loads(history.read_text()), about))
    return result


def publish(
    inputs: dict[str, Path], digests: Json, experiment: str, min_accuracy: float, store: str, out: dict[str, Path]
) -> Json:
    """Write the release, log it to MLflow, register it, and promote it if it passes the gate.

    Args:
        inputs: "model", "test", "history" and "evaluation", as the steps before wrote them.
        digests: "test", "model" and "weights"; the content of the first two is checked.
        experiment: MLflow's experiment.
        min_accuracy: least accuracy in 0..1 for the gate.
        store: URI of the object store.
        out: where to write {"report": HTML, with the decision}.

    Returns {"version", "digest", "uri", "promoted", "why", "champion", "champion_uri", "mlflow_run", ...}.
    """
    from digits.release import publish

    check_model(inputs["model"], digests["model"])
    return publish.publish(
        Settings.load(),
        open_store(Settings.load(), store),
        inputs=inputs,
        digests=digests,
        experiment=experiment,
        min_accuracy=min_accuracy,
        report_path=out["report"],
    )


def deploy(champion: str, store: str) -> Json:
    """Put the champion behind the endpoint and wait until it answers its golden image rightly.

    Args:
        champion: the champion that `publish` saw. Its answer may come from the cache, so the ledger is asked again:
            a rollback or another run's promotion since then counts.
        store: URI of the object store.

    Returns {"endpoint": its address, "version": of the champion}, both '' where no release has passed the gate yet.
    """
    from digits.release import deploy

    settings = Settings.load()
    opened = open_store(settings, store)
    champion = ledger.champion(opened) or champion
    if not champion:
        events.emit("progress", "deploy", text="no champion to deploy: no release has passed the gate yet")
        return {"endpoint": "", "version": ""}
    manifest = releases.load(opened, champion)
    deployer = deploy.find_deployer(settings.deployer or deploy.FOLLOW)
    return {"endpoint": deployer(settings, manifest, releases.release_uri(opened, champion)), "version": champion}


def check_model(folder: Path, expected: str) -> None:
    """Raise DataError unless the model's files are those that `train` wrote."""
    if (found := sha256_of_folder(folder)) != expected:
        raise DataError(
            f"the model {folder} changed: expected digest {expected}, found {found}",
            remedy="run again with --no-cache to make it anew",
        )


def plain(value: Any) -> Any:
    """`value` with 3.0 as 3: KFP hands every number of a dict on as a double, and digests are taken over the text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def about_run(fetched: Json, collected: Json, prepared: Json, trained: Json) -> Json:
    """What a release and its report say of the run that made them."""
    about = {
        "parameters": trained["parameters"],
        "data": {
            "dataset": fetched["dataset"],
            "source": fetched["digest"],
            "feedback": collected["digest"],
            "feedback_count": collected["count"],
            "feedback_rejected": collected["rejected"],
            "feedback_used": prepared["feedback_used"],
            "train": prepared["train"],
            "validation": prepared["validation"],
            "test": prepared["test"],
        },
        "weights": trained["weights"],
        "training_seconds": trained["seconds"],
        "parameter_count": trained["count"],
        "code": provenance.digest(),
        "libraries": provenance.versions(),
    }
    return cast(Json, plain(about))

"""One worker of a training: `python -m digits.training.worker FOLDER`, for the Job in that folder.

It imports TensorFlow. With TF_CONFIG it is one of several workers; only the first one reports and writes the results.
If the process was started with a pipe as standard input, it ends when the process at the other end does.
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from dataclasses import asdict
from pathlib import Path

from digits import events, provenance, results
from digits.data import blocks
from digits.data.dataset import Dataset
from digits.data.stored_blocks import StoredBlocks
from digits.errors import DigitsError
from digits.files import sha256_of_folder, write_json, write_whole
from digits.settings import Settings
from digits.store import open_store
from digits.tasks.task import find
from digits.training import export, fit, recipe
from digits.training.checkpoints import Checkpoints
from digits.training.job import Job
from digits.training.tensorflow import tf
from digits.training.workers import ALONE, GATHER_SECONDS, Group, join


def train(job: Job, settings: Settings, group: Group = ALONE) -> results.TrainedModel | None:
    """Train the network of a job and write the job's output. Return the result; None in all workers but the first.

    Raises:
        DataError: a data set is not the one that the job describes.
        DigitsError: as `fit.train`.
    """
    stored = StoredBlocks(open_store(settings))
    images = blocks.read(job.folder / "train_set", job.prepared.train, stored.load)
    validation = Dataset.load(job.folder / "validation_set", digest=job.prepared.validation)
    is_first = group.index == 0

    def on_epoch(result: fit.EpochResult) -> None:
        if is_first:
            text = f"epoch {result.epoch}  accuracy {result.accuracy:.2%}  validation {result.val_accuracy:.2%}"
            events.emit("progress", "train", text=f"{text}  {result.seconds:.1f} s")

    trained = fit.train(
        images,
        (validation.images, validation.labels),
        job.config,
        on_epoch,
        task=find(job.prepared.task),
        repeats=-(-recipe.MIN_EPOCH_IMAGES // len(images)),
        add_styles=job.prepared.are_digits,
        checkpoints=Checkpoints.open(settings, job.key, writes=is_first),
        group=group,
    )
    if not is_first:
        return None
    model = job.output / "model"
    export.export(trained.model, model)
    write_whole(model / "architecture.json", trained.model.to_json())
    write_json(job.output / "history.json", [vars(result) for result in trained.history])
    result = results.TrainedModel(
        weights=export.weights_digest(trained.model),
        files=sha256_of_folder(model),
        weight_count=int(trained.model.count_params()),
        seconds=sum(result.seconds for result in trained.history),
        temperature=trained.temperature,
        parameters=asdict(job.config) | job.config.resolved,
        code=job.code,
        libraries=provenance.library_versions(),
    )
    write_json(job.output / "trained.json", asdict(result))
    return result


def main(folder: Path) -> int:
    """Work on the job in `folder`; return the exit code. An error of ours is written to `error.json` there."""
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        job, settings, group = Job.load(folder), Settings.load(), join()
        train(job, settings, group)
    except DigitsError as exc:
        write_json(folder / "error.json", {"message": exc.message, "remedy": exc.remedy, "kind": type(exc).__name__})
        sys.stderr.write(f"{exc}\n")
        return exc.exit_code
    except tf.errors.OpError as exc:
        sys.stderr.write(f"a worker ended, or did not answer within {GATHER_SECONDS:g} s: {exc.message[-500:]}\n")
        return 1
    return 0


def _end_with_parent() -> None:
    os.read(0, 1)  # not through sys.stdin, whose lock would be held when the interpreter ends
    os._exit(1)


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # without waiting for the other workers, as TensorFlow would

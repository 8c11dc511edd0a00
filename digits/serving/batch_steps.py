"""The steps of the pipeline `digits-batch`, which recognises the pictures of a batch in several pods.

Each is given the addresses of the pictures and of the output. The first writes the plan there, from which the others
know the release, so that all use the same one.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from digits import events
from digits.attempts import step
from digits.data.batch_input import Batch, open_batch
from digits.data.places import open_stored
from digits.errors import DataError, MissingError, UsageError
from digits.files import folder_from_url, user_path
from digits.release import ledger, releases
from digits.serving import slot
from digits.serving.batch_prediction import PLAN, plan_batch, predict_batch, read_plan
from digits.settings import Settings
from digits.store import ObjectStore, find_scheme, open_store

THREADS = 2  # of a pod: as many as it may use CPUs, which os.cpu_count does not report

Opened = tuple[slot.LoadedModel, Batch, ObjectStore]


@contextlib.contextmanager
def opened(settings: Settings, store: ObjectStore, pictures: str, output: str, release: str) -> Iterator[Opened]:
    """Load a release of `store`, '' for the champion, and open the pictures and the output, each a path or an address.

    Raises:
        MissingError: there is no such release, or there are no pictures.
        UsageError: the output is among the pictures, or a file.
    """
    _check_output(output, pictures)
    version = releases.find(store, release) if release else ledger.champion(store)
    if not version:
        raise MissingError("there is no champion to use", remedy="digits run")
    with tempfile.TemporaryDirectory(prefix="digits-batch-") as name:
        folder = Path(name)
        releases.download(store, version, folder / "release", only="model.onnx")
        model = slot.load(folder / "release", settings.trusted_keys, version)
        place = open_stored(settings, pictures) if _is_store(pictures) else user_path(pictures)
        address = output if _is_store(output) else user_path(output).absolute().as_uri()
        batch = open_batch(model.task, place, folder, stopped := threading.Event())
        try:
            yield model, batch, open_store(settings, address)
        finally:
            stopped.set()


def _check_output(output: str, pictures: str) -> None:
    """Raise UsageError unless OUTPUT is a folder, or nothing yet, outside of PICTURES, whose files it would change."""
    if f"{_plain(output)}/".startswith(f"{_plain(pictures)}/"):
        raise UsageError(f"expected an OUTPUT outside of {pictures}, got {output}", remedy="give another folder")
    if not _is_store(output) and os.path.lexists(_plain(output)) and not Path(_plain(output)).is_dir():
        raise UsageError(f"expected a folder as OUTPUT, got the file {output}", remedy="give another folder")


def _plain(place: str) -> str:
    remote = _is_store(place) and not place.lower().startswith("file:")
    return place.rstrip("/") if remote else os.path.realpath(folder_from_url(place, "PICTURES and OUTPUT"))


def _is_store(address: str) -> bool:
    return "://" in address and find_scheme(address) is not None


@step("plan-batch")
def plan(pictures: str, output: str, release: str, task: str) -> None:
    """Check the release and the pictures, and write the plan. Raises as `opened` and `plan_batch`."""
    settings = Settings.load().with_task(task)
    with opened(settings, open_store(settings), pictures, output, release) as (model, batch, store):
        plan_batch(model, batch, store)
        events.emit("progress", "plan-batch", text=f"{batch.count} pictures for release {model.version}")


@step("predict-part")
def predict(pictures: str, output: str, share: str, task: str) -> None:
    """Write the parts of a share, such as 2/4, the second of four."""
    index, _, shares = share.partition("/")
    if not (index.isdecimal() and shares.isdecimal() and 1 <= int(index) <= int(shares)):
        raise UsageError(f"shares: expected such as 1/4, 2/4, 3/4, 4/4, got {share!r}")
    _predict("predict-part", pictures, output, task, (int(index), int(shares)))


@step("finish-batch")
def finish(pictures: str, output: str, task: str) -> None:
    """Write the parts that are missing, if any, and the manifest. Emit the manifest as the run's outputs."""
    events.emit("outputs", "finish-batch", outputs=_predict("finish-batch", pictures, output, task, (1, 1)))


def _predict(name: str, pictures: str, output: str, task: str, share: tuple[int, int]) -> dict[str, object]:
    settings = Settings.load().with_task(task)

    def show(done: int, total: int) -> None:
        events.emit("progress", name, text=f"{done} of {total} pictures")

    release = str(read_plan(open_store(settings, output)).get("release", ""))
    if not release:
        raise DataError(f"{output} has no {PLAN}, which the step plan-batch writes", remedy="start the run again")
    with opened(settings, open_store(settings), pictures, output, release) as (model, batch, store):
        return predict_batch(model, batch, store, show, share=share, threads=THREADS)

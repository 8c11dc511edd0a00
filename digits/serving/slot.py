"""The model that the predictor serves: loading, checking and replacing a release, and watching the ledger."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digits.errors import DigitsError, ReleaseError
from digits.release import ledger, releases
from digits.release.golden import Golden
from digits.signature import endpoint_outputs, image_tensor
from digits.tasks.task import BUILT_IN, Task, find

if TYPE_CHECKING:
    from digits.serving.decode import Decoder
    from digits.settings import Settings
    from digits.store import ObjectStore

log = logging.getLogger("digits.predictor")
MAX_REASON = 500  # letters; gRPC refuses an answer whose message is above 8 KiB once it is encoded
POLL_SECONDS = 0.3  # between two reads of the ledger
RETRY_SECONDS = 5.0  # after a failed download or a rejected release, which may be repaired
# Images per call of the model, and their pixels. ONNX Runtime keeps the memory of its largest call for each thread:
# 130 KB per image of 28 x 28 pixels.
BATCH, BATCH_PIXELS = 64, 64 * 28 * 28
REMEDY = "digits rollback to the previous champion, or serve another release: digits releases"


@dataclass(frozen=True)
class LoadedModel:
    """A release in memory that has passed its golden check.

    `run` takes float32 (n, height, width, channels) in 0..1 and returns probabilities float32 (n, number of labels).
    `signature` is the text of the release's signature, '' if it has none.
    """

    manifest: releases.Manifest
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    signature: str = ""

    @property
    def version(self) -> str:
        """Return the release's version."""
        return str(self.manifest["version"])

    @cached_property
    def task(self) -> Task:
        """Return the release's task."""
        return releases.task_of(self.manifest)

    @property
    def sure_from(self) -> float | None:
        """Return the least probability of a sure answer, None if the release has none."""
        threshold: float | None = self.manifest.get("calibration", {}).get("threshold")
        return threshold

    @cached_property
    def decoder(self) -> Decoder:
        """Return the decoder of requests for images of the task's shape."""
        from digits.serving.decode import Decoder  # needs orjson, which steps do not have

        return Decoder(self.task)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Return the names of the endpoint's outputs."""
        return tuple(tensor.name for tensor in endpoint_outputs(self.task))


def load(folder: Path, trusted_keys: str = "", release: str = "") -> LoadedModel:
    """Check a release folder, load its ONNX model, and compare its answer to the golden image.

    `trusted_keys` is as DIGITS_TRUSTED_KEYS; `release` is the expected version or its first letters, '' for any.

    Raises:
        ReleaseError: a digest, a signature, the version, the model's inputs or the golden answer differs.
    """
    import onnxruntime

    manifest = releases.check_folder(folder, trusted_keys)
    if not manifest["version"].startswith(release):
        raise ReleaseError(f"expected release {release} in {folder}, found {manifest['version']}", remedy=REMEDY)
    options = onnxruntime.SessionOptions()
    # One thread per request, because concurrent requests with more threads would compete for the cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise ReleaseError(f"ONNX Runtime cannot load release {manifest['version']}: {exc}", remedy=REMEDY) from exc
    image, task = session.get_inputs()[0], releases.task_of(manifest)
    if image.type != "tensor(float)" or tuple(image.shape[1:]) != task.input_shape:
        expected = f"(n, {task.height}, {task.width}, {task.channels})"
        raise ReleaseError(f"expected a model of float {expected}, got {image.type} {image.shape}", remedy=REMEDY)
    size = min(BATCH, BATCH_PIXELS // (task.height * task.width))

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        batches = [pixels[start : start + size] for start in range(0, len(pixels), size)]
        results = [session.run(None, {image.name: batch})[0] for batch in batches]
        return results[0] if len(results) == 1 else np.concatenate(results)

    golden = Golden.from_manifest(manifest)
    answer = run(golden.pixels)
    if answer.shape != (row := (1, len(task.labels))):
        raise ReleaseError(f"expected probabilities {row} for one image, got {answer.shape}", remedy=REMEDY)
    if difference := golden.difference(answer[0]):
        raise ReleaseError(f"release {manifest['version']} {difference}", remedy=REMEDY)
    return LoadedModel(manifest, run, releases.read_signature(folder))


class ModelSlot:
    """The model being served. It is replaced by one assignment, so that each request sees exactly one release."""

    def __init__(self, task: Task | None = None) -> None:
        """Create a slot without a model. Until there is one, the metadata are those of `task`."""
        self._declared = task or find(BUILT_IN)
        self.current: LoadedModel | None = None
        self.rejected: dict[str, str] = {}  # "release" and "why" of the last one that could not be served

    def swap(self, model: LoadedModel) -> None:
        """Serve `model` from the next request on."""
        self.current, self.rejected = model, {}
        log.info("serving release %s", model.version)

    def metadata(self) -> dict[str, Any]:
        """Return the model's metadata as the Open Inference Protocol has it, without the name."""
        model = self.current
        task = model.task if model else self._declared
        return {
            "versions": [model.version] if model else [],
            "platform": "onnx",
            "inputs": [image_tensor(task).metadata()],
            "outputs": [tensor.metadata() for tensor in endpoint_outputs(task)],
            "parameters": self._about(model) | {"task": task.of_model().text(), "refused": self.rejected},
        }

    def _about(self, model: LoadedModel | None) -> dict[str, Any]:
        if model is None:
            return {"release": ""}
        manifest = model.manifest
        return {
            "release": manifest["version"],
            "digest": manifest["digest"],
            "accuracy": manifest["metrics"]["accuracy"],
            "sure_from": model.sure_from,
            "dataset": manifest["data"]["dataset"],
            "data_digest": manifest["data"]["source"],
            "mlflow_run": manifest["mlflow_run"],
            "created": manifest.get("created", ""),
            "signature": model.signature,
        }


class LedgerWatcher(threading.Thread):
    """A thread that loads the store's champion, and each new one as soon as the ledger names it.

    With `pinned`, a release's version or its first letters, it loads that release instead.
    """

    def __init__(self, slot: ModelSlot, settings: Settings, pinned: str = "") -> None:
        super().__init__(name="ledger-watcher", daemon=True)
        self._slot, self._settings, self._pinned, self._sought = slot, settings, pinned, pinned

    def find_pinned(self, store: ObjectStore) -> None:
        """Find the version of the pinned release once. Raises ReleaseError if there is none, or several."""
        if self._sought:
            self._pinned, self._sought = releases.find(store, self._sought), ""

    def run(self) -> None:
        """Poll until the process ends."""
        while True:
            time.sleep(POLL_SECONDS if self.poll() else RETRY_SECONDS)

    def poll(self) -> bool:
        """Load the champion (or the pinned release) if it is not loaded. Returns False after a failure."""
        from digits.store import open_store

        version = ""
        try:
            store = open_store(self._settings)
            self.find_pinned(store)
            version = self._pinned or ledger.champion(store, known=True)
            if version and (self._slot.current is None or self._slot.current.version != version):
                version = self._pinned or ledger.champion(store)  # with a check of the whole ledger
                folder = Path(tempfile.mkdtemp(prefix="digits-release-"))
                try:
                    releases.download(store, version, folder, only="model.onnx")
                    self._slot.swap(load(folder, self._settings.trusted_keys, version))
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                self._slot.rejected = {}  # the rejected release is no longer the champion
        except DigitsError as exc:
            if self._is_news(version, exc.message):
                log.error("release %s rejected: %s", version or "?", exc.message)  # noqa: TRY400 # it is complete
            return False
        except Exception as exc:  # a damaged store must not end the thread
            if self._is_news(version, f"{type(exc).__name__}: {exc}"):
                log.exception("cannot follow the ledger")
            return False
        return True

    def _is_news(self, version: str, why: str) -> bool:
        """Record why a release cannot be served. Return whether that differs from the last time.

        Otherwise a store that is away for days would fill the disk with one message.
        """
        before, self._slot.rejected = self._slot.rejected, {"release": version, "why": why[:MAX_REASON]}
        return before != self._slot.rejected

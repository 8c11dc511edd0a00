"""The model behind the endpoint: one release at a time, exchanged whole, never served unchecked."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digits.errors import DigitsError, ReleaseError
from digits.release import ledger, releases
from digits.release.golden import Golden
from digits.signature import IMAGE, PROBABILITIES

if TYPE_CHECKING:
    from digits.settings import Settings

log = logging.getLogger("digits.predictor")
POLL_SECONDS = 0.3
# A release that could not be had (store away) is tried again; a refused one too, should it have been repaired.
RETRY_SECONDS = 5.0
OTHER = "digits rollback to the champion before, or serve another release: digits releases"


@dataclass(frozen=True)
class Loaded:
    """A release in memory that has answered its golden image rightly."""

    manifest: releases.Manifest
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    @property
    def version(self) -> str:
        """The release's version."""
        return str(self.manifest["version"])


def load(folder: Path) -> Loaded:
    """Check a release folder's digests, load its ONNX model and ask it for the golden image.

    Raises:
        ReleaseError: a digest, the signature or the golden answer differs; says which.
    """
    import onnxruntime

    manifest = releases.check_folder(folder)
    options = onnxruntime.SessionOptions()
    # One thread a request: with more, requests that run side by side would fight for the cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    except Exception as exc:
        raise ReleaseError(f"ONNX Runtime cannot load release {manifest['version']}: {exc}", remedy=OTHER) from exc
    image = session.get_inputs()[0]
    if image.type != "tensor(float)" or tuple(image.shape[1:]) != IMAGE.shape[1:]:
        raise ReleaseError(f"expected a model of float (n, 28, 28, 1), found {image.type} {image.shape}", remedy=OTHER)
    name = image.name

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = session.run(None, {name: pixels})[0]
        return result

    golden = Golden.from_manifest(manifest)
    answer = run(golden.pixels)
    if answer.shape != (1, *PROBABILITIES.shape[1:]):
        raise ReleaseError(f"expected probabilities (1, 10) for one image, found {answer.shape}", remedy=OTHER)
    if difference := golden.difference(answer[0]):
        raise ReleaseError(f"release {manifest['version']} {difference}", remedy=OTHER)
    return Loaded(manifest, run)


class Served:
    """What is served now. `current` is exchanged by one assignment, so a request sees one release, whole."""

    def __init__(self) -> None:
        self.current: Loaded | None = None
        self.refused: dict[str, str] = {}

    def exchange(self, loaded: Loaded) -> None:
        """Serve `loaded` from the next request on."""
        self.current, self.refused = loaded, {}
        log.info("serving release %s", loaded.version)

    def about(self) -> dict[str, Any]:
        """Which release is served, for the metadata; {} where none is."""
        if self.current is None:
            return {"release": "", "refused": self.refused}
        manifest = self.current.manifest
        return {
            "release": manifest["version"],
            "digest": manifest["digest"],
            "accuracy": manifest["metrics"]["accuracy"],
            "dataset": manifest["data"]["dataset"],
            "data_digest": manifest["data"]["source"],
            "mlflow_run": manifest["mlflow_run"],
            "created": manifest.get("created", ""),
            "refused": self.refused,
        }


class Follower(threading.Thread):
    """Serves the champion of a store, and the next one as soon as the ledger names it."""

    def __init__(self, served: Served, settings: Settings, pinned: str = "") -> None:
        super().__init__(name="follower", daemon=True)
        self._served, self._settings, self._pinned = served, settings, pinned
        self._over = threading.Event()

    def run(self) -> None:
        """Poll until `stop`."""
        wait = 0.0
        while not self._over.wait(wait):
            wait = POLL_SECONDS if self.step() else RETRY_SECONDS

    def step(self) -> bool:
        """Look once; returns False if something is amiss and should not be asked for too often."""
        from digits.store import open_store

        version = ""
        try:
            store = open_store(self._settings)
            version = self._pinned or ledger.champion(store)
            if version and (self._served.current is None or self._served.current.version != version):
                folder = Path(tempfile.mkdtemp(prefix="digits-release-"))
                try:
                    releases.download(store, version, folder, only="model.onnx")
                    self._served.exchange(load(folder))
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                self._served.refused = {}  # what was refused is not asked for any more
        except DigitsError as exc:
            self._served.refused = {"release": version, "why": exc.message}
            log.error("release %s refused: %s", version or "?", exc.message)  # noqa: TRY400 # the message says it all
            return False
        except Exception as exc:  # the thread must live on, whatever a damaged store makes of us
            self._served.refused = {"release": version, "why": f"{type(exc).__name__}: {exc}"}
            log.exception("cannot follow the ledger")
            return False
        return True

    def stop(self) -> None:
        """End the polling."""
        self._over.set()

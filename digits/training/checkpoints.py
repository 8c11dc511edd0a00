"""Checkpoints of a training in the object store, from which an interrupted training continues with the same result.

A checkpoint is two objects under `trainings/<task>/<digest of the training's inputs>/`: `checkpoint-<epoch>.npz` with
the variables and, written last, `checkpoint-<epoch>.json` with the rest and the digest of the first. They are deleted
when the training has ended, or MAX_AGE later when another one of the task has.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from digits import events
from digits.errors import DigitsError, StoreError
from digits.files import canonical_json, parse_json, sha256_of
from digits.settings import Settings
from digits.store import ObjectStore, open_store

MAX_AGE = 30 * 24 * 3600.0  # seconds, of what trainings that never ended have left


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after an epoch."""

    epoch: int  # completed epochs, from 1
    history: list[dict[str, Any]]  # of the completed epochs
    random: dict[str, Any]  # the state of the generator of the images' order
    variables: Sequence[NDArray[Any]]  # of the network and the optimizer, in their order


def folder(store: ObjectStore, key: str) -> str:
    """Return the prefix of the objects of a training, whose inputs have the digest `key`."""
    return f"trainings/{store.task}/{key}/"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one training. A store that fails costs the checkpoint, not the training.

    Attributes:
        store: where they are; None: there are none.
        key: digest of the training's inputs.
        writes: whether this process writes them; the others of a group only read.
    """

    store: ObjectStore | None = None
    key: str = ""
    writes: bool = True

    @classmethod
    def open(cls, settings: Settings, key: str, *, writes: bool = True) -> Checkpoints:
        """Return the checkpoints in the settings' store. Where only signed content counts there are none."""
        return cls(None if settings.trusted_keys else open_store(settings), key, writes)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and delete the earlier ones."""
        if not self.store or not self.writes:
            return
        try:
            earlier = self._keys()
            buffer = io.BytesIO()
            np.savez(buffer, *checkpoint.variables)
            content = buffer.getvalue()
            name = f"{folder(self.store, self.key)}checkpoint-{checkpoint.epoch:04}"
            state = {"epoch": checkpoint.epoch, "history": checkpoint.history, "random": checkpoint.random}
            self.store.put(f"{name}.npz", content)
            self.store.put(f"{name}.json", canonical_json(state | {"sha256": sha256_of(content)}))
            for key in earlier:
                if not key.startswith(name):
                    self.store.delete(key)
        except DigitsError as exc:
            events.emit("progress", "train", text=f"no checkpoint of epoch {checkpoint.epoch}: {exc.message}")

    def load(self) -> Checkpoint | None:
        """Return the last whole checkpoint, None if there is none."""
        if not self.store:
            return None
        try:
            for key in reversed([key for key in self._keys() if key.endswith(".json")]):
                if checkpoint := self._read(self.store, key):
                    return checkpoint
        except DigitsError as exc:
            events.emit("progress", "train", text=f"no checkpoint was read: {exc.message}")
        return None

    def remove(self) -> None:
        """Delete all checkpoints, and what others of the task left MAX_AGE ago. If the store fails, nothing is done."""
        if not self.store:
            return
        try:
            for key in [*self._keys(), *self.store.keys(f"trainings/{self.store.task}/", min_age=MAX_AGE)]:
                self.store.delete(key)
        except DigitsError as exc:
            events.emit("progress", "train", text=f"checkpoints were not removed: {exc.message}")

    def _keys(self) -> list[str]:
        """Return the sorted keys of the checkpoints' objects."""
        if not self.store:
            return []
        prefix = folder(self.store, self.key)
        return [key for key in self.store.keys(prefix) if key.startswith(f"{prefix}checkpoint-")]

    @staticmethod
    def _read(store: ObjectStore, key: str) -> Checkpoint | None:
        """Return the checkpoint of that key; None if a part is damaged or missing."""
        try:
            state = parse_json(store.get(key))
            content = store.get(f"{key.removesuffix('.json')}.npz", sha256=state.pop("sha256"))
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                return Checkpoint(**state, variables=[file[name] for name in file.files])
        except (StoreError, ValueError, TypeError, LookupError, AttributeError, zipfile.BadZipFile):
            return None

"""The blocks of prepared data sets in the object store, from which a training reads one at a time.

A block of fetched images becomes a block of training images and one of validation images. The same inputs are prepared
only once. Below `blocks/<task>/<digest of the inputs>/`:

    train.npz, validation.npz   the two parts, files of `Dataset.save`
    index.json                  written last: {"train": {"count": images, "digest": of the part}, "validation": {…}}
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from digits import events
from digits.data.block_index import Block
from digits.data.dataset import REMEDY, Dataset
from digits.errors import DataError, DigitsError, ObjectMissing
from digits.files import canonical_json, parse_json
from digits.store import ObjectStore

MAX_AGE = 30 * 24 * 3600.0  # seconds since `prepare` last used a block
PARTS = ("train", "validation")


@dataclass(frozen=True)
class StoredBlocks:
    """The prepared blocks of a task in its object store. `key` is the digest of the inputs of one.

    Raises:
        StoreError, StoreUnreachable: the store refused a request, or did not answer (any method but `remove_old`).
    """

    store: ObjectStore

    def find(self, key: str) -> list[Block] | None:
        """Return the two parts that were prepared from the inputs, if they are there. They then count as used.

        Where only signed content is accepted there are none, because the index is not signed.
        """
        if self.store.trust.keys:
            return None
        index = self._name(key, "index.json")
        try:
            content = self.store.get(index)
            fields = parse_json(content)
            parts = [Block(int(fields[part]["count"]), str(fields[part]["digest"])) for part in PARTS]
        except (ObjectMissing, ValueError, TypeError, LookupError):
            return None
        if not all(map(self.store.exists, self.objects(key))):
            return None
        self.store.put(index, content)
        return parts

    def add(self, key: str, *parts: Dataset) -> list[Block]:
        """Write the two parts that were prepared from the inputs."""
        written = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "part.npz")
            for name, images in zip(self.objects(key), parts, strict=True):
                written.append(Block(len(images), images.save(path)))
                self.store.put(name, path)
        index = {name: asdict(part) for name, part in zip(PARTS, written, strict=True)}
        self.store.put(self._name(key, "index.json"), canonical_json(index))
        return written

    def load(self, name: str, digest: str) -> Dataset:
        """Return a part, given its object. It is deleted if it is damaged, so that the next run makes it again.

        Raises:
            DataError: it is missing, or its digest is not `digest`.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "part.npz")
            try:
                self.store.download(name, path)
                return Dataset.load(path, digest=digest)
            except ObjectMissing as exc:
                raise DataError(f"{self.store.uri}: the block {name} is missing", remedy=REMEDY) from exc
            except DataError as exc:
                self.store.delete(name)
                raise DataError(f"{self.store.uri}: the block {name} was damaged", remedy=REMEDY) from exc

    def remove_old(self) -> None:
        """Delete the blocks that `prepare` last used MAX_AGE ago. If the store fails, nothing is done."""
        folder = f"blocks/{self.store.task}/"
        try:
            old = self.store.keys(folder, min_age=MAX_AGE)
            recent = {name for name in self.store.keys(folder) if name.endswith("/index.json")} - set(old)
            for name in old:
                if f"{name.rpartition('/')[0]}/index.json" not in recent:
                    self.store.delete(name)
        except DigitsError as exc:
            events.emit("progress", "prepare", text=f"old blocks were not removed: {exc.message}")

    def objects(self, key: str) -> list[str]:
        """Return the keys of the objects of the two parts."""
        return [self._name(key, f"{part}.npz") for part in PARTS]

    def _name(self, key: str, file: str) -> str:
        return f"blocks/{self.store.task}/{key}/{file}"

"""Preparation of the training and the validation set, one block of the fetched images at a time."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from digits import events
from digits.data import blocks
from digits.data.block_index import Block, Index
from digits.data.dataset import MAX_VALIDATION, Dataset, Images, Indices, join, repeat_feedback, split_validation
from digits.data.stored_blocks import StoredBlocks
from digits.errors import DataError
from digits.files import canonical_json, sha256_of
from digits.store import ObjectStore

_FEW = 8  # images of a class, all of which might be held out by chance


@dataclass(frozen=True)
class Prepared:
    """The digest of the training set, the validation set, and the number of corrections in the training set."""

    train: str
    validation: Dataset
    feedback_used: int


def prepare(
    fetched: Path,
    digest: str,
    corrected: Dataset,
    *,
    test: Dataset,
    share: int,
    seed: int,
    code: str,
    store: ObjectStore,
    folder: Path,
) -> Prepared:
    """Divide the fetched images into training and validation images, and add the corrections to the former.

    Each block is prepared without the others. If there are several, they are written to the object store, and those
    whose inputs have not changed since an earlier run are not prepared again. No validation image is equal to a
    training image or a correction, unless each is equal to a correction.

    Args:
        fetched: folder of the fetched set.
        digest: digest of the fetched set.
        corrected: the corrections. Those that are equal to test images are left out.
        test: the test images.
        share: one in `share` images is for validation.
        seed: chooses these images.
        code: digest of the code that prepares.
        store: the object store.
        folder: of the training set, which is written.

    Raises:
        DataError: the fetched set is damaged, or has too few images.
        StoreError, StoreUnreachable: the store failed.
    """
    source = blocks.read(fetched, digest)
    count = len(source.blocks)
    # A page shows a test image as it is. A model that was trained on it would pass the gate by knowing the answer.
    if left_out := len(corrected) - len(corrected := _without(corrected, test)):
        events.emit("progress", "prepare", text=f"left out: {left_out} corrections that are equal to test images")

    if count == 1:
        whole = source.load(0)
        rest, chosen = _split(whole, share, seed)
        added = repeat_feedback(len(corrected), len(rest))
        digest = blocks.write(folder, [join(whole[rest], corrected[added])])
        return Prepared(digest, _validation(whole[chosen], corrected), len(np.unique(added)))
    # Rounded, because all blocks are prepared again if it changes.
    held_share = float(f"{min(1 / share, MAX_VALIDATION / len(source)):.2g}")
    labels = np.bincount(np.concatenate([blocks.read_labels(fetched, number) for number in range(count)]))
    kept = np.flatnonzero(labels < _FEW)  # classes of which no image is held out
    added = repeat_feedback(len(corrected), round((1 - held_share) * len(source)))
    corrections = [corrected[added[number::count]] for number in range(count)]
    stored = StoredBlocks(store)

    def make(number: int) -> tuple[Dataset, Dataset]:
        block = source.load(number)
        held = np.array([_rank(image, seed) < held_share for image in block.images]) & ~np.isin(block.labels, kept)
        return join(block[~held], corrections[number]), block[held]

    while True:
        written, validations, names, unchanged = list[Block](), list[Dataset](), list[str](), 0
        for number, block in enumerate(source.blocks):
            key = sha256_of(
                canonical_json([block.digest, corrections[number].digest(), held_share, kept.tolist(), seed, code])
            )
            train_object, validation_object = stored.objects(key)
            held = None
            if found := stored.find(key):
                of_train, of_validation = found
                with contextlib.suppress(DataError):  # a damaged part is made again
                    held = stored.load(validation_object, of_validation.digest)
            unchanged += held is not None
            if held is None:
                train, held = make(number)
                of_train, _ = stored.add(key, train, held)
            written.append(of_train)
            names.append(train_object)
            validations.append(held)
        held_labels = np.bincount(np.concatenate([held.labels for held in validations]), minlength=len(labels))
        lost = np.flatnonzero((labels > 0) & (held_labels == labels))
        if not len(lost):
            break
        kept = np.union1d(kept, lost)  # its images are copies of so few that all of these were chosen
    events.emit(
        "progress", "prepare", text=f"prepared {count - unchanged} of {count} blocks, {unchanged} are unchanged"
    )
    stored.remove_old()
    shutil.rmtree(folder, ignore_errors=True)
    index = Index(source.shape, tuple(written), tuple(names))
    index.write(folder)
    return Prepared(index.digest(), _validation(join(*validations)[:MAX_VALIDATION], corrected), len(np.unique(added)))


def _split(dataset: Dataset, share: int, seed: int) -> tuple[Indices, Indices]:
    """Return the indices for training and for validation, as `split_validation` does; equal images count as one."""
    first = dict[str, int]()
    firsts = np.array([first.setdefault(_digest(image), number) for number, image in enumerate(dataset.images)])
    different = np.unique(firsts)
    rest, held = (different[part] for part in split_validation(dataset.labels[different], share, seed))
    copies = np.flatnonzero((firsts != np.arange(len(firsts))) & np.isin(firsts, rest))
    return np.concatenate([rest, copies]), held


def _rank(image: Images, seed: int) -> float:
    """Return a number in 0..1 that the image and the seed determine, the same in each block."""
    return int(sha256_of(seed.to_bytes(8, "big") + image.tobytes())[:16], 16) / 2**64


def _validation(held: Dataset, corrected: Dataset) -> Dataset:
    """Return the held images that are equal to no correction, or all of them if none is left, because some must be."""
    return _without(held, corrected) or held


def _without(dataset: Dataset, others: Dataset) -> Dataset:
    """Return the images of a data set that are equal to none of `others`."""
    if not (len(dataset) and len(others)):
        return dataset
    left_out = set(map(_digest, others.images))
    return dataset[[number for number, image in enumerate(dataset.images) if _digest(image) not in left_out]]


def _digest(image: Images) -> str:
    return sha256_of(image.tobytes())

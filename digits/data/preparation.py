"""Preparation of the training and the validation set, one block of the fetched images at a time."""

from __future__ import annotations

import contextlib
import hashlib
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
    whose inputs have not changed since an earlier run are not prepared again. Validation images that are equal to a
    correction are left out.

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

    def divide(number: int) -> tuple[Indices, Indices]:
        if count == 1:
            return split_validation(blocks.read_labels(fetched, 0), share, seed)
        # A block has hundreds of images at least, and all of them so many that each class needs no care.
        images = source.blocks[number].count
        order, held = np.random.default_rng(seed).permutation(images), min(images // share, MAX_VALIDATION // count)
        return order[held:], order[:held]

    added = repeat_feedback(len(corrected), sum(len(divide(number)[0]) for number in range(count)))
    corrections = [corrected[added[number::count]] for number in range(count)]

    def make(number: int) -> tuple[Dataset, Dataset]:
        block, (rest, held) = source.load(number), divide(number)
        return join(block[rest], corrections[number]), block[held]

    if count == 1:
        train, validation = make(0)
        return Prepared(blocks.write(folder, [train]), _without(validation, corrected), len(np.unique(added)))
    stored, written, validations, names, unchanged = StoredBlocks(store), list[Block](), list[Dataset](), list[str](), 0
    for number, block in enumerate(source.blocks):
        key = sha256_of(canonical_json([block.digest, corrections[number].digest(), share, seed, count, code]))
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
    events.emit(
        "progress", "prepare", text=f"prepared {count - unchanged} of {count} blocks, {unchanged} are unchanged"
    )
    stored.remove_old()
    shutil.rmtree(folder, ignore_errors=True)
    index = Index(source.shape, tuple(written), tuple(names))
    index.write(folder)
    return Prepared(index.digest(), _without(join(*validations), corrected), len(np.unique(added)))


def _without(dataset: Dataset, others: Dataset) -> Dataset:
    """Return the images of a data set that are equal to none of `others`."""
    if not (len(dataset) and len(others)):
        return dataset
    left_out = set(map(_digest, others.images))
    return dataset[[number for number, image in enumerate(dataset.images) if _digest(image) not in left_out]]


def _digest(image: Images) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()

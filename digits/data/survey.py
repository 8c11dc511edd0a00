"""A look at a data set that no task file describes yet: its form, classes and sizes, and a proposal for the images."""

from __future__ import annotations

import io
import math
import os
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from digits.data import array_files, arrays, folders, idx, idx_place
from digits.data.dataset import Dataset
from digits.data.pictures import FORMATS, on_white, open_picture
from digits.data.places import MAX_PICTURE, Files, open_files
from digits.data.screening import MAX_LISTED, MIN_TEST, MIN_TRAIN, Findings
from digits.errors import DataError, MissingError
from digits.files import sha256_of
from digits.tasks.task import MAX_LABELS, MAX_SIDE, MIN_SIDE, Source, Task

FEW = 20  # pictures of a class with which a model learns little
SIDES = (28, 32, 48, 64, 96)  # preferred sides of images in pixels
USUAL = 64  # longer side of images for large photos; a larger one takes longer to train and is rarely more accurate
MAX_LOOKED = 5_000  # pictures that are decoded; of more, a part evenly spread
PICTURES = {"png", "jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff"}  # endings; CSV files next to these are notes
_CHROMA = 12  # of 255: mean difference of the colour channels, below which a picture is grey
_COLOURED = 0.1  # share of coloured pictures from which on images have colour

Check = Callable[[list[str]], None]


@dataclass
class Survey:
    """The content of a data set, and the images that fit it."""

    format: str
    counts: dict[str, int]  # pictures of each label, in the order of the labels
    height: int
    width: int
    channels: int
    tested: int = 0  # images of the test part; 0: a share is held out
    sizes: str = ""  # of the pictures
    warnings: list[str] = field(default_factory=list)


class _Look(NamedTuple):
    """The properties of one picture."""

    sha256: str
    size: tuple[int, int]  # width and height; (0, 0) if it is damaged
    coloured: bool
    problem: str


def survey(place: Path, check: Check = lambda _: None) -> Survey:
    """Look at the data set at a place. `check` is called with the labels, before any picture is decoded.

    Raises:
        MissingError: there is nothing.
        DataError: it is no data set.
    """

    def check_labels(labels: list[str]) -> None:
        if not 2 <= len(labels) <= MAX_LABELS:
            raise DataError(
                f"{place}: expected 2 to {MAX_LABELS} classes, found {len(labels)}",
                remedy=folders.REMEDY if found == "folder" else f"write other labels into the file; {arrays.REMEDY}",
            )
        check(labels)

    if not (os.path.isdir(place) or os.path.isfile(place)):  # noqa: PTH112, PTH113 # Path's raise OSError
        raise MissingError(
            f"{place} is neither a folder nor a file",
            remedy="give a folder with a folder of pictures for each class, or a ZIP, IDX, NPZ or CSV file",
        )
    opened = open_files(Source("folder"), str(place), Path())
    found = _find_format(opened.names())
    if found == "folder":
        result = _survey_folder(opened, check_labels)
    else:
        result = _survey_arrays(place, found)
        check_labels(list(result.counts))
    least = MIN_TRAIN + MIN_TEST
    few = {label: count for label, count in result.counts.items() if count < FEW}
    for label, count in sorted(few.items(), key=lambda item: item[1])[:MAX_LISTED]:
        need = f"at least {least} are needed" if count < least else f"a model learns little from fewer than {FEW}"
        result.warnings.append(f"{label} has {count} picture{'s' * (count != 1)}: {need}")
    return result


def check_arrays(task: Task, place: Path) -> None:
    """Raise DataError if a run of the task would refuse the NPZ or CSV files at a place."""
    array_files.read(task, open_files(task.data, str(place), Path()), Findings())


def _find_format(names: list[str]) -> str:
    if {Path(name).name for name in names} & {*idx_place.names(idx.TRAIN_IMAGES)}:
        return "idx"
    kinds = {re.sub(r"\.gz$", "", name.lower()).rpartition(".")[2] for name in names}
    return next((kind for kind in ("npz", "csv") if kind in kinds and not kinds & PICTURES), "folder")


def _survey_folder(files: Files, check: Check) -> Survey:
    names = files.names()
    check(labels := folders.find_labels(names))
    counts, looks, tested = Counter[str](), dict[str, _Look](), 0
    pictures = folders.sort(labels, names, findings := Findings())
    for picture in pictures:
        counts[labels[picture.label]] += 1
        tested += picture.tested
    step = max(1, -(-len(pictures) // MAX_LOOKED))
    chosen = pictures[::step]
    pool = ThreadPoolExecutor(folders.WORKERS)
    try:
        looks = {p.name: look for p, look in zip(chosen, pool.map(lambda p: _look(files, p.name), chosen), strict=True)}
    finally:
        pool.shutdown(cancel_futures=True)
    intact = [look for look in looks.values() if not look.problem]
    if not intact:
        raise DataError(
            f"{files.where}: expected pictures in a folder for each class, found none", remedy=folders.REMEDY
        )
    height, width = propose_size([look.size for look in intact])
    coloured = sum(look.coloured for look in intact) >= _COLOURED * len(intact)
    result = Survey("folder", {label: counts[label] for label in labels}, height, width, 3 if coloured else 1, tested)
    result.sizes = _range([look.size for look in intact])
    result.warnings += _problems(looks) + findings.lines()
    if step > 1:
        result.warnings.append(f"only {len(chosen)} of {len(pictures)} pictures were looked at")
    return result


def _look(files: Files, name: str) -> _Look:
    digest = ""
    try:
        content = files.read(name, MAX_PICTURE)
        digest = sha256_of(content)
        picture = on_white(open_picture(io.BytesIO(content))).convert("RGB")
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            size = opened.size  # `open_picture` reduces a large picture
    except DataError as exc:
        return _Look(digest, (0, 0), False, exc.message)
    if (size[0] > size[1]) != (picture.width > picture.height):  # a camera held upright
        size = (size[1], size[0])
    picture.thumbnail((64, 64))
    return _Look(digest, size, bool(np.ptp(np.asarray(picture), axis=2).mean() > _CHROMA), "")


def _problems(looks: dict[str, _Look]) -> list[str]:
    """Return at most MAX_LISTED lines each on damaged and on equal pictures."""
    damaged, equal, by_content = Findings(), Findings(), defaultdict(list)
    for name, look in looks.items():
        if look.problem:
            damaged.add(f"{name}: {look.problem}")
        else:
            by_content[look.sha256].append(name)
    for names in by_content.values():
        if len(names) > 1:
            equal.add(f"{' and '.join(names[:3])} are equal")
    return damaged.lines() + equal.lines()


def propose_size(sizes: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the height and width of images for pictures of these widths and heights.

    One size that all have is kept if it is allowed. Otherwise the longer side is one of SIDES that the median picture
    has, and the shorter one follows its aspect ratio, unless it is nearly a square.
    """
    if len(set(sizes)) == 1 and all(MIN_SIDE <= side <= MAX_SIDE for side in sizes[0]):
        return sizes[0][1], sizes[0][0]
    width, height = (statistics.median(size[axis] for size in sizes) for axis in (0, 1))
    longer = max(width, height)
    side = USUAL if longer > MAX_SIDE else max([s for s in SIDES if s <= longer], default=max(MIN_SIDE, int(longer)))
    shorter = max(MIN_SIDE, 4 * round(side * min(width, height) / longer / 4))
    if shorter > 0.85 * side:
        shorter = side
    return (side, shorter) if height > width else (shorter, side)


def _range(sizes: list[tuple[int, int]]) -> str:
    low, high = min(sizes, key=lambda s: s[0] * s[1]), max(sizes, key=lambda s: s[0] * s[1])
    return f"{low[0]} x {low[1]}" + (f" to {high[0]} x {high[1]}" if low != high else "")


def _survey_arrays(place: Path, form: str) -> Survey:
    """Look at the arrays of IDX, NPZ or CSV files."""
    parts = {"idx": _look_at_idx, "npz": _look_at_npz, "csv": _look_at_csv}[form](place)
    if not parts:
        raise DataError(f"{place}: expected images, found none", remedy=arrays.REMEDY)
    shapes = {shape for shape, _ in parts}
    if len(shapes) != 1 or not all(MIN_SIDE <= side <= MAX_SIDE for side in next(iter(shapes))[:2]):
        raise DataError(f"{place}: expected images of one size, {MIN_SIDE} to {MAX_SIDE} pixels, found {shapes}")
    ((height, width, channels),) = shapes
    counts = Counter[str]()
    for _, labels in parts:
        counts.update(labels)
    names = folders.natural(counts)
    if form == "idx":  # whose labels are indexes
        names = [str(number) for number in range(max(map(int, names), default=0) + 1)]
    tested = len(parts[1][1]) if len(parts) > 1 else 0
    return Survey(form, {n: counts[n] for n in names}, height, width, channels, tested, f"{width} x {height}")


_Parts = list[tuple[tuple[int, int, int], list[str]]]  # the shape of the images and the labels of each part


def _look_at_idx(place: Path) -> _Parts:
    read = [idx.parse(idx_place.read_folder(Source("idx"), file, str(place)), file) for file in idx.FILES]
    parts = [Dataset(x, y) for x, y in (read[:2], read[2:])]
    return [(_shape(part.images.shape), [str(label) for label in part.labels]) for part in parts]


def _look_at_npz(place: Path) -> _Parts:
    parts = []
    for name, content in array_files.read_files(Source("npz"), open_files(Source("npz"), str(place), Path())):
        found = arrays.load_npz(io.BytesIO(content), name)
        pairs = arrays.find_pairs(found, name)
        parts += [(_shape(found[x].shape), [arrays.as_text(label) for label in found[y].ravel()]) for x, y in pairs]
    return parts


def _look_at_csv(place: Path) -> _Parts:
    parts = []
    for name, content in array_files.read_files(Source("csv"), open_files(Source("csv"), str(place), Path())):
        labels, rows = arrays.split_csv(content, name)
        if labels:
            size = rows[0].count(",") + 1
            side, channels = next(
                (
                    (side, channels)
                    for channels in (1, 3)
                    if (side := math.isqrt(size // channels)) ** 2 * channels == size
                ),
                (0, 0),
            )
            if not side:
                raise DataError(f"{name}: expected as many numbers in a row as a square image has, found {size}")
            parts.append(((side, side, channels), labels))
    return parts


def _shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) not in {3, 4} or shape[3:] not in {(), (1,), (3,)}:
        raise DataError(f"expected images (n, height, width) or (n, height, width, 3), found {shape}")
    return shape[1], shape[2], shape[3] if len(shape) == 4 else 1

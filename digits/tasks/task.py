"""A task: what is recognised in which pictures, declared in one TOML file.

    task = find("digits")               # a built-in task
    task = find("/home/me/flowers.toml")
    find(task.text()) == task           # the text in which a task travels with a run

    name = "flowers"
    labels = ["daisy", "rose", "tulip"]

    [image]
    height = 32
    width = 32
    channels = 3                        # 1: grey, 3: red, green, blue
    reading = "photo"                   # pen: the ink of a drawing, as MNIST's digits; photo: scaled and centred
    drawn = false                       # whether the page has a canvas to draw on

    [data]
    format = "folder"                   # folder: a sub-folder per class; or idx, npz, csv
    place = "pictures"                  # a path relative to this file, https://…, or s3://…
    test_share = 0.15                   # held out for the test, if the data set has no test part
    mirrors = []                        # web addresses of folders with the files, if there is no place
    files = { }                         # {name: {sha256 = "…", bytes = …}}: what the files must be

    [training]
    preset = "fast"
    model = "default"                   # the network: the preset's, or baseline
    epochs = 0                          # 0: the preset's number
    augmentation = "photo"              # pen, photo or none
    min_accuracy = 0.5                  # on the test set, for a promotion

`labels`, and the height and width of `image`, are necessary. This module imports no NumPy.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import stat
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from digits.errors import UsageError
from digits.files import folder_from_url, real_path, user_path
from digits.tasks.table import Table

BUILT_IN = "digits"  # the default task
FOLDER = Path(__file__).parent
# Bytes of a task file, and of a task's text, which is a variable of a step's environment: Linux allows 128 KiB.
MAX_FILE, MAX_TEXT = 64 << 10, 96 << 10
MIN_SIDE, MAX_SIDE = 8, 96  # pixels of an image
MAX_LABELS, MAX_LABEL = 200, 60  # labels, and characters of one
READINGS = ("pen", "photo")
FORMATS = ("folder", "idx", "npz", "csv")
MAX_EPOCHS = 1000
AUGMENTATIONS = ("pen", "photo", "none")
OF_RUN = ("preset", "model", "epochs", "min_accuracy")  # which are also parameters of a run
# Part of Kubernetes names, to which KServe appends up to 20 characters, and of keys in the store.
# `models/detect-NAME/` in the store and the Service NAME-predictor in a namespace belong to the task NAME. Its data set
# has its name, and mnist and sklearn-digits are data sets of the task digits.
_NAME = re.compile(r"(?!detect-|.*-predictor$|(minio|web|mnist|sklearn-digits)$)[a-z]([-a-z0-9]{0,38}[a-z0-9])?")
NAME_FORM = (
    "lower-case letters, digits and hyphens, at most 40, a letter first; not detect-…, …-predictor, minio, web, mnist "
    "or sklearn-digits"
)
_FILE = re.compile(r"\w[-\w.+ ]{0,99}")


@dataclass(frozen=True)
class DataFile:
    """The expected size and digest of a file of a data set, decompressed."""

    sha256: str  # hex
    bytes: int


@dataclass(frozen=True)
class Source:
    """The place and the form of a task's data set."""

    format: str = "folder"
    place: str = ""  # absolute folder or file, URL, or s3:// address; '': DIGITS_DATA, the cache or a mirror
    test_share: float = 0.15
    mirrors: tuple[str, ...] = ()
    files: Mapping[str, DataFile] = field(default_factory=dict)

    @property
    def is_remote(self) -> bool:
        """Return whether the place means the same from another machine."""
        return urlsplit(self.place).scheme not in {"", "file"}


@dataclass(frozen=True)
class Task:
    """A task. The shape of its images is (height, width), or (height, width, 3) in colour."""

    name: str
    labels: tuple[str, ...]
    height: int  # pixels
    width: int
    channels: int
    reading: str
    drawn: bool
    data: Source
    preset: str = "fast"
    model: str = "default"
    epochs: int = 0
    augmentation: str = "none"
    min_accuracy: float = 0.5

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one image in a data set: (height, width), in colour (height, width, 3)."""
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return the shape of one image as the model's input: (height, width, channels)."""
        return self.height, self.width, self.channels

    @property
    def is_number(self) -> bool:
        """Return whether the classes are the ten digits, so that several of them side by side are a number."""
        return self.reading == "pen" and self.labels == tuple("0123456789")

    @property
    def is_built_in(self) -> bool:
        """Return whether the package has a task of this name with the same content."""
        return self.name in built_in_names() and self == find(self.name)

    def text(self) -> str:
        """Return the task as one line of JSON, without default values. `find` rebuilds the task from it."""
        image = {key: getattr(self, key) for key in ("height", "width", "channels", "reading", "drawn")}
        data = {key: entry for key, entry in dataclasses.asdict(self.data).items() if entry != getattr(Source(), key)}
        value = {"name": self.name, "labels": self.labels, "image": image, "data": data}
        training = {key: getattr(self, key) for key in OF_RUN if getattr(self, key) != getattr(Task, key)}
        value["training"] = training | {"augmentation": self.augmentation}
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    def without_run(self) -> Self:
        """Return the task without what a run has as parameters of its own: preset, network, epochs, least accuracy."""
        return dataclasses.replace(self, **{key: getattr(Task, key) for key in OF_RUN})

    def of_model(self) -> Self:
        """Return the task with only what determines a model: neither its data nor the parameters of its run."""
        return dataclasses.replace(self.without_run(), data=Source())

    def with_place(self, place: str) -> Self:
        """Return the task with another place of its data."""
        return dataclasses.replace(self, data=dataclasses.replace(self.data, place=place))


@functools.cache
def built_in_names() -> tuple[str, ...]:
    """Return the names of the tasks that the package has, the default first."""
    names = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return (BUILT_IN, *(name for name in names if name != BUILT_IN))


def find(task: str) -> Task:
    """Return a task by the name of a built-in one, the path of a task file, or the text that `Task.text` returned.

    Raises:
        UsageError: there is no such task, or its declaration is wrong; names the file, the key, what was expected and
            what came.
    """
    if task in built_in_names() or task.startswith("{"):
        return _find_unchanging(task)
    path = user_path(task)
    try:
        return _parse(path.absolute())
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise UsageError(
            f"expected a task of {', '.join(built_in_names())}, or a task file, got {task!r}",
            remedy="digits new NAME FOLDER writes a task file for a folder of pictures",
        ) from exc


@functools.lru_cache(64)  # bounded, because the text may be an endpoint's
def _find_unchanging(task: str) -> Task:
    """Return the task of a built-in name or of a text."""
    if not task.startswith("{"):
        return _parse(FOLDER / f"{task}.toml")
    if (size := len(task.encode(errors="replace"))) > MAX_TEXT:
        raise UsageError(f"the task's text: expected at most {MAX_TEXT} bytes, got {size}")
    try:
        return _build(json.loads(task), "the task's text")
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"the task's text: expected JSON: {exc}") from exc


def _parse(path: Path) -> Task:
    """Return the task of a file. Raises UsageError, or FileNotFoundError or NotADirectoryError if there is none."""
    try:
        if not stat.S_ISREG((status := path.stat()).st_mode):  # it is read several times
            raise UsageError(f"{path}: expected a task file, got a folder, pipe or device")
        if status.st_size > MAX_FILE:
            raise UsageError(f"{path}: expected a task file of at most {MAX_FILE} bytes, got {status.st_size}")
        value = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # editors of Windows write a byte order mark
    except (FileNotFoundError, NotADirectoryError):
        raise
    except (OSError, ValueError, RecursionError) as exc:
        raise UsageError(
            f"{path}: expected a readable TOML file: {exc}", remedy="docs/your-images.md shows one"
        ) from exc
    task = _build(value, str(path))
    if task.name == BUILT_IN and path.parent != FOLDER:
        raise UsageError(
            f"{path}: name: expected another name than {BUILT_IN}, which is the built-in task's",
            remedy="choose another name",
        )
    if task.data.place and not task.data.is_remote:
        return task.with_place(str(real_path(path.parent / folder_from_url(task.data.place, f"{path}: data.place"))))
    return task


def _build(value: Any, where: str) -> Task:
    """Return the task of a parsed file. Raises UsageError."""
    top = Table(value, where, "")
    image = Table(top.take("image", dict), where, "image.")
    data = Table(top.take("data", dict, {}), where, "data.")
    training = Table(top.take("training", dict, {}), where, "training.")
    reading = image.choice("reading", READINGS, "photo")
    task = Task(
        name=top.matching("name", _NAME, NAME_FORM),
        labels=_labels(top),
        height=image.number("height", MIN_SIDE, MAX_SIDE),
        width=image.number("width", MIN_SIDE, MAX_SIDE),
        channels=image.choice("channels", (1, 3), 1),
        reading=reading,
        drawn=image.take("drawn", bool, reading == "pen"),
        data=_source(data),
        preset=training.take("preset", str, Task.preset),
        model=training.take("model", str, Task.model),
        epochs=training.number("epochs", 0, MAX_EPOCHS, Task.epochs),
        augmentation=training.choice("augmentation", AUGMENTATIONS, reading),
        min_accuracy=training.take("min_accuracy", float, Task.min_accuracy),
    )
    if task.channels != 1 and task.reading == "pen":
        raise image.error("channels", "1, because the reading is pen", task.channels)
    if task.drawn and task.reading != "pen":
        raise image.error("drawn", "false, because the reading is photo", task.drawn)
    if not 0 <= task.min_accuracy <= 1:
        raise training.error("min_accuracy", "a number from 0 to 1", task.min_accuracy)
    for table in (top, image, data, training):
        table.finish()
    return task


def _labels(top: Table) -> tuple[str, ...]:
    labels = top.take("labels", list)
    texts = all(isinstance(label, str) and label.isprintable() and label.strip() == label for label in labels)
    if not texts or not all(0 < len(label) <= MAX_LABEL for label in labels):
        raise top.error("labels", f"texts of 1 to {MAX_LABEL} printable characters", labels)
    labels = [unicodedata.normalize("NFC", label) for label in labels]  # as the names of folders are read
    if not 2 <= len(set(labels)) == len(labels) <= MAX_LABELS:
        raise top.error("labels", f"2 to {MAX_LABELS} different labels", labels)
    return tuple(labels)


def _source(data: Table) -> Source:
    files = {}
    for name, entry in data.take("files", dict, {}).items():
        if not _FILE.fullmatch(name):  # the file is cached under this name
            raise data.error("files", "names of files, without folders", name)
        table = Table(entry, data.where, f"data.files.{name}.")
        digest = table.matching("sha256", re.compile("[0-9a-f]{64}"), "64 hexadecimal digits")
        files[name] = DataFile(digest, table.number("bytes", 1, 1 << 40))
        table.finish()
    mirrors = data.take("mirrors", list, [])
    if not all(isinstance(mirror, str) and _scheme(mirror) in {"http", "https"} for mirror in mirrors):
        raise data.error("mirrors", "web addresses", mirrors)
    place = data.take("place", str, "")
    if (scheme := _scheme(place)) == "?" or (scheme not in {"", "file"} and "://" not in place):
        raise data.error("place", "a path (./a:b for a name with a colon), https://… or s3://…", place)
    share = data.take("test_share", float, Source.test_share)
    if not 0 < share <= 0.5:
        raise data.error("test_share", "a number above 0, at most 0.5", share)
    form = data.choice("format", FORMATS, Source.format)
    return Source(form, place, share, tuple(mirrors), files)


def _scheme(address: str) -> str:
    """Return the scheme of an address, '' of a path, and '?' of what can be neither."""
    try:
        address.encode()
        return "?" if "\0" in address else urlsplit(address).scheme
    except ValueError:
        return "?"

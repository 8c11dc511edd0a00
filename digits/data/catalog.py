"""The catalogue of data sets: names, files with their digests, and mirrors. It imports no NumPy."""

from __future__ import annotations

from dataclasses import dataclass

from digits.errors import UsageError
from digits.files import canonical_json, sha256_of

FALLBACK = "sklearn-digits"
AUTO = "auto"


@dataclass(frozen=True)
class Source:
    """A data set of four IDX files in MNIST's form."""

    files: dict[str, tuple[str, int]]  # {file name: (hex SHA-256, bytes) of the decompressed content}
    mirrors: tuple[str, ...]  # URLs of folders with the files, compressed as `NAME.gz`
    digits: bool = True  # handwritten digits, to which training adds those of `digits.training.pen_styles`

    def digest(self) -> str:
        """Return the hex SHA-256 over the names and digests of the files."""
        return sha256_of(canonical_json({name: sha for name, (sha, _) in self.files.items()}))


TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

# To add a data set of this form, such as Fashion-MNIST, add an entry here. Its name is then a value of --dataset.
SOURCES = {
    "mnist": Source(
        files={
            TRAIN_IMAGES: ("ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47040016),
            TRAIN_LABELS: ("65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60008),
            TEST_IMAGES: ("0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7840016),
            TEST_LABELS: ("ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10008),
        },
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
}


def are_digits(name: str) -> bool:
    """Return whether the images of a fetched data set are handwritten digits."""
    return name == FALLBACK or SOURCES[name].digits


def names() -> tuple[str, ...]:
    """Return the values of --dataset."""
    return (AUTO, *SOURCES, FALLBACK)


def check_name(name: str) -> None:
    """Raise UsageError, which lists the valid names, if `name` is not a value of --dataset."""
    if name not in names():
        raise UsageError(f"expected a data set of {', '.join(names())}, got {name!r}")

"""The values of --dataset. It imports no NumPy."""

from __future__ import annotations

from digits.errors import UsageError
from digits.files import canonical_json, sha256_of
from digits.tasks.task import BUILT_IN, Source, find

AUTO, MNIST, FALLBACK = "auto", "mnist", "sklearn-digits"


def names() -> tuple[str, ...]:
    """Return the values of --dataset for the task digits. Another task has only AUTO, its own data set."""
    return (AUTO, MNIST, FALLBACK)


def check_name(name: str) -> None:
    """Raise UsageError, which lists the valid names, if `name` is not a value of --dataset."""
    if name not in names():
        raise UsageError(f"expected a data set of {', '.join(names())}, got {name!r}")


def published_digest(source: Source) -> str:
    """Return the hex SHA-256 over the names and digests of the files that a task declares; '' if it declares none."""
    return sha256_of(canonical_json({name: file.sha256 for name, file in source.files.items()})) if source.files else ""


def are_digits(name: str) -> bool:
    """Return whether the images of a fetched data set are handwritten digits, to which training adds pen styles."""
    return name in {MNIST, FALLBACK}


def is_published(name: str, digest: str) -> bool:
    """Return whether the source of a data set has its published digest. There is one for MNIST alone."""
    return name != MNIST or digest == published_digest(find(BUILT_IN).data)

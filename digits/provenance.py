"""Which code made something: the digest of our own sources and the versions of the libraries that matter."""

from __future__ import annotations

import datetime
import functools
import hashlib
import importlib.metadata
import platform
from pathlib import Path

LIBRARIES = ("numpy", "tensorflow", "keras", "onnxruntime", "tf2onnx", "mlflow", "kfp")


@functools.cache
def digest(*, serving: bool = False) -> str:
    """Hex SHA-256 over the sources that decide a step's outputs: `digits` without the command line and the server.

    It is part of every step's cache key, so that changed code is never answered from the cache. With `serving` the
    server's sources count too.
    """
    left_out = ("cli/",) if serving else ("cli/", "serving/")
    root = Path(__file__).parent
    hashed = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix in {".py", ".html"} and not name.startswith(left_out):
            hashed.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return hashed.hexdigest()


def timestamp() -> str:
    """Return the time in UTC, in ISO 8601 with milliseconds, as manifests and the ledger record it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def versions() -> dict[str, str]:
    """{library: version} of what is installed of LIBRARIES, and Python's own."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found

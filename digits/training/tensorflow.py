"""TensorFlow and Keras, configured for this machine: import `tf`, `keras` and `layers` from here.

The import takes seconds. It sets the environment variables below if they are not set, and writes nothing to standard
error unless it fails; it changes nothing else in the process.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["keras", "layers", "quiet", "tf"]


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back what TensorFlow's C++ code writes to standard error; write it only if the block fails.

    TensorFlow's own log level has no effect on its first lines, which contain nothing a user can act on.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with tempfile.TemporaryFile() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield
        except BaseException:
            buffer.seek(0)
            os.write(original, buffer.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)


@contextmanager
def _without(names: list[str]) -> Iterator[None]:
    """Make imports of the packages `names` fail in this block, as if they were not installed."""
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type] # None is Python's own mark for it
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]


def _has_avx2() -> bool:
    """Return whether this processor has AVX2, according to Linux; False on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and " avx2 " in cpuinfo.read_text(errors="replace")


# TensorFlow reads these when it is imported. oneDNN halves the training time on processors with AVX2, but by default
# TensorFlow uses it only if there is AVX-512 VNNI.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if _has_avx2():
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Keras imports these if they are installed, for plots and wrappers that we do not use. It takes nearly half of its
# import time.
_UNUSED = [name for name in ("matplotlib", "pandas", "scipy", "sklearn") if name not in sys.modules]

with quiet(), _without(_UNUSED):
    import keras
    import tensorflow as tf
    from keras import layers

    # The search for GPUs is done here because it writes to standard error. By default a GPU adds in any order, so that
    # the same seed gives different weights; a fixed order costs no time here (docs/performance.md).
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()

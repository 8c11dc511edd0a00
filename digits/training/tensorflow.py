"""TensorFlow and Keras, configured for this machine: import `tf`, `keras` and `layers` from here.

The import takes seconds. It sets the environment variables below and changes nothing else in the process, so that the
settings of the user's other projects have no effect. It writes to standard error only if it fails.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from digits.imports import without

__all__ = ["keras", "layers", "quiet", "tf"]


@contextmanager
def quiet() -> Iterator[None]:
    """Buffer the standard error output of TensorFlow's C++ code, and write it only if the block fails.

    TensorFlow's log level does not apply to its first lines, which contain nothing that a user can act on.
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


def _has_avx2() -> bool:
    """Return whether this processor has AVX2, according to Linux; False on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and " avx2 " in cpuinfo.read_text(errors="replace")


# TensorFlow reads these when it is imported. oneDNN halves the training time on processors with AVX2, but by default
# TensorFlow uses it only if there is AVX-512 VNNI.
for _name in [name for name in os.environ if name.startswith("KERAS_")]:
    del os.environ[_name]
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if _has_avx2():
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"

# Keras imports these packages for plots and wrappers that we do not use. They take nearly half of its import time.
with quiet(), without("matplotlib", "pandas", "scipy", "sklearn"), tempfile.TemporaryDirectory() as _folder:
    os.environ["KERAS_HOME"] = _folder  # instead of ~/.keras, whose keras.json holds another float type, for example
    import keras
    import tensorflow as tf
    from keras import layers

    # GPUs are searched here because that writes to standard error. By default a GPU adds numbers in any order, so that
    # the same seed gives different weights; a fixed order takes no more time for our networks (docs/performance.md).
    if tf.config.list_physical_devices("GPU"):
        tf.config.experimental.enable_op_determinism()

"""The import of TensorFlow and Keras, in processes of its own."""

import subprocess
import sys

UNUSED = """
import sys, digits.training.tensorflow
assert not {'matplotlib', 'pandas', 'scipy', 'sklearn'} & set(sys.modules), sys.modules.keys()
import sklearn.datasets
"""

QUIET = """
import os, sys
from digits.training.tensorflow import quiet
print(os.environ["KERAS_BACKEND"])
with quiet():
    os.write(2, b"hidden")
os.write(2, b"before ")
try:
    with quiet():
        os.write(2, b"shown ")
        raise OSError
except OSError:
    os.write(2, b"after")
"""


def _run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_unused_packages_are_not_imported():
    """Keras's optional packages are not imported with it, and can be imported afterwards."""
    done = _run(UNUSED)
    assert done.returncode == 0, done.stderr


def test_standard_error_is_quiet():
    """The import writes nothing to standard error, and `quiet` shows the output of a failed block only."""
    done = _run(QUIET)
    assert (done.stdout, done.stderr) == ("tensorflow\n", "before shown after")

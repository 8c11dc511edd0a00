"""The import of TensorFlow and Keras, in processes of its own."""

import json
import os
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


CONFIGURED = """
from digits.training.tensorflow import keras
print(keras.config.backend(), keras.config.floatx(), keras.config.image_data_format(), keras.config.max_epochs())
"""


def _run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_unused_packages_are_not_imported():
    """Keras's optional packages are not imported with it, and can be imported afterwards."""
    done = _run(UNUSED)
    assert done.returncode == 0, done.stderr


def test_standard_error_is_quiet():
    """The import writes nothing to standard error, and `quiet` shows the output of a failed block only."""
    done = _run(QUIET)
    assert (done.stdout, done.stderr) == ("tensorflow\n", "before shown after")


def test_settings_of_other_projects_have_no_effect(tmp_path):
    """Neither ~/.keras/keras.json nor a variable of Keras changes the training, and the file is not written."""
    (tmp_path / ".keras").mkdir()
    other = {"backend": "torch", "floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1}
    (file := tmp_path / ".keras" / "keras.json").write_text(json.dumps(other))
    done = _run(CONFIGURED, HOME=str(tmp_path), KERAS_BACKEND="jax", KERAS_MAX_EPOCHS="1")
    assert (done.stdout, done.stderr) == ("tensorflow float32 channels_last None\n", "")
    assert json.loads(file.read_text()) == other

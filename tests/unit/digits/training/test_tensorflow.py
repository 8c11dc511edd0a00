"""The import of TensorFlow and Keras, in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from digits import events

IMPORT = """
import os, sys
from digits.training.tensorflow import keras, quiet
assert not {'matplotlib', 'pandas', 'scipy', 'sklearn'} & set(sys.modules), sys.modules.keys()
import scipy
print(keras.config.backend(), keras.config.floatx(), keras.config.image_data_format(), keras.config.max_epochs())
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


def test_the_import_is_quiet_and_has_our_settings(tmp_path):
    """The import is quiet, omits Keras's optional packages, and ignores Keras's settings of other projects."""
    (tmp_path / ".keras").mkdir()
    other = {"backend": "torch", "floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1}
    (file := tmp_path / ".keras" / "keras.json").write_text(json.dumps(other))
    variables = {"HOME": str(tmp_path), "KERAS_BACKEND": "jax", "KERAS_MAX_EPOCHS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("tensorflow float32 channels_last None\n", "before shown after")
    assert json.loads(file.read_text()) == other


def test_a_lack_of_memory_in_tensorflow_has_a_remedy(tmp_path, monkeypatch):
    """TensorFlow's error for a tensor that does not fit has exit code 3 and a remedy, as Python's has."""
    from digits.training.tensorflow import tf

    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events"))
    with pytest.raises(tf.errors.ResourceExhaustedError), events.reported("train"):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[60000,28,28]")
    event = events.EventLog(tmp_path / "events").read_new()[-1]
    assert (event["exit_code"], "more memory" in event["remedy"]) == (3, True)

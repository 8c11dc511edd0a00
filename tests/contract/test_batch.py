"""The component of batch prediction as programs that share an output on a MinIO server in Docker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from digits.data.dataset import Dataset
from digits.serving import batch_prediction, batch_steps
from digits.serving.batch_prediction import MANIFEST, predict_batch
from digits.store import ObjectStore, open_store
from tests.helpers.engines import wait_until
from tests.helpers.store_servers import container
from tests.helpers.support import Finished

PICTURES, OUTPUT = "s3://pictures/test/images.npz", "s3://answers/test"
PART = 20  # pictures
SECONDS = 300
COMPONENT = f"""
import sys, time
from digits.serving import batch_prediction
from pipeline import batch_definition

batch_prediction.MAX_PICTURES = {PART}
encode = batch_prediction._encode
batch_prediction._encode = lambda *arguments: time.sleep(float(sys.argv[1])) or encode(*arguments)
batch_definition.predict_part.python_func({PICTURES!r}, {OUTPUT!r}, sys.argv[2], "digits")
"""


def contents(store: ObjectStore) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.keys("") if not key.startswith("probes/")}


@pytest.mark.docker
def test_a_pod_that_was_killed_half_way_is_repeated(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two shares at the same time, one of them killed and repeated, end with the bytes of `digits batch`."""
    monkeypatch.setattr(batch_prediction, "MAX_PICTURES", PART)
    np.savez(tmp_path / "images.npz", images=Dataset.load(finished.folder / "test.npz").images)
    one = tmp_path / "one"
    with batch_steps.opened(finished.settings, finished.store, str(tmp_path / "images.npz"), str(one), "") as (
        model,
        batch,
        store,
    ):
        predict_batch(model, batch, store)
    with container(tmp_path / "minio") as settings:
        for key, content in contents(finished.store).items():
            open_store(settings).put(key, content)
        open_store(settings, "s3://pictures/test").put("images.npz", tmp_path / "images.npz")
        output = open_store(settings, OUTPUT)
        for name, value in settings.environ().items():
            monkeypatch.setenv(name, value)
        batch_steps.plan(PICTURES, OUTPUT, "", "digits")

        def start(share: str, seconds: float) -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", COMPONENT, str(seconds), share], env=os.environ)

        started = [killed := start("1/2", 0.5), other := start("2/2", 0)]
        try:
            assert wait_until(lambda: output.exists("part-00000.parquet"), SECONDS)
            killed.kill()
            assert killed.wait(10) != 0
            before = [key for key in output.keys("") if key.startswith("part")]
            assert other.wait(SECONDS) == 0
            started.append(again := start("1/2", 0))
            assert again.wait(SECONDS) == 0
        finally:
            for process in started:
                process.kill()
                process.wait(10)
        assert not output.exists(MANIFEST)
        batch_steps.finish(PICTURES, OUTPUT, "digits")
        assert 1 <= len(before) < len([path for path in one.iterdir() if path.suffix == ".parquet"])
        assert contents(output) == {path.name: path.read_bytes() for path in one.iterdir()}

"""The steps of the pipeline `digits-batch`, called as plain functions."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from digits import events
from digits.data.dataset import Dataset
from digits.errors import DataError, MissingError, UsageError
from digits.serving import batch_prediction, batch_steps
from digits.serving.batch_prediction import MANIFEST, predict_batch
from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.support import ROOT, Finished, another_release


@pytest.fixture
def places(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """Pictures for three parts and an output, for steps that use a finished run's releases."""
    for name, value in finished.settings.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(events.VARIABLE, str(tmp_path / "events.jsonl"))
    monkeypatch.setattr(batch_prediction, "MAX_PICTURES", 40)
    np.savez(tmp_path / "images.npz", images=Dataset.load(finished.folder / "test.npz").images[:100])
    return str(tmp_path / "images.npz"), (tmp_path / "out").as_uri()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_steps_write_what_one_program_writes(finished: Finished, places: tuple[str, str], tmp_path: Path) -> None:
    """Plan, two shares and the end give the bytes of `digits batch`, and the manifest is the run's outputs."""
    batch_steps.plan(*places, "", "digits")
    for share in ("2/2", "1/2"):
        batch_steps.predict(*places, share, "digits")
    assert not (tmp_path / "out" / MANIFEST).exists()
    batch_steps.finish(*places, "digits")
    settings = finished.settings
    with batch_steps.opened(settings, finished.store, places[0], str(tmp_path / "one"), "") as (model, batch, store):
        manifest = predict_batch(model, batch, store)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    emitted = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [event["outputs"] for event in emitted if event["event"] == "outputs"] == [manifest]
    assert [event["text"] for event in emitted if event["event"] == "progress"][1:3] == [
        "40 of 40 pictures",
        "40 of 60 pictures",
    ]


def test_all_steps_use_the_release_of_the_plan(
    finished: Finished, places: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A promotion between the steps changes nothing."""
    from digits.release import ledger

    settings = finished.copy(tmp_path / "home")
    monkeypatch.setenv("DIGITS_HOME", str(settings.home))
    monkeypatch.setenv("DIGITS_STORE", settings.store)
    batch_steps.plan(*places, "", "digits")
    store = FileStore(settings.home / "store")
    ledger.promote(store, another_release(store, finished.version, seed=7)["version"], "a test")
    batch_steps.finish(*places, "digits")
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["release"] == finished.version


def test_shares_of_another_form_are_refused(places: tuple[str, str]) -> None:
    """A share is i/n."""
    for share in ("", "1", "0/2", "3/2", "a/b"):
        with pytest.raises(UsageError, match="shares"):
            batch_steps.predict(*places, share, "digits")


def test_without_a_plan_there_is_no_release(places: tuple[str, str]) -> None:
    """A share without the plan is an error, not an answer of whatever release is the champion."""
    with pytest.raises(DataError, match="plan-batch"):
        batch_steps.predict(*places, "1/2", "digits")


def test_a_store_is_no_output_for_its_own_pictures(tmp_path: Path) -> None:
    """Answers among the pictures would be pictures for the next run; a similar name is another place."""
    settings, store = Settings(home=tmp_path), FileStore(tmp_path)
    opened = batch_steps.opened(settings, store, "s3://b/in/", "s3://b/in/out", "")
    with pytest.raises(UsageError, match="outside of"), opened:
        pass
    for pictures, output in ((tmp_path.as_uri(), f"{tmp_path}/out"), (str(tmp_path), f"{tmp_path.as_uri()}/out")):
        opened = batch_steps.opened(settings, store, pictures, output, "")
        with pytest.raises(UsageError, match="outside of"), opened:
            pass
    opened = batch_steps.opened(settings, store, "s3://b/in", "s3://b/in-out", "")
    with pytest.raises(MissingError, match="champion"), opened:
        pass


def test_the_steps_need_no_package_of_the_predictor() -> None:
    """The image of the steps, where these run on Kubeflow, has no packages of the extra `serve` alone."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {re.split("[>=]", each)[0] for each in extras[extra]} for extra in ("train", "serve")}
    blocked = sorted(names["serve"] - names["train"])
    program = f"import sys; sys.modules.update(dict.fromkeys({blocked})); import digits.serving.batch_steps"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "orjson" in blocked
    assert done.returncode == 0, done.stderr

"""A training as a folder."""

import dataclasses

import pytest

from digits.errors import DataError
from digits.results import PreparedData
from digits.training.job import Job
from digits.training.recipe import TrainingConfig

PREPARED = PreparedData("1", "2", "3", 0, True, "digits")


def test_a_job_is_read_as_it_was_saved(tmp_path):
    """Another process gets the same job from the folder, and the same key."""
    job = Job(tmp_path, TrainingConfig(seed=5), PREPARED, "code")
    job.save()
    assert Job.load(tmp_path) == job
    assert Job.load(tmp_path).key == job.key


@pytest.mark.parametrize(
    "change",
    [
        {"config": TrainingConfig(seed=1)},
        {"config": TrainingConfig(shards=8)},
        {"prepared": dataclasses.replace(PREPARED, train="4")},
        {"code": "other"},
    ],
    ids=str,
)
def test_another_input_gives_another_key(tmp_path, change):
    """A checkpoint is found under the key, so the key changes with everything that changes the result."""
    job = Job(tmp_path, TrainingConfig(), PREPARED, "code")
    assert dataclasses.replace(job, **change).key != job.key


@pytest.mark.parametrize("content", [None, "", "[]", '{"config": {"seed": "x"}}', '{"config": {}, "prepared": {}}'])
def test_a_damaged_job_is_refused(tmp_path, content):
    """A folder without a whole job is named."""
    if content is not None:
        (tmp_path / "job.json").write_text(content)
    with pytest.raises(DataError, match=tmp_path.name):
        Job.load(tmp_path)
    with pytest.raises(DataError, match="output"):
        Job(tmp_path, TrainingConfig(), PREPARED, "code").result()

"""Trainers by name, and the workers of this machine."""

import pytest

from digits.errors import DataError, DigitsError, MissingError
from digits.files import write_json
from digits.results import PreparedData
from digits.settings import Settings
from digits.training import trainers
from digits.training.job import Job
from digits.training.recipe import TrainingConfig
from tests.helpers.examples import run_example


@pytest.fixture
def job(tmp_path):
    """Return a job without data sets."""
    return Job(tmp_path, TrainingConfig(shards=8), PreparedData("1", "2", "3", 0, True, "digits"), "code")


def test_the_example_of_the_contract_runs():
    """The example in the docstring of Trainer does what it shows."""
    run_example(trainers.Trainer, vars(trainers))


def test_an_unknown_trainer_is_named_with_those_that_exist():
    """A typo in DIGITS_TRAINER is answered with the names."""
    with pytest.raises(MissingError, match="'lokal'"):
        trainers.find_trainer("lokal")


def test_the_error_of_a_worker_is_the_trainings_error(job):
    """The kind of error and its remedy reach the user from another process."""
    write_json(job.folder / "error.json", {"message": "it changed", "remedy": "run again", "kind": "DataError"})
    with pytest.raises(DataError) as error:
        trainers.raise_error(job)
    assert (error.value.message, error.value.remedy) == ("it changed", "run again")


@pytest.mark.parametrize("content", ['{"kind": "Unavailable", "message": "", "remedy": ""}', "{}", "[]", "damaged"])
def test_what_may_help_next_time_is_tried_again(job, content):
    """A worker that did not reach another one, or that left no error, is started again."""
    (job.folder / "error.json").write_text(content)
    trainers.raise_error(job)


def test_workers_that_keep_ending_are_given_up(job, monkeypatch, settings):
    """After some restarts the training fails, with what happened last."""
    starts = []
    monkeypatch.setattr(trainers.sys, "executable", "/bin/false")
    monkeypatch.setattr(trainers, "_free_ports", lambda count: starts.append(count) or [1] * count)
    with pytest.raises(DigitsError, match="exit code 1"):
        trainers.train_here(Settings(home=settings.home, workers=2), job)
    assert starts == [2] * (1 + trainers.RESTARTS)

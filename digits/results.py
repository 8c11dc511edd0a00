"""The results of the steps: one frozen dataclass each. Some of them are a run's outputs.

KFP passes a result from step to step as a dict of JSON values, from which `read` rebuilds the result:

    data = read(FetchedData, {"dataset": "mnist", "digest": "6a12…", "train_count": 60000.0, …})

All digests are hex SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from digits.files import sha256_of

Json = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class FetchedData:
    """The verified data set: its name, for digits one of `digits.data.catalog`, and its two parts."""

    dataset: str
    digest: str  # of the source's files
    train: str  # digest of the training part
    test: str  # digest of the test part
    train_count: int  # images
    test_count: int  # images
    task: str  # the text of `Task.of_model`


@dataclass(frozen=True)
class CollectedFeedback:
    """The corrected drawings of the object store."""

    digest: str
    count: int
    rejected: int  # damaged records, which are left out


@dataclass(frozen=True)
class PreparedData:
    """The digests of the training, validation and test sets."""

    train: str
    validation: str
    test: str
    feedback_used: int  # corrected drawings in the training set, without repetitions
    are_digits: bool  # whether the images are handwritten digits
    task: str  # as in FetchedData


@dataclass(frozen=True)
class TrainedModel:
    """A trained and exported model."""

    weights: str  # digest of the weights
    files: str  # digest of the exported files
    weight_count: int
    seconds: float  # of training alone
    temperature: float  # by which the logits were divided
    parameters: dict[str, Any]  # the user's, with the preset's values instead of 0
    code: str  # digest of the code that trained it
    libraries: dict[str, str]  # versions


@dataclass(frozen=True)
class PublishedRelease:
    """A release in the object store, and the gate's decision on it."""

    version: str
    digest: str
    uri: str
    accuracy: float
    promoted: bool
    why: str  # the reason for the decision
    champion: str  # version of the champion after the decision, '' if there is none
    mlflow_run: str


@dataclass(frozen=True)
class DeployedRelease:
    """The endpoint and the release that it serves; both '' if no release has passed the gate yet."""

    endpoint: str
    version: str


@dataclass(frozen=True)
class RunOutputs:
    """The outputs of a run, apart from its report."""

    data: FetchedData
    feedback: CollectedFeedback
    trained: TrainedModel
    published: PublishedRelease
    deployed: DeployedRelease


@dataclass(frozen=True)
class Lineage:
    """The results of the steps that lead to a trained model."""

    data: FetchedData
    feedback: CollectedFeedback
    prepared: PreparedData
    trained: TrainedModel

    @classmethod
    def read(cls, data: Json, feedback: Json, prepared: Json, trained: Json) -> Lineage:
        """Rebuild the lineage from the dicts that KFP passes."""
        return cls(
            read(FetchedData, data),
            read(CollectedFeedback, feedback),
            read(PreparedData, prepared),
            read(TrainedModel, trained),
        )

    def describe(self) -> Json:
        """Return what a release's manifest and its report state about the run, as JSON values."""
        return {
            "task": self.data.task,
            "parameters": self.trained.parameters,
            "data": {
                "dataset": self.data.dataset,
                "source": self.data.digest,
                "feedback": self.feedback.digest,
                "feedback_count": self.feedback.count,
                "feedback_rejected": self.feedback.rejected,
                "feedback_used": self.prepared.feedback_used,
                "train": self.prepared.train,
                "validation": self.prepared.validation,
                "test": self.prepared.test,
                "task": sha256_of(self.data.task.encode()),
            },
            "weights": self.trained.weights,
            "training_seconds": self.trained.seconds,
            "temperature": self.trained.temperature,
            "parameter_count": self.trained.weight_count,
            "code": self.trained.code,
            "libraries": self.trained.libraries,
        }


def read(kind: type[Result], value: Json) -> Result:
    """Rebuild a step's result from the dict that KFP passes."""
    return kind(**normalize_numbers(value))


def normalize_numbers(value: Any) -> Any:
    """Turn each integral float in `value` into an int.

    KFP passes every number in a dict as a double, and digests are computed over the JSON text.
    """
    if isinstance(value, dict):
        return {key: normalize_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [normalize_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value

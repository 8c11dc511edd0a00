"""A training as a folder, which any process or machine can work on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from digits import provenance, results
from digits.errors import DataError
from digits.files import canonical_json, parse_json, sha256_of, write_json
from digits.training.recipe import TrainingConfig


@dataclass(frozen=True)
class Job:
    """A training whose files are in `folder`.

    The folder holds `job.json`, which `save` writes, and the data sets `train_set` and `validation_set`. The training
    writes the folder `output`: `model/`, `history.json` and `trained.json`, the fields of TrainedModel.
    """

    folder: Path
    config: TrainingConfig
    prepared: results.PreparedData
    code: str  # digest of the code of the step

    @property
    def key(self) -> str:
        """Return the hex SHA-256 over all that determines the training's result on one kind of machine."""
        return sha256_of(canonical_json({**self._fields(), "libraries": provenance.library_versions()}))

    @property
    def output(self) -> Path:
        """Return the folder of the results."""
        return self.folder / "output"

    def save(self) -> None:
        """Write `job.json`."""
        write_json(self.folder / "job.json", self._fields())

    def result(self) -> results.TrainedModel:
        """Return the result of a training that has ended. Raises DataError if there is none."""
        try:
            value = parse_json((self.output / "trained.json").read_bytes())
            return results.read(results.TrainedModel, value)
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            raise DataError(f"the training left no result in {self.output}: {exc}") from exc

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Read the job in a folder. Raises DataError if `job.json` is missing or invalid."""
        try:
            fields = parse_json((folder / "job.json").read_bytes())
            config, prepared = TrainingConfig(**fields["config"]), results.PreparedData(**fields["prepared"])
            return cls(folder, config, prepared, fields["code"])
        except (OSError, ValueError, TypeError, LookupError) as exc:
            raise DataError(f"cannot read the training job in {folder}: {exc}") from exc

    def _fields(self) -> results.Json:
        return {"config": asdict(self.config), "prepared": asdict(self.prepared), "code": self.code}

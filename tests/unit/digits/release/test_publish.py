"""Publishing that is interrupted and repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits.release import ledger, verify
from digits.release.publish import publish_candidate
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.support import Finished

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's, about its own libraries


@pytest.mark.parametrize("at", ["_log", "mlflow_registry.register", "_gate"])
def test_an_interrupted_publication_is_completed_by_the_next(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """An interrupted publication promotes nothing that MLflow lacks, and repeating it completes every record."""
    settings = Settings(home=tmp_path / "home")
    store = open_store(settings)
    candidate = finished.candidate()
    with monkeypatch.context() as interruption:
        interruption.setattr(f"digits.release.publish.{at}", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            publish_candidate(settings, store, candidate, "digits-tests")
    assert ledger.champion(store) == ""
    published, report = publish_candidate(settings, store, candidate, "digits-tests")
    assert published.version == finished.version == ledger.champion(store)
    assert "experiment digits-tests" in report
    checks = {check.name: check.passed for check in verify.verify(settings, store, finished.version)}
    assert checks == dict.fromkeys(["release", "data", "identity", "files", "run", "ledger"], True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt

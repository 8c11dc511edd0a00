"""Publishing, cut off in the middle and done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits.release import ledger, publish, verify
from digits.settings import Settings
from digits.store import open_store
from tests.helpers.support import Finished

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's, of the libraries below it


@pytest.mark.parametrize("at", ["_log", "mlflow_registry.register", "_gate"])
def test_a_cut_off_publication_is_made_good(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """A publication that is cut off promotes nothing that MLflow does not know; the next completes the chain."""
    settings = Settings(home=tmp_path / "home")
    store = open_store(settings)

    def publish_once() -> None:
        publish.publish(
            settings,
            store,
            inputs={
                "model": finished.folder / "model",
                "test": finished.folder / "test.npz",
                "history": finished.folder / "history.json",
                "evaluation": finished.folder / "evaluation.json",
            },
            digests={
                "test": finished.facts["prepared"]["test"],
                "weights": finished.facts["trained"]["weights"],
            },
            experiment="digits-tests",
            min_accuracy=0.3,
            report_path=tmp_path / "report.html",
        )

    with monkeypatch.context() as cut:
        cut.setattr(f"digits.release.publish.{at}", _killed)
        with pytest.raises(KeyboardInterrupt):
            publish_once()
    assert ledger.champion(store) == ""
    publish_once()
    assert "experiment digits-tests" in (tmp_path / "report.html").read_text()
    hops = {check.name: check.passed for check in verify.verify(settings, store, finished.version)}
    assert hops == dict.fromkeys(["release", "data", "identity", "files", "run", "ledger"], True)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt

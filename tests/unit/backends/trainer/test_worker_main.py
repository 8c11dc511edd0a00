"""The program of a worker's pod."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from backends.trainer import worker_main
from backends.trainer.transfer import get_folder, put_folder
from digits.settings import Settings
from digits.store import ObjectStore, open_store

WORK = """
import json, os, pathlib, select, sys
cluster, folder = json.loads(os.environ["TF_CONFIG"]), pathlib.Path(sys.argv[1])
assert (folder / "job.json").read_text() == "{}"
assert not select.select([0], [], [], 0)[0]  # a worker ends when its standard input does
if sys.argv[2] == "error":
    (folder / "error.json").write_text("{}")
    sys.exit(2)
if sys.argv[2] == "endless":
    select.select([0], [], [], 60)
(folder / "output").mkdir()
(folder / "output/trained.json").write_text(json.dumps(cluster["cluster"]["worker"]))
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ObjectStore, str]:
    """Return the store of a training, and the digest of its inputs."""
    monkeypatch.setenv("DIGITS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(worker_main, "MESSAGE", tmp_path / "message")
    (tmp_path / "job").mkdir()
    (tmp_path / "job/job.json").write_text("{}")
    store = open_store(Settings.load())
    return store, put_folder(store, "t/job", tmp_path / "job")


def work(monkeypatch: pytest.MonkeyPatch, digest: str, *, rank: int, outcome: str) -> int:
    """Run the program of a pod with a worker that ends as `outcome` says: an exit code, or "error"."""
    monkeypatch.setenv("JOB_COMPLETION_INDEX", str(rank))
    monkeypatch.setattr(worker_main, "python", lambda *args: [sys.executable, "-c", WORK, args[-1], outcome])
    monkeypatch.setattr(worker_main, "PERIOD", 0.1)
    return worker_main.main("t", digest, "a:1", "b:1")


def test_worker_0_stores_the_result(
    run: tuple[ObjectStore, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The result is in the store, and its digest is the termination message."""
    store, digest = run
    assert work(monkeypatch, digest, rank=0, outcome="0") == 0
    get_folder(store, "t/output", (tmp_path / "message").read_text(), tmp_path / "result")
    assert (tmp_path / "result/trained.json").read_text() == '["a:1", "b:1"]'


@pytest.mark.parametrize(("rank", "outcome", "code"), [(1, "0", 0), (0, "1", 1), (0, "error", 64)])
def test_other_workers_store_nothing(
    run: tuple[ObjectStore, str], monkeypatch: pytest.MonkeyPatch, rank: int, outcome: str, code: int
) -> None:
    """A worker that failed, and all but the first, store no result; an error of ours is stored."""
    store, digest = run
    assert work(monkeypatch, digest, rank=rank, outcome=outcome) == code
    expected = ["t/error.json"] if outcome == "error" else []
    assert [key for key in store.keys("t/") if not key.startswith("t/job")] == expected


@pytest.mark.parametrize("outcome", ["endless", "1"])
def test_a_worker_ends_with_its_step(
    run: tuple[ObjectStore, str], monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    """A worker whose step is not heard any more ends for good, also if another worker's end broke it before."""
    monkeypatch.setattr(worker_main, "SILENCE", 0)
    assert work(monkeypatch, run[1], rank=0, outcome=outcome) == worker_main.FAILED

"""`digits acceptance`: options, output and exit codes."""

from __future__ import annotations

import os
from pathlib import Path

from digits.settings import Settings
from tests.helpers.acceptance_cluster import NAMESPACE, ClusterApi
from tests.helpers.command import Digits
from tests.helpers.kubernetes_api import kubernetes_api, write_kubeconfig


def test_a_probe_that_is_not_known_is_named(digits: Digits) -> None:
    """`--only` accepts the names that `--list` prints, and no other; a folder with files is not overwritten."""
    listed = digits("acceptance", "--list").out
    assert all(name in listed for name in ("s3", "kfp", "kserve", "mlflow", "trainer", "gpu", "security", "policy"))
    result = digits("acceptance", "--only", "s3,nothing")
    assert (result.code, "nothing" in result.err) == (2, True)


def test_a_folder_that_cannot_take_the_results_is_refused_before_the_probes(digits: Digits, tmp_path: Path) -> None:
    """The results are not mixed with other files, and neither a pipe nor a place below a file is tried at the end."""
    (tmp_path / "notes.txt").touch()
    os.mkfifo(tmp_path / "pipe")
    for output in (tmp_path, tmp_path / "pipe", tmp_path / "notes.txt" / "results"):
        result = digits("acceptance", "--output", str(output))
        assert (result.code, result.out) == (2, "")


def test_the_results_are_shown_and_written(digits: Digits, settings: Settings, tmp_path: Path) -> None:
    """With --json the report is the only standard output; the exit code is 3 if a probe failed."""
    ClusterApi.reset()
    settings.home.mkdir(exist_ok=True)
    with kubernetes_api(ClusterApi) as server:
        write_kubeconfig(settings, server)
        passed = digits("acceptance", "--only", "kserve", "--output", str(tmp_path / "results"))
        ClusterApi.objects.pop(f"{NAMESPACE}/serviceaccounts/sa-minio-kserve")
        failed = digits("acceptance", "--only", "kserve", "--json")
    assert (passed.code, failed.code) == (0, 3)
    assert "v0.20.0 (tested: 0.20 to 0.21)" in passed.out
    assert (tmp_path / "results/plugins/digits/results/global/junit.xml").is_file()
    assert failed.json["failed"] == ["kserve"]
    assert Path(failed.json["folder"], "meta/config.json").is_file()


def test_without_a_cluster_one_probe_fails(digits: Digits, settings: Settings) -> None:
    """Without a kubeconfig the probe of the cluster fails with a remedy, and the others are skipped."""
    result = digits("acceptance", "--json")
    assert (result.code, result.json["failed"]) == (3, ["cluster"])
    assert str(settings.home) in result.json["probes"][0]["findings"][0]["remedy"]

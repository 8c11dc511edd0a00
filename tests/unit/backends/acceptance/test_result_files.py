"""The files of an acceptance run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import yaml

from backends.acceptance.probe import FAILED, PASSED, SKIPPED, Outcome
from backends.acceptance.result_files import report, write_results
from digits.findings import Finding

ABOUT = {"cluster": "https://c", "namespace": "n", "time": "t"}
OUTCOMES = [
    Outcome("cluster", "c", PASSED, (Finding("Kubernetes", True, "v1.34.4", tested="1.30 to 1.34"),), 1.0),
    Outcome("kserve", "k", FAILED, (Finding("x", True, "y"), Finding("mode", False, "<Kn\x1bative>", "set it")), 2.0),
    Outcome("kfp", "p", SKIPPED, (Finding("kfp", None, "not used"),), 0.0),
]


def test_sonobuoy_finds_its_files(tmp_path: Path) -> None:
    """The layout is that of `sonobuoy results FOLDER`: the plugins' list, and the states of all probes."""
    write_results(tmp_path, OUTCOMES, report(OUTCOMES, ABOUT), {"gitVersion": "v1.34.4"})
    assert json.loads((tmp_path / "meta/info.json").read_bytes()) == {"plugins": ["digits"]}
    assert json.loads((tmp_path / "meta/config.json").read_bytes())["Version"].startswith("v0.")
    assert json.loads((tmp_path / "serverversion.json").read_bytes()) == {"gitVersion": "v1.34.4"}
    items = yaml.safe_load((tmp_path / "plugins/digits/sonobuoy_results.yaml").read_bytes())
    (file,) = items["items"]
    assert (items["name"], items["status"]) == ("digits", "failed")
    assert (tmp_path / "plugins/digits" / file["meta"]["file"]).is_file()
    assert {case["name"]: case["status"] for case in file["items"]} == {o.name: o.state for o in OUTCOMES}


def test_junit_has_one_case_per_probe(tmp_path: Path) -> None:
    """A failed probe has a failure with remedy, a skipped one its reason; control characters are left out."""
    write_results(tmp_path, OUTCOMES, report(OUTCOMES, ABOUT), None)
    suite = ElementTree.parse(tmp_path / "plugins/digits/results/global/junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.get("message") == "✗ mode: <Knative>; try: set it"
    assert suite[2].find("skipped") is not None


def test_the_page_and_the_report_have_everything(tmp_path: Path) -> None:
    """Both have each finding and remedy, and each version with the tested ones; the page escapes what it shows."""
    content = report(OUTCOMES, ABOUT)
    write_results(tmp_path, OUTCOMES, content, None)
    folder = tmp_path / "plugins/digits/results/global"
    assert json.loads((folder / "report.json").read_bytes()) == json.loads(json.dumps(content))
    assert content["versions"] == [{"name": "Kubernetes", "found": "v1.34.4", "tested": "1.30 to 1.34"}]
    assert (content["ok"], content["failed"]) == (False, ["kserve"])
    text = (folder / "index.html").read_text()
    assert "&lt;Kn" in text
    assert "<Kn" not in text
    assert all(part in text for part in ("set it", "1.30 to 1.34", "not used"))

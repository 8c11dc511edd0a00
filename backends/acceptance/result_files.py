"""The results of an acceptance run as files, in the layout of Sonobuoy's: `sonobuoy results FOLDER` reads them.

    meta/config.json, meta/info.json            id of the run, Sonobuoy's version of the layout, and the plugins
    serverversion.json                          the answer of the API server to /version
    plugins/digits/sonobuoy_results.yaml        the states of all probes
    plugins/digits/results/global/junit.xml     JUnit, one test case per probe
    plugins/digits/results/global/report.json   everything
    plugins/digits/results/global/index.html    everything, as one page

https://sonobuoy.io/docs/main/snapshot
"""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from backends.acceptance.probe import FAILED, PASSED, SKIPPED, Outcome
from digits import __version__
from digits.files import write_whole
from digits.findings import Finding

LAYOUT = "v0.57.3"  # of Sonobuoy, whose layout of files this is
PLUGIN = "digits"
MARKS = {True: "✓", False: "✗", None: "-"}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;
border-bottom:1px solid #ddd}.passed{color:#176b2c}.failed{color:#a3141e}.skipped{color:#6b5a00}
.try{color:#444;font-size:.9em}td:last-child{white-space:pre-wrap;overflow-wrap:anywhere}"""


def report(outcomes: Sequence[Outcome], about: dict[str, str]) -> dict[str, Any]:
    """Return the run as JSON values: {"ok", "failed", "versions", "probes", and the fields of `about`}."""
    failed = [outcome.name for outcome in outcomes if outcome.state == FAILED]
    versions = [
        {"name": finding.name, "found": finding.found, "tested": finding.tested}
        for outcome in outcomes
        for finding in outcome.findings
        if finding.tested
    ]
    probes = [outcome.as_json() for outcome in outcomes]
    return {"ok": not failed, "failed": failed, **about, "digits": __version__, "versions": versions, "probes": probes}


def write_results(folder: Path, outcomes: Sequence[Outcome], content: dict[str, Any], server: Any) -> None:
    """Write all files below `folder`; `content` is the `report`, `server` the answer to /version or None."""
    config = {"UUID": str(uuid.uuid4()), "Version": LAYOUT, "Description": "digits acceptance"}
    results = folder / "plugins" / PLUGIN
    files: dict[Path, str | bytes] = {
        folder / "meta/config.json": json.dumps(config, indent=2),
        folder / "meta/info.json": json.dumps({"plugins": [PLUGIN]}),
        folder / "serverversion.json": json.dumps(server or {}, indent=2),
        results / "sonobuoy_results.yaml": yaml.safe_dump(_items(outcomes), sort_keys=False, allow_unicode=True),
        results / "results/global/junit.xml": ElementTree.tostring(junit(outcomes), "utf-8", xml_declaration=True),
        results / "results/global/report.json": json.dumps(content, indent=2),
        results / "results/global/index.html": page(outcomes, content),
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)


def junit(outcomes: Sequence[Outcome]) -> ElementTree.Element:
    """Return the element `testsuites` of a JUnit file, with one test case per probe."""
    counts = {
        "tests": len(outcomes),
        "failures": sum(outcome.state == FAILED for outcome in outcomes),
        "skipped": sum(outcome.state == SKIPPED for outcome in outcomes),
        "time": f"{sum(outcome.seconds for outcome in outcomes):.1f}",
    }
    attributes = {name: str(value) for name, value in counts.items()}
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", {"name": "digits acceptance", **attributes})
    for outcome in outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", name=outcome.name, classname="digits.acceptance", time=f"{outcome.seconds:.1f}"
        )
        if outcome.state == FAILED:
            bad = [_line(finding) for finding in outcome.findings if finding.ok is False]
            ElementTree.SubElement(case, "failure", message=_clean(bad[0])).text = _clean("\n".join(bad))
        elif outcome.state == SKIPPED:
            ElementTree.SubElement(case, "skipped", message=_clean(outcome.findings[0].found))
        ElementTree.SubElement(case, "system-out").text = _clean("\n".join(map(_line, outcome.findings)))
    return root


def page(outcomes: Sequence[Outcome], content: dict[str, Any]) -> str:
    """Return the run as one HTML page without external parts."""
    rows = []
    for outcome in outcomes:
        cells = "".join(
            f"<div>{MARKS[f.ok]} {html.escape(f.name)}: {html.escape(f.found)}{_tested(f)}"
            + (f'<div class="try">try: {html.escape(f.remedy)}</div>' if f.remedy else "")
            + "</div>"
            for f in outcome.findings
        )
        rows.append(
            f"<tr><td><b>{outcome.name}</b><br>{html.escape(outcome.title)}</td>"
            f'<td class="{outcome.state}">{outcome.state}</td><td>{cells}</td></tr>'
        )
    verdict = "passed" if content["ok"] else f"failed: {', '.join(content['failed'])}"
    about = ", ".join(f"{key}: {html.escape(str(content[key]))}" for key in ("cluster", "namespace", "time", "digits"))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>digits acceptance: {verdict}</title>'
        f"<style>{STYLE}</style><h1>digits acceptance: {verdict}</h1><p>{about}</p>"
        f"<table><tr><th>probe</th><th>state</th><th>findings</th></tr>{''.join(rows)}</table></html>\n"
    )


def _items(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the content of sonobuoy_results.yaml."""
    state = FAILED if any(outcome.state == FAILED for outcome in outcomes) else PASSED
    cases = [
        {
            "name": outcome.name,
            "status": outcome.state,
            "details": {"findings": "\n".join(map(_line, outcome.findings))},
        }
        for outcome in outcomes
    ]
    file = {"name": "junit.xml", "status": state, "meta": {"file": "results/global/junit.xml", "type": "file"}}
    return {"name": PLUGIN, "status": state, "meta": {"type": "summary"}, "items": [{**file, "items": cases}]}


def _line(finding: Finding) -> str:
    remedy = f"; try: {finding.remedy}" if finding.remedy else ""
    return f"{MARKS[finding.ok]} {finding.name}: {finding.found}{_tested(finding)}{remedy}"


def _tested(finding: Finding) -> str:
    return f" (tested: {finding.tested})" if finding.tested else ""


def _clean(text: str) -> str:
    """Return a text without the characters that XML does not allow."""
    return "".join(c for c in text if c in "\t\n" or c.isprintable())

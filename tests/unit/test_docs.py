"""Checks of the documentation: its generated page, its links, and the names that it quotes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dev import readme, reference
from tests.helpers.support import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
LINK = re.compile(r"(?<!`)\[[^\]\n]*\]\(([^)\s]+)\)")


def test_the_configuration_page_is_current() -> None:
    """The page of settings equals the output of `python dev/reference.py`."""
    assert reference.PAGE.read_text(encoding="utf-8") == reference.configuration(), "run: python dev/reference.py"


def test_the_tests_that_reliability_names_exist() -> None:
    """Each test that the page on reliability names exists in the file that it names."""
    references = re.findall(r"`tests/(\S+?\.py)::(\w+)`", (DOCS / "reliability.md").read_text(encoding="utf-8"))
    assert len(references) > 15
    for file, test in references:
        assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), f"{file}::{test}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_documentation_resolve(page: Path) -> None:
    """Every link to a page, file or heading has a target; addresses on the network are not requested."""
    broken = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path) if path else page
        if not other.exists() or (anchor and other.suffix == ".md" and anchor not in _anchors(other)):
            broken.append(target)
    assert not broken


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_readme_has_the_blocks_that_ci_runs() -> None:
    """The README has the named blocks of commands that CI runs."""
    assert {"demo", "test", "use"} <= set(readme.BLOCKS)

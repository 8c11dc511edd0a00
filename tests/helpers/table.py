"""The table of faults with expected and observed outcomes; printed after a session and stored in the docs."""

from __future__ import annotations

import dataclasses
import re

from tests.helpers.invariants import Invariants
from tests.helpers.support import ROOT
from tests.helpers.world import World

PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: made by `nox -s faults -- --write` -->", "<!-- end of faults -->"


@dataclasses.dataclass
class Row:
    """A fault that one or more tests inject."""

    fault: str
    expected: str
    seen: list[str] = dataclasses.field(default_factory=list)
    count: int = 0
    failed: int = 0
    lost: int = 0
    green: int = 0

    def cells(self) -> tuple[str, ...]:
        """Return the row's cells."""
        times = f" ({self.count} times)" if self.count > 1 else ""
        seen = "; ".join(dict.fromkeys(self.seen)) or "as expected"
        seen = f"FAILED {self.failed} of {self.count}" if self.failed else seen
        return self.fault + times, self.expected, seen, str(self.lost), str(self.green)


@dataclasses.dataclass
class Fault:
    """The row of the table that a test fills."""

    row: Row
    checks: list[Invariants] = dataclasses.field(default_factory=list)

    def saw(self, text: str) -> None:
        """Note the outcome in a few words that do not differ between sessions."""
        self.row.seen.append(text)

    def watch(self, world: World) -> Invariants:
        """Return the invariants of a world in its present state; the table counts their violations."""
        self.checks.append(Invariants(world))
        return self.checks[-1]


def rendered(rows: list[Row]) -> str:
    """Return the table in Markdown, with its totals."""
    lines = ["| fault | expected | seen | data lost | false green |", "|---|---|---|---|---|"]
    lines += [_line(row.cells()) for row in rows]
    total = sum(row.count for row in rows)
    lost, green = sum(row.lost for row in rows), sum(row.green for row in rows)
    survived = total - sum(row.failed for row in rows)
    lines += ["", f"{total} faults injected, {survived} survived, data lost: {lost}, false greens: {green}."]
    return "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def current(page: str, rows: list[Row]) -> bool:
    """Return whether the page's table has these faults with the same counts and expectations."""
    return all(_line(row.cells()[:2]) in page for row in rows)


def replaced(page: str, rows: list[Row]) -> str:
    """Return the page with this table."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?(\n{re.escape(END)})", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}\n{rendered(rows)}\n{match[2]}", page)

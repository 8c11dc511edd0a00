"""The table of faults: what was expected, what was seen, what was lost. Printed after a session, kept in the docs."""

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
    """A fault, in one or many tests."""

    fault: str
    expected: str
    seen: list[str] = dataclasses.field(default_factory=list)
    count: int = 0
    failed: int = 0
    lost: int = 0
    green: int = 0

    def cells(self) -> tuple[str, ...]:
        """The row as the table has it."""
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
        """Note what was seen, in a few words that are the same each time."""
        self.row.seen.append(text)

    def watch(self, world: World) -> Invariants:
        """The invariants of a world as it is now; what they find counts in the table."""
        self.checks.append(Invariants(world))
        return self.checks[-1]


def rendered(rows: list[Row]) -> str:
    """The table in Markdown, and its sums."""
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
    """Whether the page's table has these faults, so often, and what is expected of each."""
    return all(_line(row.cells()[:2]) in page for row in rows)


def replaced(page: str, rows: list[Row]) -> str:
    """The page with this table."""
    pattern = re.compile(f"({re.escape(BEGIN)}\n).*?(\n{re.escape(END)})", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{rendered(rows)}\n{found[2]}", page)

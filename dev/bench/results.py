"""The output of the benchmarks: JSON, a block of a documentation page, a plot."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from digits.files import write_whole

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "dev" / "bench" / "results"


def head(command: str) -> dict[str, Any]:
    """Return the time, the machine and the command."""
    model = next((line.split(":")[1].strip() for line in _cpu() if line.startswith("model name")), platform.machine())
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = {"processor": model, "cores": len(os.sched_getaffinity(0)), "memory_gib": round(gib)}
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    return {"date": date, "machine": machine, "command": command}


def _cpu() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


def measured(found: dict[str, Any]) -> str:
    """Return a sentence with the date, the machine and the command."""
    machine = found["machine"]
    return (
        f"Measured on {found['date'][:10]} with `{found['command']}` on {machine['cores']} cores "
        f"({machine['processor']}) and {machine['memory_gib']} GiB"
    )


def keep(name: str, found: dict[str, Any]) -> None:
    """Keep a part's figures as dev/bench/results/NAME.json."""
    write_whole(KEPT / f"{name}.json", json.dumps(found) + "\n")


def kept(name: str) -> dict[str, Any]:
    """Return the last kept figures of a part, or raise FileNotFoundError."""
    found: dict[str, Any] = json.loads((KEPT / f"{name}.json").read_text())
    return found


def into_page(page: str, name: str, text: str) -> None:
    """Replace the text between `<!-- NAME -->` and `<!-- /NAME -->` in docs/PAGE."""
    path = ROOT / "docs" / page
    before, _, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not end:
        raise SystemExit(f"docs/{page} has no place for {name}")
    write_whole(path, f"{before}<!-- {name} -->\n{text.strip()}\n{end}{after}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with the numbers to the right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Return `median (least to most)`."""
    low, middle, high = (format(value, form) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"


def bars(path: Path, title: str, rows: dict[str, float]) -> None:
    """Write a bar chart as SVG that is readable on light and dark pages."""
    most = max(rows.values())
    box = f'viewBox="0 0 720 {40 + 26 * len(rows)}" font-family="sans-serif" font-size="13"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{title}">',
        "<style>text { fill: #222 } @media (prefers-color-scheme: dark) { text { fill: #ddd } }</style>",
        f'<text x="0" y="18" font-weight="bold">{title}</text>',
    ]
    for i, (name, value) in enumerate(rows.items()):
        y, colour = 34 + 26 * i, "#2f7ed8" if name.startswith("digits") else "#8a8f98"
        width = 420 * value / most
        lines.append(f'<text x="0" y="{y + 14}">{name}</text>')
        lines.append(f'<rect x="200" y="{y}" width="{width:.1f}" height="19" rx="2" fill="{colour}"/>')
        lines.append(f'<text x="{207 + width:.1f}" y="{y + 14}">{value:,.0f}</text>')
    write_whole(path, "\n".join([*lines, "</svg>", ""]))

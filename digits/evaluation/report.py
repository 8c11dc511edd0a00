"""The report of a run: one self-contained HTML file, light and dark, with everything inlined."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).parent / "report.html"

CORNER = 0.1  # of the ROC curve's square: nothing happens in the rest of it


def render(
    evaluation: dict[str, Any],
    history: list[dict[str, float]],
    about: dict[str, Any],
    decision: dict[str, Any] | None = None,
) -> str:
    """The report as HTML.

    Args:
        evaluation: `Evaluation.as_dict()`.
        history: the epochs' figures.
        about: `steps.about_run()`, with version, digest and MLflow's link once it is published.
        decision: the gate's, with the time `at` which it was made.
    """
    import jinja2

    # Everything shown is escaped: experiment names and labels come from people.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"percent": lambda value, places=2: f"{value:.{places}%}"}
    mistakes = [m | {"picture": _png(m["image"])} for m in evaluation["mistakes"]]
    most_wrong = max(
        (n for t, row in enumerate(evaluation["confusion"]) for a, n in enumerate(row) if a != t), default=0
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        e=evaluation | {"mistakes": mistakes},
        history=history,
        about=about,
        decision=decision,
        most_wrong=max(most_wrong, 1),
        curves=_curves(history) if len(history) > 1 else [],  # one epoch is no line; the table has it
        corner=CORNER,
        roc=" ".join(
            f"{x / CORNER * 200:.1f},{min(100.0, (1 - y) / CORNER * 100):.1f}"
            for x, y, _ in _corner([[0, 0, 1], *evaluation["roc"]])
        ),
    )


def _corner(roc: list[list[float]]) -> list[list[float]]:
    """The points within the corner that is drawn, and the one where the line leaves it."""
    within = [point for point in roc if point[0] <= CORNER]
    for x, y, threshold in roc[len(within) : len(within) + 1]:
        share = (CORNER - within[-1][0]) / (x - within[-1][0])
        within.append([CORNER, within[-1][1] + share * (y - within[-1][1]), threshold])
    return within


def _curves(history: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Loss and accuracy over the epochs, as points of a drawing 300 wide and 100 high."""
    panels = []
    for title, keys in (("loss", ("loss", "val_loss")), ("accuracy", ("accuracy", "val_accuracy"))):
        values = [row[key] for row in history for key in keys]
        low, high = min(values), max(values)
        span = (high - low) or 1.0
        step = 300 / max(len(history) - 1, 1)
        lines = [
            [(round(i * step, 1), round(100 - 100 * (row[key] - low) / span, 1)) for i, row in enumerate(history)]
            for key in keys
        ]
        panels.append({"title": title, "low": low, "high": high, "lines": lines})
    return panels


def _png(image: list[list[int]]) -> str:
    """A 28 x 28 grey picture as a data: URL. PNG (ISO/IEC 15948), so that no imaging library is needed here."""
    rows = b"".join(b"\0" + bytes(255 - value for value in row) for row in image)

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", len(image[0]), len(image), 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()

"""The report of a run: one self-contained HTML file, light and dark."""

from __future__ import annotations

import base64
import functools
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from digits.data import catalog
from digits.evaluation.metrics import METRICS
from digits.evaluation.slices import THIRDS, class_name
from digits.evaluation.threshold import RISK
from digits.tasks.task import BUILT_IN, Task, find

if TYPE_CHECKING:
    from digits.evaluation.metrics import Evaluation

TEMPLATE = Path(__file__).parent / "report.html"
MAX_TABLE = 30  # classes of which the whole confusion is shown
MAX_CONFUSIONS = 40  # the most frequent ones that are listed otherwise
CORNER = 0.1  # the ROC curve is drawn for false positive rates to CORNER and true positive rates from 1 - CORNER


def render(
    evaluation: Evaluation,
    history: list[dict[str, float]],
    about: dict[str, Any],
    decision: dict[str, Any] | None = None,
) -> str:
    """Return the report as HTML.

    Args:
        evaluation: of the model on the test set.
        history: loss, accuracy and time of each epoch.
        about: `Lineage.describe()`; once published, with version, digest, experiment and MLflow's link.
        decision: the fields of the gate's decision, its time as `at`, and whether the release is the `champion` now.
    """
    task = find(about["task"])
    off_diagonal = np.array(evaluation.confusion)
    np.fill_diagonal(off_diagonal, 0)
    html: str = _template().render(
        e=evaluation,
        task=task,
        heading="Handwritten digits" if task.name == BUILT_IN else task.name,
        word="digit" if task.is_number else "class",
        class_names=[class_name(task, label) for label in range(len(task.labels))],
        confusions=_most_frequent(off_diagonal) if len(task.labels) > MAX_TABLE else None,
        metrics=[
            f"{metric.label} {metric.format.format(evaluation.metrics[metric.name])}"
            for metric in METRICS
            if metric.name != "accuracy"  # the headline
        ],
        history=history,
        about=about,
        is_fallback=about["data"]["dataset"] == catalog.FALLBACK,
        decision=decision,
        most_frequent_mistake=max(int(off_diagonal.max()), 1),
        curves=_curves(history) if len(history) > 1 else [],  # a line needs two epochs; the table shows a single one
        promise=round(1 / RISK),
        corner=CORNER,
        thirds=THIRDS[task.reading],
        reliability=" ".join(f"{100 * mean:.1f},{100 - 100 * right:.1f}" for mean, right, _ in evaluation.reliability),
        roc=" ".join(
            f"{x / CORNER * 200:.1f},{min(100.0, (1 - y) / CORNER * 100):.1f}"
            for x, y, _ in _corner([[0, 0, 1], *evaluation.roc])
        ),
    )
    return html


@functools.cache
def _template() -> Any:
    """Return the compiled template; compiling takes longer than rendering."""
    import jinja2

    # Everything is escaped, because users choose experiment names and labels.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters |= {"percent": _percent, "picture": _picture}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _most_frequent(confusion: NDArray[np.int_]) -> list[tuple[int, int, int]]:
    """Return (label, answer, images) of the most frequent confusions, given only the mistakes, (classes, classes)."""
    order = np.argsort(-confusion, axis=None, kind="stable")[:MAX_CONFUSIONS]
    pairs = zip(*np.unravel_index(order, confusion.shape), strict=True)
    return [(int(label), int(answer), count) for label, answer in pairs if (count := int(confusion[label, answer]))]


def _corner(roc: list[list[float]]) -> list[list[float]]:
    """Return the points within the corner, and the point at which the curve leaves the corner."""
    within = [point for point in roc if point[0] <= CORNER]
    for x, y, threshold in roc[len(within) : len(within) + 1]:
        share = (CORNER - within[-1][0]) / (x - within[-1][0])
        within.append([CORNER, within[-1][1] + share * (y - within[-1][1]), threshold])
    return within


def _curves(history: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Return loss and accuracy by epoch as points of a drawing 300 wide and 100 high."""
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


def _percent(value: float, places: int = 2) -> str:
    return f"{value:.{places}%}"


def _picture(image: list[Any], task: Task) -> str:
    """Return an image of a data set as the data: URL of a PNG, drawings with dark ink."""
    from PIL import Image

    buffer = io.BytesIO()
    values = np.asarray(image, np.uint8)
    Image.fromarray(255 - values if task.reading == "pen" else values).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()

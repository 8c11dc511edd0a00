"""The report: one self-contained page that shows every result and escapes all text."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from digits.data.dataset import Dataset
from digits.evaluation import report
from digits.evaluation.metrics import Evaluation, evaluate
from digits.tasks.task import find
from tests.helpers.support import Finished

VOID = {"meta", "img", "br", "polyline", "link", "input", "hr"}


class Page(HTMLParser):
    """An HTML parser that checks that tags are closed in order, and collects attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="session")
def published(finished: Finished) -> str:
    """Return the report that a real run published."""
    return (finished.folder / "report.html").read_text()


def rendered(finished: Finished, *, champion: bool = False, **about: object) -> str:
    """Return a report of the finished run that was not promoted, with some of its description replaced."""
    history = json.loads((finished.folder / "history.json").read_text())
    decision = {"promote": False, "why": "x", "at": "2026-11-24T06:30:00Z", "champion": champion}
    return report.render(evaluation(finished), history, finished.lineage.describe() | about, decision)


def evaluation(finished: Finished) -> Evaluation:
    return Evaluation.load(finished.folder / "evaluation.json")


def test_the_page_is_well_formed(published: str) -> None:
    """Each tag is closed, the title has the accuracy, and the page warns that the data set is not MNIST."""
    page = Page(published)
    assert page.open == []
    assert published.startswith("<!doctype html>")
    assert "Not MNIST." in page.text
    assert "%" in page.text[page.text.index("digits:") :][:20]


def test_nothing_is_loaded_from_elsewhere(published: str) -> None:
    """The page has no script, style sheet or address of another host; pictures are inlined, as its policy demands."""
    page = Page(published)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        if name in {"src", "href", "xlink:href", "action"}:
            assert value.startswith("data:image/png;base64,"), (tag, value[:80])
    assert not re.search(r"https?://|url\(|@import", published)
    assert "default-src 'none'" in published
    assert "prefers-color-scheme: dark" in published


def test_all_results_are_shown(published: str, finished: Finished) -> None:
    """Accuracy, interval, learning curves, confusion, each digit, decision, digests and MLflow are on the page."""
    page = Page(published)
    for word in (
        "95% interval",
        "Learning",
        "Confusion",
        "precision",
        "recall",
        "Calibration",
        "Sure answers",
        "Slices",
        "leaning left",
        "Corrupted images",
        "impulse noise",
        "Worst mistakes",
        "Promoted\non 20",
    ):
        assert word in page.text
    assert f"{finished.published.accuracy:.2%}" in page.text
    for digest in (finished.published.digest, finished.lineage.trained.weights, finished.lineage.data.digest):
        assert digest in page.text
    assert "mlflow ui --backend-store-uri sqlite:///" in page.text


def test_a_rejection_is_shown(finished: Finished) -> None:
    """The page states that a release was not promoted, with time and reason."""
    assert "Kept, not promoted\non 2026-11-24 06:30 UTC: x." in Page(rendered(finished)).text


@pytest.mark.parametrize("champion", [True, False])
def test_only_a_release_that_does_not_serve_is_marked_as_rejected(finished: Finished, champion: bool) -> None:
    """The bar of a repeated run of the champion has the colour of a promotion, that of a rejected release has not."""
    bars = [value for _, name, value in Page(rendered(finished, champion=champion)).attributes if name == "class"]
    assert ("gate" in bars, "gate no" in bars) == (champion, not champion)


def test_hostile_names_are_shown_as_text(finished: Finished) -> None:
    """Names that contain HTML or a javascript: address are shown as text and have no effect."""
    hostile = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    html = rendered(
        finished, parameters={hostile: hostile}, version=hostile, mlflow=f"http://x/{hostile}", digest=hostile
    )
    page = Page(html)
    assert "script" not in page.tags
    assert not [value for _, name, value in page.attributes if name == "onerror"]
    assert hostile in page.text
    assert 'href="javascript' not in rendered(finished, mlflow="javascript:alert(1)")


def test_pictures_show_ink_dark_on_paper(finished: Finished) -> None:
    """The inlined PNG has the image's pixels, with black ink."""
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    data = report._picture(image.tolist(), find("digits")).removeprefix("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        assert np.array_equal(255 - np.asarray(opened), image)


def test_one_epoch_and_equal_values_can_be_drawn(finished: Finished) -> None:
    """Curves of constant values can be drawn, and a single epoch draws no empty frame."""
    row = {"epoch": 1, "loss": 0.5, "accuracy": 1.0, "val_loss": 0.5, "val_accuracy": 1.0, "seconds": 1.0}
    about = finished.lineage.describe()
    one, two = (report.render(evaluation(finished), rows, about) for rows in ([row], [row, row]))
    assert (one.count("over the epochs"), two.count("over the epochs")) == (0, 2)


def test_the_roc_line_ends_at_the_frame(finished: Finished) -> None:
    """The line is interpolated at the point where it leaves the corner that is drawn."""
    corner = report.CORNER
    roc = [[0.0, 0.5, 0.9], [corner / 2, 0.96, 0.5], [corner * 1.5, 1.0, 0.1]]
    html = report.render(dataclasses.replace(evaluation(finished), roc=roc), [], finished.lineage.describe())
    points = html.rpartition('points="')[2].partition('"')[0].split()
    ends = [tuple(map(float, point.split(","))) for point in points]
    assert ends[-1] == (200.0, round((1 - 0.98) / corner * 100, 1))
    assert all(0 <= x <= 200 and 0 <= y <= 100 for x, y in ends)


def test_the_signer_of_the_release_is_stated(finished: Finished) -> None:
    """The page states the key that signs releases, or that they are unsigned."""
    assert "by key abcdef0123456789" in Page(rendered(finished, signer="abcdef0123456789" * 4)).text
    assert "releases are unsigned" in Page(rendered(finished, signer="")).text


@pytest.mark.parametrize("classes", [3, 31])
def test_a_task_of_photos_has_labels_and_pictures_in_colour(finished: Finished, classes: int) -> None:
    """The report has the task's name and labels, pictures in colour, and of many classes only the confusions."""
    labels = tuple(f"<b>{n}</b>" for n in range(classes))
    task = dataclasses.replace(find("fashion"), name="flowers", labels=labels, height=8, width=8, channels=3)
    random = np.random.default_rng(0)
    test = Dataset(random.integers(0, 256, (90, 8, 8, 3), np.uint8), (np.arange(90) % classes).astype(np.uint8))
    answers = np.eye(classes, dtype=np.float32)[(test.labels + (np.arange(90) < 20)) % classes]
    result = evaluate(answers, test, task)
    html = report.render(result, [], finished.lineage.describe() | {"task": task.text()})
    page = Page(html)
    assert page.open == []
    assert page.text.strip().startswith("flowers: ")
    assert "<b>2</b>, recognised as <b>0</b>" in page.text or classes > 3
    assert "dark pictures" in page.text
    assert page.tags.count("td") < 700
    data = re.findall(r'src="data:image/png;base64,([^"]+)"', html)[0]
    with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
        assert np.array_equal(np.asarray(opened), test.images[result.mistakes[0]["index"]])

"""`digits predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from digits.cli import predict
from digits.data.dataset import Dataset
from digits.errors import EndpointError
from digits.evaluation.verdict import with_article
from digits.serving import client
from digits.serving.app import PredictApp
from digits.serving.slot import LoadedModel, ModelSlot
from digits.settings import Settings
from tests.helpers.command import Digits
from tests.helpers.drawings import NOUGHT, SEVEN, draw, enlarge, touching_pair
from tests.helpers.http_server import http_server
from tests.helpers.support import Finished, Predictor, free_port

pytestmark = pytest.mark.filterwarnings("ignore")  # warnings of kfp and MLflow


def test_a_picture_is_recognised(
    digits: Digits, finished: Finished, predictor: Predictor, tmp_path: Path, mnist_folder: Path
) -> None:
    """Picture files, and test images of the release's data set by number, are drawn and recognised."""
    test = Dataset.load(finished.folder / "test.npz")
    Image.fromarray(enlarge(test.images[0])).save(tmp_path / "photo.png")
    result = digits("predict", "--endpoint", predictor.url, "--json", "photo.png")
    assert result.json["release"] == finished.version
    assert result.json["predictions"][0]["class"] == test.labels[0]
    assert sum(result.json["predictions"][0]["probabilities"]) == pytest.approx(1, abs=1e-4)
    # MNIST is at hand, but the release learned from scikit-learn's digits.
    settings = Settings(home=tmp_path / "home", data=str(mnist_folder), port=free_port())
    result = digits("predict", "--endpoint", predictor.url, "photo.png", "0", on=settings)
    assert result.code == 0
    assert f"photo.png is {with_article(test.labels[0])}" in result.out
    assert f"test image 0 is {with_article(test.labels[0])} (label {test.labels[0]})" in result.out
    assert "test images of sklearn-digits" in result.err
    assert "█" in result.out
    answer = digits("predict", "--endpoint", predictor.url, "1", "photo.png", "--json", on=settings).json
    assert answer["predictions"][0]["label"] == test.labels[1]
    assert answer["predictions"][0]["verdict"] in {"sure", "unsure"}
    assert "label" not in answer["predictions"][1]
    too_far = digits("predict", "--endpoint", predictor.url, "360", on=settings)
    assert too_far.code == 2
    assert "0 to 359" in too_far.err


def test_the_pieces_of_a_pair_are_not_answers_of_their_own(
    digits: Digits, finished: Finished, predictor: Predictor, tmp_path: Path
) -> None:
    """A picture after one of two digits that touch has the answer that it has alone."""
    Image.fromarray(enlarge(Dataset.load(finished.folder / "test.npz").images[0])).save(tmp_path / "photo.png")
    Image.fromarray(255 - touching_pair(NOUGHT, SEVEN)).save(tmp_path / "pair.png")
    both = digits("predict", "--endpoint", predictor.url, "--json", "pair.png", "photo.png").json["predictions"]
    alone = digits("predict", "--endpoint", predictor.url, "--json", "photo.png").json["predictions"][0]
    assert len(both[1]["digits"]) == 1
    assert both[1]["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)


def test_the_threshold_of_the_release_decides_what_is_sure(
    digits: Digits, predictor: Predictor, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metadata's threshold counts if it is of the release that answered."""
    Image.fromarray(enlarge(Dataset.load(finished.folder / "test.npz").images[0])).save(tmp_path / "photo.png")
    for release, states in ((finished.version, {"unsure"}), ("other", {"sure", "unsure"})):
        metadata = {"release": release, "sure_from": 1.01}
        monkeypatch.setattr("digits.serving.client.metadata", lambda *_, metadata=metadata, **__: metadata)
        answer = digits("predict", "--endpoint", predictor.url, "--json", "photo.png").json["predictions"][0]
        assert {answer["verdict"], answer["digits"][0]["verdict"]} <= states


def test_a_picture_without_a_single_digit_is_reported(
    digits: Digits, finished: Finished, predictor: Predictor, tmp_path: Path
) -> None:
    """A blank picture is empty, digits side by side are a number, and one above the other is unsure."""
    test = Dataset.load(finished.folder / "test.npz")
    Image.new("L", (280, 280), 255).save(tmp_path / "blank.png")
    Image.fromarray(enlarge(np.hstack([test.images[0], test.images[1]]))).save(tmp_path / "two.png")
    above = draw(SEVEN, side=400, pen=9, at=(0.3, 0.05), size=0.4) + draw(
        SEVEN, side=400, pen=9, at=(0.3, 0.55), size=0.4
    )
    Image.fromarray(235 - above // 2).save(tmp_path / "above.png")
    result = digits("predict", "--endpoint", predictor.url, "blank.png", "two.png")
    assert result.out.startswith("blank.png is empty\n")
    answer = digits("predict", "--endpoint", predictor.url, "blank.png", "two.png", "above.png", "--json").json
    empty, two, unsure = answer["predictions"]
    assert (empty["verdict"], empty["class"], empty["digits"]) == ("empty", None, [])
    number = two["number"]
    assert f"two.png is {number}\n" in result.out or f"two.png: not sure: perhaps {number}" in result.out
    assert (number[0], two["class"], len(number), len(two["digits"])) == (str(test.labels[0]), None, 2, 2)
    assert two["digits"][0]["box"][2] <= two["digits"][1]["box"][0]
    assert unsure["verdict"] == "unsure"


def test_a_number_is_drawn_within_the_terminals_width(
    digits: Digits, finished: Finished, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a narrow terminal the digits of a number are drawn one below the other."""
    test = Dataset.load(finished.folder / "test.npz")
    Image.fromarray(enlarge(np.hstack([test.images[0], test.images[1]]))).save(tmp_path / "two.png")
    drawn = {}
    for columns in (20, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        drawn[columns] = digits("predict", "--endpoint", predictor.url, "two.png").out.split("two.png")[0].splitlines()
    assert max(map(len, drawn[20])) <= 20 < max(map(len, drawn[80]))
    assert len(drawn[20]) > len(drawn[80])


@pytest.mark.parametrize(("release", "shown"), [("v1", "v1"), (5, "5"), (None, "")])
def test_the_release_is_a_text_if_all_pictures_are_empty(
    release: object, shown: str, digits: Digits, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a prediction the release is that of the metadata, which another server may write as a number or null."""
    Image.new("L", (280, 280), 255).save(tmp_path / "blank.png")
    monkeypatch.setattr("digits.serving.client.metadata", lambda *_: {"release": release})
    assert digits("predict", "--endpoint", predictor.url, "--json", "blank.png").json["release"] == shown


def test_a_champion_without_an_endpoint_can_be_served(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """If there is a champion but no endpoint, the remedy is to serve it."""
    Image.fromarray(enlarge(np.eye(28, dtype=np.uint8) * 255)).save(tmp_path / "drawing.png")
    settings = finished.copy(tmp_path / "home")
    result = digits("predict", "drawing.png", on=settings)
    assert result.code == 1
    assert finished.version in result.err
    assert "digits run, which serves it and reuses cached steps" in " ".join(result.err.split())


def test_a_file_that_is_not_a_picture_is_named(digits: Digits, tmp_path: Path) -> None:
    """A text file called .png is an error with its name."""
    (tmp_path / "text.png").write_text("not a picture")
    result = digits("predict", "--endpoint", "http://127.0.0.1:9", "text.png")
    assert result.code in {1, 2}
    assert "text.png" in result.err


def test_a_picture_that_cannot_be_read_costs_no_other_answer(
    digits: Digits, finished: Finished, predictor: Predictor, tmp_path: Path
) -> None:
    """Each picture is answered before the next one is read; a missing or damaged one is an error of its own."""
    Image.fromarray(enlarge(Dataset.load(finished.folder / "test.npz").images[0])).save(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("not a picture")
    names = ("text.png", "photo.png", "none.png", "photo.png")
    result = digits("predict", "--endpoint", predictor.url, *names)
    assert result.code == 1
    assert result.out.count("photo.png") == 2
    assert "text.png: expected a picture" in result.err
    assert "cannot read 'none.png': No such file" in result.err
    assert "2 of 4 pictures have no answer" in result.err
    result = digits("predict", "--endpoint", predictor.url, *names, "--json")
    assert result.code == 1
    assert [("error" in row, row["picture"]) for row in result.json["predictions"]] == [
        (name != "photo.png", name) for name in names
    ]
    assert result.json["release"] == finished.version


def test_an_endpoint_that_ends_meanwhile_costs_no_earlier_answer(
    digits: Digits, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --json, the one object has the answers before the error, and the error; the exit code is the error's."""
    Image.fromarray(draw(SEVEN)).save(tmp_path / "seven.png")
    names, original, calls = ("seven.png", "seven.png"), client.predict, list[int]()

    def fail_at_the_second(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise EndpointError("the endpoint does not answer", remedy="digits up")
        return original(*arguments, **options)

    monkeypatch.setattr(client, "predict", fail_at_the_second)
    result = digits("predict", "--endpoint", predictor.url, *names, "--json")
    assert (result.code, result.json["exit_code"]) == (EndpointError.exit_code, EndpointError.exit_code)
    assert (result.json["error"], result.json["remedy"]) == ("the endpoint does not answer", "digits up")
    assert [row["picture"] for row in result.json["predictions"]] == ["seven.png"]
    assert result.json["release"]


def test_only_one_picture_is_in_memory(
    digits: Digits, predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture is read when the one before it has been answered."""
    Image.new("L", (280, 280), 255).save(tmp_path / "blank.png")
    calls: list[str] = []
    original = predict.read_file
    monkeypatch.setattr(predict, "read_file", lambda name: calls.append("read") or original(name))
    monkeypatch.setattr(predict, "_show", lambda *_: calls.append("show"))
    assert digits("predict", "--endpoint", predictor.url, "blank.png", "blank.png").code == 0
    assert calls == ["read", "show", "read", "show"]


def test_a_name_cannot_control_the_terminal(digits: Digits, predictor: Predictor, tmp_path: Path) -> None:
    """Line breaks and escape sequences in the name of a picture are replaced in answers and errors."""
    bad, text = "a\nb\x1b[31m.png", "c\nd\x1b[2J.png"
    Image.new("L", (280, 280), 255).save(tmp_path / bad, "png")
    (tmp_path / text).write_text("not a picture")
    result = digits("predict", "--endpoint", predictor.url, bad, text)
    assert "a\ufffdb\ufffd[31m.png is empty\n" in result.out
    assert "c\ufffdd\ufffd[2J.png: expected a picture" in result.err


TASK = """
name = "paints"
labels = ["red", "light green", "blue"]
[image]
height = 12
width = 16
channels = 3
[data]
place = "pictures"
"""


def test_a_picture_of_another_task_is_recognised(digits: Digits, tmp_path: Path) -> None:
    """Files and test images of a task in colour are answered with its labels; a changed task has other test images."""
    (tmp_path / "paints.toml").write_text(TASK)
    random = np.random.default_rng(0)
    for channel, label in enumerate(("red", "light green", "blue")):
        (folder := tmp_path / "pictures" / label).mkdir(parents=True)
        for number in range(10):
            picture = np.zeros((30, 40, 3), np.uint8)
            picture[..., channel] = random.integers(100, 256, (30, 40))
            Image.fromarray(picture).save(folder / f"{number}.png")
    settings = Settings(home=tmp_path / "home", task=str(tmp_path / "paints.toml"))
    slot = ModelSlot()
    manifest = {"version": "1", "digest": "0" * 64, "task": settings.declaration.text(), "mlflow_run": ""}
    manifest |= {"metrics": {"accuracy": 1.0}, "data": {"dataset": "paints", "source": "s"}}
    slot.swap(LoadedModel(manifest, lambda pixels: pixels.mean((1, 2)) / pixels.mean((1, 2)).sum(1, keepdims=True)))
    Image.new("RGB", (90, 60), (90, 10, 0)).save(tmp_path / "photo.jpg")
    with http_server(PredictApp(slot, "paints", {}).listener) as address:
        given = ("predict", "--endpoint", f"http://{address}", "photo.jpg", "0")
        shown, answer = digits(*given, on=settings), digits(*given, "--json", on=settings).json
        (tmp_path / "paints.toml").write_text(TASK.replace('"red", "light green"', '"light green", "red"'))
        changed = Settings(home=tmp_path / "home", task=str(tmp_path / "paints.toml"))
        refused, read = digits("predict", *given[1:3], "0", on=changed), digits(*given[:4], "--json", on=changed)
    assert refused.code == 2
    assert "other images or labels than the task paints" in " ".join(refused.err.split())
    assert read.json["predictions"][0]["label"] == "red"
    photo, test = answer["predictions"]
    assert (photo["label"], photo["class"], photo["verdict"]) == ("red", 0, "sure")
    assert len(photo["probabilities"]) == 3
    assert "expected" not in photo
    assert test["label"] == test["expected"]
    assert test["label"] in settings.declaration.labels
    assert 'photo.jpg is "red"   (red: ' in shown.out
    assert f"(label {test['expected']})" in shown.out
    assert shown.err == ""

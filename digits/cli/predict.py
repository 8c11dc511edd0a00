"""`digits predict`."""

from __future__ import annotations

import contextlib
import shutil
import sys
from dataclasses import replace
from typing import Any

import click
import numpy as np

from digits.cli.common import backend_option, emit, json_option
from digits.cli.inputs import Picture, check_names, is_number, load_test_images, read_file, read_picture
from digits.data.dataset import Images
from digits.data.number import decide, images_of
from digits.errors import DataError, DigitsError, EndpointError, UsageError, one_line
from digits.evaluation.verdict import Verdict, class_text, is_sure, judge
from digits.remedies import remedy
from digits.settings import Settings
from digits.tasks.task import Task

BLOCKS = " ▀▄█"
_COLUMNS = 23  # of a digit and the gap after it


@click.command()
@click.argument("pictures", nargs=-1, required=True)
@click.option("--endpoint", help="Address of the endpoint.  [the deployed one]")
@backend_option("Backend whose endpoint is used.  [process]")
@json_option
def predict(pictures: tuple[str, ...], endpoint: str | None, as_json: bool) -> None:
    """Recognise PICTURES with the deployed model.

    A picture is a PNG, JPEG, GIF, BMP, WebP, TIFF or PPM file that shows a digit or a number, or the number of a
    test image of the data set that the model was trained on. A photo or scan may show edges, rules, shadows and a
    table, too. With another task, a picture shows one of its classes.

    A picture that cannot be read is an error, and the others are answered nevertheless.

    \b
    digits predict photo.png scan.jpg
    digits predict 0 1 2
    """
    from digits.serving import client

    settings = Settings.load()
    check_names(pictures)
    endpoint = endpoint or _find_endpoint(settings)
    metadata = _metadata(endpoint, settings)
    task = client.task_of(metadata) or settings.declaration
    test = load_test_images(settings, endpoint, task) if any(map(is_number, pictures)) else None
    rows, releases, failed = list[dict[str, Any]](), dict[str, None](), list[DigitsError]()

    def answered() -> dict[str, Any]:
        return {"predictions": rows, "release": ", ".join(releases) or str(metadata.get("release") or "")}

    for name in pictures:  # one after the other, because all of them may not fit into memory
        try:
            picture = test.picture(name) if test and is_number(name) else read_picture(task, name, read_file(name))
        except (DataError, UsageError) as exc:
            if len(pictures) == 1:
                raise
            failed.append(exc)
            rows.append({"picture": name, "error": exc.message})
            if not as_json:
                click.echo(f"{click.style('error:', fg='red', bold=True)} {exc}\n", err=True)
            continue
        answers, release = list[Any](), metadata.get("release")
        if images := images_of(picture.digits):
            try:
                answer = client.predict(endpoint, np.stack(images), settings, task=task)
            except DigitsError as exc:  # the answers until then are printed with it
                exc.partial = answered() if rows else {}
                raise
            answers, release = list(answer.probabilities), answer.release
            releases[release] = None
            if metadata and metadata.get("release") != release:  # another one was promoted
                metadata = _metadata(endpoint, settings)
        threshold = client.sure_from(metadata) if metadata.get("release") == release else None
        digits, shares = decide(picture.digits, answers)
        picture = replace(picture, digits=digits)
        verdict = judge(shares, [digit.doubtful for digit in picture.digits], threshold, task)
        row = _describe(task, name, picture, shares, verdict, threshold)
        rows.append(row)
        if not as_json:
            _show(task, picture, verdict, row)
    if as_json:
        emit(answered())
    if failed:
        click.echo(f"{len(failed)} of {len(pictures)} pictures have no answer", err=True)
        sys.exit(failed[0].exit_code)


def _metadata(endpoint: str, settings: Settings) -> dict[str, Any]:
    from digits.serving import client

    with contextlib.suppress(EndpointError):  # other servers of the model have no metadata
        return client.metadata(endpoint, settings)
    return {}


def _describe(
    task: Task, name: str, picture: Picture, shares: list[Any], verdict: Verdict, threshold: float | None
) -> dict[str, Any]:
    """Return the answer for a picture. "class" and "probabilities" are those of a single digit.

    "label" is the right digit of a test image; for other tasks it is the answer's label, and "expected" the right one.
    """
    digits = [
        {
            "class": int(each.argmax()),
            "probabilities": [round(float(p), 6) for p in each],
            "verdict": "sure" if is_sure(each, digit.doubtful, threshold) else "unsure",
            "box": [round(side, 4) for side in digit.box],
        }
        for digit, each in zip(picture.digits, shares, strict=True)
    ]
    single = digits[0] if len(digits) == 1 else {"class": None, "probabilities": None}
    row = {
        "picture": name,
        "class": single["class"],
        "number": "".join(task.labels[int(each.argmax())] for each in shares),
        "probabilities": single["probabilities"],
        "verdict": verdict.state,
        "digits": digits,
    }
    if not task.is_number:
        row["label"] = row["number"] or None
    if picture.label is None:
        return row
    return row | ({"label": picture.label} if task.is_number else {"expected": task.labels[picture.label]})


def _show(task: Task, picture: Picture, verdict: Verdict, row: dict[str, Any]) -> None:
    if verdict.state == "empty":
        click.echo(f"{one_line(picture.name)} is empty\n")
        return
    digits = row["digits"]
    if len(digits) == 1:
        likely = sorted(enumerate(row["probabilities"]), key=lambda pair: -pair[1])[:3]
        shares = "   (" + "   ".join(f"{task.labels[digit]}: {share:.2%}" for digit, share in likely) + ")"
        number, marks = class_text(row["class"], task), [""]
    else:
        shares, number = "", row["number"]
        marks = [f"{d['class']}{'' if d['verdict'] == 'sure' else '?'} {max(d['probabilities']):.0%}" for d in digits]
    if verdict.state == "sure":
        result = f" is {number}"
    else:
        doubt = verdict.text.removeprefix("Not sure: ").removesuffix(".")
        result = f": not sure: {doubt[0].lower()}{doubt[1:]}"
    label = "" if picture.label is None else f" (label {task.labels[picture.label]})"
    drawings = picture.digits if task.reading == "pen" else []
    drawn = [_draw(digit.image, mark) for digit, mark in zip(drawings, marks, strict=False)]
    per_line = max(1, (shutil.get_terminal_size().columns + 3) // _COLUMNS)
    for start in range(0, len(drawn), per_line):
        lines = ["   ".join(parts).rstrip() for parts in zip(*drawn[start : start + per_line], strict=True)]
        click.echo("\n".join(lines).strip("\n"))
    click.echo(f"{click.style(one_line(picture.name) + result, bold=True)}{label}{shares}\n")


def _draw(image: Images, mark: str) -> list[str]:
    """Return lines that show an image, uint8 (height, width), with half blocks, without empty columns, and its mark."""
    dark = np.pad(image > 96, ((0, len(image) % 2), (0, 0)))
    columns = np.flatnonzero(dark.any(axis=0))
    dark = dark[:, columns[0] : columns[-1] + 1] if len(columns) else dark
    lines = [
        "".join(BLOCKS[int(top) + 2 * int(bottom)] for top, bottom in zip(*dark[row : row + 2], strict=True))
        for row in range(0, len(dark), 2)
    ]
    width = max(dark.shape[1], len(mark))
    return [line.center(width) for line in [*lines, mark]]


def _find_endpoint(settings: Settings) -> str:
    """Return the address of the backend's endpoint.

    Raises:
        EndpointError: nothing is served.
    """
    from backends import open_backend
    from digits.release import ledger
    from digits.store import open_store

    with contextlib.closing(open_backend(settings)) as backend:
        if endpoint := backend.endpoint():
            return endpoint
        if settings.backend == "process" and (champion := ledger.champion(open_store(backend.host_settings()))):
            raise EndpointError(
                f"nothing is served; the champion is {champion}",
                remedy="digits run, which serves it and reuses cached steps; or digits serve",
            )
    path = settings.home / "kubeconfig"
    raise EndpointError("no endpoint is known here", remedy=remedy("no endpoint", settings.backend, path=path))

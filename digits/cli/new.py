"""`digits new`."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from digits.cli.common import emit, json_option
from digits.errors import UsageError, one_line
from digits.files import check_output, user_path, write_output
from digits.tasks.task import built_in_names, find

if TYPE_CHECKING:
    from digits.data.survey import Survey

MAX_CLASSES = 40  # rows of the table
PEN_SIDE = 28  # pixels of images of drawings, whose form is MNIST's


@click.command()
@click.argument("name")
@click.argument("place", metavar="FOLDER")
@click.option("--output", help="File to write.  [NAME.toml]")
@click.option("--pen", is_flag=True, help="The pictures show drawings; only their ink counts.")
@json_option
def new(name: str, place: str, output: str | None, pen: bool, as_json: bool) -> None:
    """Write the task file NAME.toml for a data set of your own.

    FOLDER has a folder of pictures for each class, or these folders in `train` and `test`. It may also be a ZIP file of
    them, or IDX, NPZ or CSV files. The pictures are looked at, but not changed.

    \b
    digits new flowers ~/pictures/flowers
    digits run --task flowers.toml
    """
    from digits.data.survey import check_arrays, survey

    path, source = user_path(output or f"{name}.toml"), user_path(place).absolute()
    if name in built_in_names():
        raise UsageError(f"{name} is a built-in task", remedy="choose another NAME")
    if "://" in place:
        raise UsageError(
            f"expected a FOLDER or file of this machine, got {place}", remedy="copy the pictures to a folder"
        )
    if os.path.lexists(path):
        raise UsageError(f"{path} exists already", remedy="choose another NAME or --output, or remove the file")
    place = _place(source, path.absolute().parent)
    check_output(path)  # before the pictures are read
    found = survey(source, lambda labels: _check(name, labels, place))
    value = _declare(name, found, place, pen)
    if found.format in {"npz", "csv"}:
        check_arrays(find(json.dumps(value)), source)
    write_output(path, _to_toml(value, found).encode())
    if as_json:
        emit({"task": str(path.absolute()), **value, "counts": found.counts, "warnings": found.warnings})
        return
    _show(found)
    image = value["image"]
    size = f"{image['width']} x {image['height']} pixels, {'colour' if image['channels'] == 3 else 'grey'}"
    click.echo(
        f"\nwrote {click.style(one_line(str(path)), bold=True)}: images of {size}. Change it as you like; then\n"
    )
    click.echo(f"    digits run --task {one_line(shlex.quote(str(path)))}")


def _check(name: str, labels: list[str], place: str) -> None:
    """Raise UsageError for a name, a label or a place that no task may have."""
    image = {"height": PEN_SIDE, "width": PEN_SIDE}
    try:
        find(json.dumps({"name": name, "labels": labels, "image": image, "data": {"place": place}}))
    except UsageError as exc:
        raise UsageError(
            exc.message.removeprefix("the task's text: "),
            remedy="choose another NAME, or rename the folder of the class",
        ) from exc


def _declare(name: str, found: Survey, place: str, pen: bool) -> dict[str, Any]:
    """Return the content of the task file."""
    height, width, channels = found.height, found.width, found.channels
    if pen:
        height, width = (PEN_SIDE, PEN_SIDE) if found.format == "folder" else (height, width)
        channels = 1
    image = {"height": height, "width": width, "channels": channels, "reading": "pen" if pen else "photo"}
    data: dict[str, Any] = {"format": found.format, "place": place}
    return {"name": name, "labels": list(found.counts), "image": image, "data": data}


def _place(source: Path, folder: Path) -> str:
    """Return the place of the data, relative to the folder of the task file if it is in there."""
    if not source.is_relative_to(folder):
        return str(source)
    name = source.relative_to(folder).as_posix()
    return f"./{name}" if ":" in name or name.startswith("~") else name  # not an address or another user's folder


def _to_toml(value: dict[str, Any], found: Survey) -> str:
    """Return the text of a task file. Texts in JSON are texts in TOML, which have no DEL, however."""
    labels = "".join(f"    {json.dumps(label, ensure_ascii=False)},\n" for label in value["labels"])
    lines = [
        f"# {sum(found.counts.values())} pictures of {found.sizes} pixels. docs/your-images.md describes all keys.",
        f"name = {json.dumps(value['name'])}",
        f"labels = [\n{labels}]",
    ]
    for table in ("image", "data"):
        lines.append(f"\n[{table}]")
        lines += [f"{key} = {json.dumps(entry, ensure_ascii=False)}" for key, entry in value[table].items()]
    if not found.tested:
        lines.append("test_share = 0.15  # held out for the test")
    return "\n".join(lines).replace("\x7f", "\\u007f") + "\n"


def _show(found: Survey) -> None:
    """Print the classes, the sizes and what may be wrong."""
    width = max(map(len, found.counts))
    for label, count in list(found.counts.items())[:MAX_CLASSES]:
        click.echo(f"  {label:{width}}  {count:>7,}")
    if len(found.counts) > MAX_CLASSES:
        click.echo(f"  and {len(found.counts) - MAX_CLASSES} more classes")
    tested = f", {found.tested:,} of them to test" if found.tested else ""
    click.echo(
        f"  {sum(found.counts.values()):,} pictures of {len(found.counts)} classes{tested}; {found.sizes} pixels"
    )
    for warning in found.warnings:
        click.echo(f"{click.style('!', fg='yellow')} {warning}")

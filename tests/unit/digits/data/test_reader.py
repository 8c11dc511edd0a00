"""The model's input from a picture, for tasks of all kinds."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import ExifTags, Image

from digits.data.dataset import Dataset
from digits.data.number import INK_SIDE, split
from digits.data.pictures import read_ink
from digits.data.reader import as_drawings, read_image, read_images
from digits.errors import DataError
from digits.tasks.task import Source, Task, find

COLOUR = Task("shapes", ("circle", "square"), 32, 48, 3, "photo", False, Source("folder"))
GREY = dataclasses.replace(COLOUR, channels=1)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return file


def drawn(numbers: int = 1) -> Image.Image:
    """Upright strokes side by side, as a number of ones."""
    ink = np.full((120, 80 * numbers), 255, np.uint8)
    for each in range(numbers):
        ink[20:100, 80 * each + 36 : 80 * each + 44] = 0
    return Image.fromarray(ink)


def test_the_digits_task_reads_numbers() -> None:
    """For the task digits, the result equals the digits of the number."""
    picture = drawn(3)
    read = read_images(find("digits"), encoded(picture))
    assert len(read) == 3
    ink, doubtful = read_ink(encoded(picture))
    for one, other in zip(read, split(ink, doubtful=doubtful), strict=True):
        assert np.array_equal(one.image, other.image)
        assert (one.box, one.doubtful) == (other.box, other.doubtful)


@pytest.mark.parametrize("side", [16, 28, 40])
def test_a_drawing_is_scaled_to_the_task(side: int) -> None:
    """A drawing of another task is one image of its size, with the strokes in the middle; without ink there is none."""
    task = dataclasses.replace(find("digits"), name="letters", labels=("I", "O"), height=side, width=side + 8)
    (read,) = read_images(task, encoded(drawn(2)))
    assert (read.image.shape, read.image.dtype) == ((side, side + 8), np.uint8)
    assert read.image.max() > 150
    assert not read.image[:, :4].any()
    assert np.array_equal(read_image(task, encoded(drawn(2))), read.image)
    blank = Image.new("L", (80, 80), 255)
    assert read_images(task, encoded(blank)) == []
    assert read_image(task, encoded(blank)) is None


@pytest.mark.parametrize("task", [COLOUR, GREY], ids=["colour", "grey"])
def test_a_photo_of_the_tasks_size_is_unchanged(task: Task) -> None:
    """A picture that has the task's size and channels already is the image itself."""
    pixels = np.random.default_rng(1).integers(0, 256, task.shape, np.uint8)
    (read,) = read_images(task, encoded(Image.fromarray(pixels)))
    assert np.array_equal(read.image, pixels)
    assert read.box == (0, 0, 1, 1)


@pytest.mark.parametrize(("size", "box"), [((480, 480), (0, 1 / 6, 1, 5 / 6)), ((960, 320), (0.25, 0, 0.75, 1))])
def test_a_photo_is_cut_to_the_aspect_ratio(size: tuple[int, int], box: tuple[float, ...]) -> None:
    """The middle of the picture is used, and `box` and `ink` show which part."""
    (read,) = read_images(COLOUR, encoded(Image.new("RGB", size, (200, 30, 60))))
    assert read.image.shape == (32, 48, 3)
    assert read.image.reshape(-1, 3).tolist() == [[200, 30, 60]] * (32 * 48)
    assert read.box == pytest.approx(box, abs=0.01)
    assert (max(read.ink.shape), read.ink.shape[2]) == (INK_SIDE, 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda red: encoded(red.convert("RGBA")),
        lambda red: encoded(red.convert("P")),
        lambda red: encoded(red, "JPEG", quality=95),
        lambda red: encoded(red, "BMP"),
        lambda red: encoded(red, "WEBP", lossless=True),
    ],
    ids=["alpha", "palette", "jpeg", "bmp", "webp"],
)
def test_formats_and_modes_give_the_same_photo(make: Callable[[Image.Image], io.BytesIO]) -> None:
    """The format and the mode of a file do not change its colours."""
    image = read_image(COLOUR, make(Image.new("RGB", (96, 64), (255, 0, 0))))
    assert image is not None
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 2


def test_transparency_is_white() -> None:
    """The transparent parts of a photo become white."""
    image = read_image(GREY, encoded(Image.new("RGBA", (96, 64), (0, 0, 0, 0))))
    assert image is not None
    assert image.min() == 255


def test_a_photo_is_turned_upright() -> None:
    """The orientation that a camera stored is applied."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    halves = np.zeros((32, 48), np.uint8)
    halves[:16] = 255
    image = read_image(GREY, encoded(Image.fromarray(halves), exif=exif))
    assert image is not None
    assert (image[:16].max(), image[16:].min()) == (0, 255)


def test_fine_detail_is_averaged() -> None:
    """A large picture is filtered when it is scaled, so that fine stripes become grey."""
    stripes = np.zeros((640, 960), np.uint8)
    stripes[:, ::2] = 255
    image = read_image(GREY, encoded(Image.fromarray(stripes)))
    assert image is not None
    assert np.abs(image.astype(int) - 127).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_photo_looks_like_a_small_one(kind: str) -> None:
    """A photo of a camera gives nearly the image of its reduced copy, for the page and for data sets alike."""
    coarse = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 12, 3), np.uint8))
    large, small = (coarse.resize((12 * n, 8 * n), Image.Resampling.BICUBIC) for n in (250, 16))
    images = [read_image(COLOUR, encoded(picture, kind, quality=95)) for picture in (large, small)]
    assert images[0] is not None
    assert images[1] is not None
    assert np.abs(images[0].astype(int) - images[1]).mean() < 3
    assert np.array_equal(read_images(COLOUR, encoded(large, kind, quality=95))[0].image, images[0])


def test_extreme_sides_are_read() -> None:
    """A picture of one pixel on a side is scaled, too."""
    for size in ((1, 1), (1, 500), (500, 1)):
        (read,) = read_images(COLOUR, encoded(Image.new("RGB", size, (9, 9, 9))))
        assert read.image.shape == (32, 48, 3)


@pytest.mark.parametrize("task", [COLOUR, find("digits")], ids=["photo", "pen"])
def test_what_is_no_picture_is_refused(task: Task) -> None:
    """Other content, and a picture with more pixels than allowed, are refused with what was expected."""
    with pytest.raises(DataError, match="expected a picture"):
        read_images(task, io.BytesIO(b"%PDF-1.7"))
    with pytest.raises(DataError, match="expected at most 100 pixels"):
        read_images(task, encoded(Image.new("L", (20, 20))), max_pixels=100)


def test_images_of_a_data_set_are_read_like_drawings() -> None:
    """An image that fills its field and is not centred becomes what the same drawing gives on the page."""
    task = Task("eights", ("one", "two"), 8, 8, 1, "pen", True, Source("npz"))
    filling = np.zeros((1, 8, 8), np.uint8)
    filling[0, :, :2] = 255
    (image,) = as_drawings(task, Dataset(filling, np.zeros(1, np.uint8))).images
    page = np.full((200, 300), 255, np.uint8)
    page[60:140, 140:160] = 0
    (shown,) = read_images(task, encoded(Image.fromarray(page)))
    difference, before = (np.abs(each.astype(int) - shown.image).mean() for each in (image, filling[0]))
    assert difference < before / 3


def test_images_in_mnists_form_stay_as_they_are() -> None:
    """Images of 28 x 28 pixels, and photos, are not changed."""
    for task in (find("digits"), COLOUR):
        dataset = Dataset(np.full((2, *task.shape), 7, np.uint8), np.zeros(2, np.uint8))
        assert as_drawings(task, dataset) is dataset

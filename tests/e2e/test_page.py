"""The page in a real browser, with the real predictor."""

from __future__ import annotations

import asyncio
import base64
import io
import math
import re
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from digits.data import corrections
from digits.store import open_store
from digits.store.file import FileStore
from digits.tasks.task import find
from tests.helpers.asgi_server import asgi_server
from tests.helpers.gateway_requests import coloured, gateway_server
from tests.helpers.page_fixtures import Between, Lab, Open, Site, Visit
from tests.helpers.standin import PAINTS, SURE_OF_3, StandIn, always, by_colour
from tests.helpers.tasks import task_text
from web_app.endpoints import Endpoint
from web_app.gateway import GatewayConfig

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

Stroke = list[tuple[float, float]]


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, steps: int = 24) -> Stroke:
    """Return a part of an ellipse, in degrees clockwise from three o'clock."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


DIGITS: list[list[Stroke]] = [
    [arc(0.5, 0.5, 0.22, 0.36, -90, 270)],
    [[(0.54, 0.15), (0.47, 0.85)]],
    [[*arc(0.48, 0.32, 0.2, 0.18, -170, 30), (0.3, 0.82), (0.72, 0.82)]],
    [arc(0.46, 0.32, 0.19, 0.16, -160, 85) + arc(0.46, 0.65, 0.22, 0.18, -85, 155)],
    [[(0.38, 0.15), (0.3, 0.52), (0.7, 0.5)], [(0.62, 0.2), (0.58, 0.86)]],
    [[(0.66, 0.16), (0.38, 0.16), (0.35, 0.45), *arc(0.46, 0.62, 0.2, 0.2, -110, 150)]],
    [[(0.6, 0.14), *arc(0.48, 0.64, 0.18, 0.2, -160, 190)]],
    [[(0.28, 0.18), (0.7, 0.18), (0.44, 0.86)]],
    [arc(0.5, 0.33, 0.15, 0.16, 80, -260) + arc(0.5, 0.67, 0.18, 0.18, -90, 270)],
    [[*arc(0.47, 0.34, 0.16, 0.17, -20, -340), (0.63, 0.3), (0.6, 0.86)]],
]


@pytest.mark.parametrize("digit", range(10))
def test_reads_each_digit(visit: Open, digit: int) -> None:
    """A digit drawn with the mouse is recognised, with its probabilities, its image, the time and the model."""
    view = visit()
    view.draw(*DIGITS[digit])
    assert view.digit() == str(digit)
    page = view.page
    assert page.locator("#bars .best").inner_text().split()[0] == str(digit)
    shares = [float(text.rstrip(" %")) for text in page.locator("#bars .share").all_inner_texts()]
    assert abs(sum(shares) - 100) < 1
    assert page.locator("#time").inner_text().endswith("ms")
    assert "Accuracy" in page.locator("#model").inner_text()
    ink = page.evaluate("[...document.getElementById('seen').getContext('2d').getImageData(0,0,28,28).data]")
    assert max(ink[0::4]) > 200
    assert view.errors == []


def test_reads_while_drawing(visit: Open, site: Site) -> None:
    """An answer appears before the pen is lifted, without a request for every movement."""
    view = visit()
    box = view.page.locator("#pad").bounding_box()
    view.page.mouse.move(box["x"] + 200, box["y"] + 60)
    view.page.mouse.down()
    began = time.monotonic()
    while time.monotonic() - began < 2:
        view.page.mouse.move(box["x"] + 200, box["y"] + 60 + 270 * (time.monotonic() - began) / 2)
    view.page.wait_for_selector("#digit[data-class='1']")
    assert 1 <= site.between.asked <= (time.monotonic() - began) / 0.12 + 1  # the pause between two (recogniser.js)
    view.page.mouse.up()
    assert view.digit() == "1"


def test_by_touch_on_a_phone(visit: Open) -> None:
    """On a phone 320 pixels wide a finger can draw; nothing is wider than the screen and drawing does not scroll."""
    view = visit(viewport={"width": 320, "height": 640}, has_touch=True, is_mobile=True, device_scale_factor=3)
    page = view.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    touch = page.context.new_cdp_session(page)
    box = page.locator("#pad").bounding_box()
    for stroke in DIGITS[4]:
        for number, (x, y) in enumerate(stroke + stroke[-1:]):
            kind = "touchStart" if number == 0 else "touchMove"
            point = {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]}
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert view.digit() == "4"
    assert page.evaluate("scrollY") == 0
    # A click, not a tap: headless chromium creates no click from a tap that directly follows raw touches.
    page.locator("#labels button").last.click()
    page.locator("#thanks", has_text="Stored").wait_for()


def test_by_keyboard_alone(visit: Open, site: Site) -> None:
    """The keyboard alone can reach the pad, draw, have the answer read out and correct it."""
    view = visit()
    page = view.page
    for _ in range(5):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "pad":
            break
    for key, times in (("ArrowUp", 11), (" ", 1), ("ArrowDown", 22), (" ", 1)):
        for _ in range(times):
            page.keyboard.press(key)
    assert view.digit() == "1"
    assert page.locator("#announced[role=status]").inner_text() == "This is a 1."
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "7":
            break
    page.keyboard.press("Enter")
    page.locator("#thanks", has_text="Stored as a 7").wait_for()
    assert corrections.collect(site.store, limit=10).labels.tolist() == [7]


def test_a_key_that_is_held_down_moves_the_pen_once(visit: Open) -> None:
    """Space that repeats puts the pen down once, and does not scroll the page."""
    page = visit(viewport={"width": 600, "height": 400}).page
    page.focus("#pad")
    before = page.evaluate("scrollY")
    for _ in range(4):
        page.keyboard.down(" ")
    assert page.locator(".marker.down").count() == 1
    assert page.evaluate("scrollY") == before


@pytest.mark.parametrize("key", ["Escape", "Backspace"])
def test_the_keyboards_pen_is_shown_lifted_when_its_stroke_is_removed(visit: Open, key: str) -> None:
    """After a key that clears or undoes, the pen is up, and is shown so."""
    page = visit().page
    page.focus("#pad")
    for each in (" ", "ArrowDown", key):
        page.keyboard.press(each)
    assert page.locator(".marker").is_visible()
    assert page.locator(".marker.down").count() == 0


def test_a_release_outside_the_page_ends_the_stroke(visit: Open) -> None:
    """If the mouse is released where the page gets no event, a movement without a button lifts the pen."""
    view = visit()
    box = view.page.locator("#pad").bounding_box()
    view.page.mouse.move(box["x"] + 150, box["y"] + 60)
    view.page.mouse.down()
    view.page.mouse.move(box["x"] + 150, box["y"] + 330, steps=8)
    moved = "new PointerEvent('pointermove', {pointerId: 1, buttons: 0, clientX: 0, clientY: 0})"
    view.page.evaluate(f"document.getElementById('pad').dispatchEvent({moved})")
    assert view.digit() == "1"


def test_undo_and_clear(visit: Open) -> None:
    """Undo removes the last stroke and requests a new answer; Clear empties the page."""
    view = visit()
    page = view.page
    view.draw(DIGITS[1][0], [(0.1, 0.9), (0.9, 0.9)], [(0.1, 0.1), (0.9, 0.1)])
    page.click("#undo")
    page.click("#undo")
    assert view.digit() == "1"
    page.click("#clear")
    assert page.locator("#verdict").inner_text() == "Nothing is drawn yet."
    assert page.locator("#undo").is_disabled()
    assert page.locator("#correction").is_hidden()
    page.click("#detect")
    assert page.locator("#verdict").inner_text() == "Nothing is drawn yet."


def photo(*strokes: Stroke, size: tuple[int, int] = (1600, 1200), pen: int = 36) -> bytes:
    """Return a photo, as JPEG, of a sheet with dark ruled lines and its edge on a table."""
    width, height = size
    sheet = Image.new("RGB", size, (236, 232, 224))
    brush = ImageDraw.Draw(sheet)
    for y in range(90, height, 140):
        brush.line([(0, y), (width, y + 12)], fill=(120, 130, 170), width=4)
    brush.rectangle((width - 60, 0, width, height), fill=(60, 45, 40))
    left = (width - height) / 2
    for stroke in strokes:
        points = [(left + x * height, 0.1 * height + 0.8 * y * height) for x, y in stroke]
        brush.line(points, fill=(30, 40, 110), width=pen, joint="curve")
    file = io.BytesIO()
    sheet.save(file, "JPEG")
    return file.getvalue()


def give(page: Any, way: str, content: bytes, name: str = "photo.jpg") -> None:
    """Choose, photograph, drop or paste a file."""
    if way in {"file", "photo"}:
        button = {"file": "#choose", "photo": "#camera"}[way]
        with page.expect_file_chooser() as chooser:
            page.click(button)
        chooser.value.set_files({"name": name, "mimeType": "image/jpeg", "buffer": content})
        return
    event = {
        "drop": "new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: files})",
        "paste": "new ClipboardEvent('paste', {bubbles: true, clipboardData: files})",
    }[way]
    page.evaluate(
        f"""([name, content]) => {{
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
            document.getElementById('pad').dispatchEvent({event});
        }}""",
        [name, base64.b64encode(content).decode()],
    )


PHONE = {"viewport": {"width": 390, "height": 840}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


@pytest.mark.parametrize("way", ["file", "photo", "drop", "paste"])
def test_takes_pictures(visit: Open, site: Site, way: str) -> None:
    """A photo that is chosen, taken on a phone, dropped or pasted is shown, read and corrected like a drawing."""
    view = visit(**PHONE if way == "photo" else {})
    page = view.page
    assert page.locator("#camera").is_visible() == (way == "photo")
    if way != "photo":
        view.draw(*DIGITS[1])
        view.digit()
    give(page, way, photo(*DIGITS[7]))
    page.wait_for_selector("#digit[data-class='7']")
    shown = page.evaluate(
        "() => { const c = document.getElementById('pad'), s = c.width / 100;"
        " return [...c.getContext('2d').getImageData(10 * s, 30 * s, 1, 1).data] }"
    )
    assert np.abs(np.array(shown) - [236, 232, 224, 255]).max() < 8
    page.locator("#labels button").nth(2).click()
    page.locator("#thanks", has_text="Stored as a 2").wait_for()
    assert corrections.collect(site.store, limit=10).labels.tolist() == [2]
    page.click("#undo")
    assert page.locator("#verdict").inner_text() == "Nothing is drawn yet."


@pytest.mark.parametrize("shown", ["nothing", "a picture"])
def test_two_fingers_zoom_and_change_nothing(visit: Open, shown: str) -> None:
    """On a phone two fingers zoom on the pad, too, which may fill a zoomed screen; they neither draw nor replace."""
    page = visit(**PHONE).page
    if shown == "a picture":
        give(page, "drop", photo(*DIGITS[7]))
        page.wait_for_selector("#digit[data-class='7']")
    box, session = page.locator("#pad").bounding_box(), page.context.new_cdp_session(page)
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def touch(kind: str, *places: float) -> None:
        points = [{"x": place, "y": y, "id": number} for number, place in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", x - 20)
    touch("touchStart", x - 20, x + 20)
    for step in range(12):
        touch("touchMove", x - 20 - 8 * step, x + 20 + 8 * step)
    touch("touchEnd")
    page.wait_for_function("visualViewport.scale > 1.5")
    if shown == "a picture":
        page.wait_for_selector("#digit[data-class='7']")
        page.wait_for_selector("#correction:not([hidden])")
    assert page.locator("#hint").is_visible() == (shown == "nothing")


def test_refuses_what_is_no_picture(visit: Open) -> None:
    """The page names what is no file, no picture, or a picture without a digit; then drawing works."""
    view = visit()
    page = view.page
    for kind, files in (("DragEvent('drop'", "dataTransfer"), ("ClipboardEvent('paste'", "clipboardData")):
        page.evaluate(
            "const texts = new DataTransfer(); texts.setData('text/html', '<img src=x>');"
            f"const event = new {kind}, {{bubbles: true, cancelable: true, {files}: texts}});"
            "document.getElementById('pad').dispatchEvent(event)"
        )
        page.locator("#announced", has_text="That is no file.").wait_for()
        give(page, "drop", b"no picture", "notes.txt")
        page.locator("#announced", has_text="notes.txt is not a picture").wait_for()
    give(page, "drop", photo())
    page.locator("#announced", has_text="No digit is found in this picture.").wait_for()
    assert page.locator("#correction").is_hidden()
    view.draw(*DIGITS[7])
    assert view.digit() == "7"


def coloured_photo(color: str) -> bytes:
    """Return a photo, as JPEG, whose middle has a colour; the model sees no more of it."""
    picture = Image.new("RGB", (2000, 900), "white")
    ImageDraw.Draw(picture).rectangle((300, 0, 1700, 900), fill=color)
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("way", ["photo", "drop"])
def test_another_tasks_picture_is_recognised_and_corrected(
    visit_at: Open, gallery: tuple[str, FileStore], way: str
) -> None:
    """Without a canvas, a picture is shown, recognised in colour and corrected; a label is text."""
    view = visit_at(gallery[0], **PHONE if way == "photo" else {})
    page = view.page
    page.locator("#title", has_text="Colours").wait_for()
    assert page.locator("#detect, #undo, #pen, #keys").evaluate_all("all => all.map(e => e.offsetParent)") == [None] * 4
    give(page, way, coloured_photo("#00ff00"))
    assert view.digit() == "<b>green</b>"
    assert page.locator("#verdict").inner_text() == 'This is "<b>green</b>".'
    assert page.locator("#bars li").first.inner_text().split()[0] == "<b>green</b>"
    assert page.locator("b").count() == 0
    seen = page.evaluate("[...document.getElementById('seen').getContext('2d').getImageData(16, 12, 1, 1).data]")
    assert seen == pytest.approx([0, 255, 0, 255], abs=4)
    page.locator("#labels button").last.click()
    page.locator("#thanks", has_text="Stored as a rather long name").wait_for()
    assert [(entry.label, entry.answer) for entry in corrections.list_current(gallery[1], PAINTS)] == [(2, 1)]
    page.click("#clear")
    assert page.locator("#verdict").inner_text() == "No picture is chosen yet."
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_where_one_cannot_draw_a_click_on_the_paper_chooses_a_picture(
    visit_at: Open, gallery: tuple[str, FileStore]
) -> None:
    """The pad takes no strokes and is no stop for the keyboard; a click opens the choice of a file."""
    page = visit_at(gallery[0]).page
    page.locator("#title", has_text="Colours").wait_for()
    with page.expect_file_chooser() as chooser:
        page.click("#pad")
    chooser.value.set_files({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": coloured_photo("red")})
    page.wait_for_selector("#digit[data-class='red']")
    assert page.locator("#pad").get_attribute("tabindex") is None


def test_the_page_follows_the_task_of_the_chosen_endpoint(
    visit_at: Open, gallery: tuple[str, FileStore], browser: Any
) -> None:
    """Each endpoint has its own task; only the store's is corrected."""
    with (
        asgi_server(StandIn(always(SURE_OF_3)).app) as digits,
        asgi_server(StandIn(by_colour, PAINTS).app) as colours,
        gateway_server(
            GatewayConfig(Endpoint.parse_all([f"digits={digits}", f"colours={colours}/v2/models/colours"]), gallery[1])
        ) as url,
    ):
        view = visit_at(url)
        page = view.page
        view.draw(*DIGITS[3])
        assert view.digit() == "3"
        page.select_option("#endpoint", "colours")
        page.locator("#title", has_text="Colours").wait_for()
        assert page.locator("#verdict").inner_text() == "No picture is chosen yet."
        give(page, "drop", coloured_photo("red"))
        page.wait_for_selector("#digit[data-class='red']")
        assert page.locator("#correction").is_hidden()
        page.select_option("#endpoint", "digits")
        page.locator("#title", has_text="Digits").wait_for()
        page.click("#clear")
        view.draw(*DIGITS[3])
        assert view.digit() == "3"


def test_the_page_follows_a_release_with_another_image_size(visit_at: Open, tmp_path: Path) -> None:
    """If another visitor's request comes first, the page shows the new release's answer without an error."""
    standin, png = StandIn(by_colour, PAINTS), {"Content-Type": "image/png"}
    with asgi_server(standin.app) as endpoint:
        endpoints = Endpoint.parse_all([f"local={endpoint}"], PAINTS.name)
        with gateway_server(GatewayConfig(endpoints, task=PAINTS)) as url:
            view = visit_at(url)
            page = view.page
            give(page, "drop", coloured_photo("red"))
            page.wait_for_selector("#digit[data-class='red']")
            page.evaluate(
                "states = []; new MutationObserver(() => states.push(document.getElementById('state').dataset.state))"
                ".observe(document.getElementById('state'), {attributes: true})"
            )
            standin.task = task_text(PAINTS.labels, (64, 64, 3))
            standin.release = standin.answering = "v2"
            for _ in range(2):  # the first notices the release
                httpx.post(f"{url}/api/recognise", content=coloured("red"), headers=png, trust_env=False)
            give(page, "drop", coloured_photo("red"))
            page.wait_for_selector("#seen[width='64']")
            page.wait_for_selector("#digit[data-class='red']")
            assert not set(page.evaluate("states")) - {"", "waiting"}


def test_the_page_follows_a_gateway_that_restarts_with_other_endpoints(visit_at: Open, tmp_path: Path) -> None:
    """The new endpoints are offered, and if the chosen one is gone, the drawing is recognised by the first."""
    nine = [float(n == 9) for n in range(10)]
    with asgi_server(StandIn(always(SURE_OF_3)).app) as three, asgi_server(StandIn(always(nine)).app) as other:
        store = FileStore(tmp_path)
        with gateway_server(GatewayConfig((Endpoint("a", three),), store)) as url:
            view = visit_at(url)
            view.draw(*DIGITS[3])
            assert view.digit() == "3"
            assert view.page.locator("#choice").is_hidden()
        endpoints = Endpoint.parse_all([f"b={other}", f"c={three}"])
        with gateway_server(GatewayConfig(endpoints, store), int(url.rsplit(":", 1)[1])):
            view.page.wait_for_selector("#digit[data-class='9']", timeout=30_000)
            assert view.page.locator("#endpoint option").all_inner_texts() == ["b", "c"]
            view.state("")
            view.page.select_option("#endpoint", "c")
            view.page.wait_for_selector("#digit[data-class='3']")


def number(text: str) -> list[Stroke]:
    """Return the strokes of digits side by side."""
    wide = 1 / len(text)
    placed = enumerate(DIGITS[int(digit)] for digit in text)
    return [[((n + x) * wide, 0.5 + (y - 0.5) * wide * 1.2) for x, y in line] for n, lines in placed for line in lines]


def test_reads_a_number(visit: Open, site: Site) -> None:
    """Digits side by side are a number: each is marked on the pad, can be selected, and is corrected."""
    view = visit()
    page = view.page
    page.locator("#pen").fill("3")
    view.draw(*number("407"))
    assert view.digit() == "407"
    box, pad = page.locator("#boxes span").last.bounding_box(), page.locator("#pad").bounding_box()
    middle = (box["x"] + box["width"] / 2 - pad["x"]) / pad["width"]
    assert abs(middle - 0.83) < 0.03
    assert page.locator("#bars .best").inner_text().split()[0] == "4"
    page.locator("#parts button").last.press("Enter")
    assert page.locator("#bars .best").inner_text().split()[0] == "7"
    assert page.locator("#labels").is_hidden()
    page.fill("#number", "40")
    page.keyboard.press("Enter")
    page.locator("#thanks", has_text="expected label with 3 digits").wait_for()
    page.fill("#number", "401")
    page.keyboard.press("Enter")
    page.locator("#thanks", has_text="Stored as 401").wait_for()
    assert sorted(corrections.collect(site.store, limit=10).labels.tolist()) == [0, 1, 4]
    page.click("#clear")
    assert page.locator("#boxes span").count() == page.locator("#parts button").count() == 0


def test_reads_a_number_in_a_photo(visit: Open) -> None:
    """On a phone, each digit of a photographed number is marked where it is, and nothing is wider than the screen."""
    view = visit(**PHONE | {"viewport": {"width": 320, "height": 700}})
    page = view.page
    give(page, "photo", photo(*number("2047"), pen=14))
    page.wait_for_selector("#digit[data-class='2047']")
    boxes, pad = page.locator("#boxes span"), page.locator("#pad").bounding_box()
    middles = [box["x"] + box["width"] / 2 for box in (boxes.nth(n).bounding_box() for n in range(4))]
    share = 1200 / 1600  # the digits are in the middle of the photo's width
    expected = [pad["x"] + pad["width"] * (0.5 + share * ((n + 0.5) / 4 - 0.5)) for n in range(4)]
    assert middles == pytest.approx(expected, abs=8)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


@pytest.mark.parametrize("width", [320, 1280])
def test_a_long_number_covers_no_other_text(visit: Open, width: int) -> None:
    """A number of 16 digits stands above its verdict, within the screen."""
    page = visit(viewport={"width": width, "height": 900}).page
    give(page, "drop", photo(*number("3141592653589793"), size=(3000, 2250), pen=12))
    page.locator("#parts button").nth(15).wait_for()
    digit, verdict = (page.locator(f"#{name}").bounding_box() for name in ("digit", "verdict"))
    assert digit["y"] + digit["height"] <= verdict["y"]
    assert page.evaluate("document.getElementById('digit').scrollWidth") <= digit["width"] + 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("state", ["starting", "busy", "wrong model"])
def test_names_the_state(visit: Open, site: Site, state: str) -> None:
    """The page names the problem of its endpoint, and answers by itself after it has passed."""
    site.between.state = state
    view = visit()
    view.draw(*DIGITS[7])
    view.state(state)
    site.between.state = ""
    assert view.digit() == "7"
    view.state("")


def test_a_busy_endpoint_is_not_hammered(visit: Open, site: Site) -> None:
    """An endpoint that is ready but refuses drawings gets a request every two seconds, and is named meanwhile."""
    site.between.state = "busy"
    view = visit()
    view.draw(*DIGITS[7])
    view.state("busy")
    before = site.between.asked
    view.page.wait_for_timeout(5000)
    assert 1 <= site.between.asked - before <= 4
    view.state("busy")


def test_endpoint_down_and_back(endpoint_url: str, browser: Any) -> None:
    """The page shows that the endpoint is down, without a drawing too, and reads the drawing when it is back."""
    between = Between(endpoint_url)
    with asgi_server(between.app) as url:
        port = int(url.rsplit(":", 1)[1])
    with gateway_server(GatewayConfig((Endpoint("local", url),))) as address:
        view = Visit(browser.new_page())
        view.page.goto(address)
        view.state("unreachable")
        view.draw(*DIGITS[3])
        view.state("unreachable")
        with asgi_server(between.app, port):
            view.state("")
            view.page.wait_for_selector("#digit[data-class='3']", timeout=10_000)
        view.state("unreachable")
        view.page.close()


def test_slow_endpoint(visit: Open, site: Site) -> None:
    """The page shows that it waits and sends nothing else; an answer to a deleted drawing is dropped."""

    async def slowly() -> None:
        await asyncio.sleep(2)

    view = visit()
    view.state("")
    site.between.gate = slowly
    view.draw(*DIGITS[0])
    view.state("waiting")
    view.page.click("#clear")
    site.between.gate = None
    view.draw(*DIGITS[1])
    assert view.digit() == "1"
    view.page.wait_for_timeout(2500)
    assert view.digit() == "1"


def test_one_request_at_a_time(visit: Open, site: Site) -> None:
    """Even if the user draws fast, at most one request is in flight."""
    flying, most = 0, 0

    async def counted() -> None:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.25)
        flying -= 1

    site.between.gate = counted
    view = visit()
    box = view.page.locator("#pad").bounding_box()
    view.page.mouse.move(box["x"] + 200, box["y"] + 60)
    view.page.mouse.down()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        view.page.mouse.move(box["x"] + 200, box["y"] + 60 + 250 * (2 - deadline + time.monotonic()) / 2)
    view.page.mouse.up()
    assert view.digit() == "1"
    assert most == 1


def test_a_late_confirmation_is_for_its_own_drawing(visit: Open, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A correction that is stored late is confirmed on its own drawing, even if that is read again; not on the next."""
    stored = threading.Event()
    put = site.store.put
    monkeypatch.setattr(site.store, "put", lambda key, content: stored.wait(10) and put(key, content))
    view = visit()
    page = view.page
    view.draw(*DIGITS[1])
    view.digit()
    page.locator("#labels button").nth(3).click()
    with page.expect_response("**/api/recognise*"):
        page.click("#detect")
    stored.set()
    page.locator("#thanks", has_text="Stored as a 3").wait_for()
    stored.clear()
    page.locator("#labels button").nth(4).click()
    page.click("#clear")
    view.draw(*DIGITS[1])
    view.digit()
    with page.expect_response("**/api/feedback*"):
        stored.set()
    page.wait_for_timeout(200)
    assert page.locator("#thanks").inner_text() == ""
    assert page.locator("#labels [aria-pressed=true]").count() == 0


def test_a_store_that_hangs_is_reported(visit: Open, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store does not answer in time, the page does not claim that the correction is lost."""
    back = threading.Event()
    monkeypatch.setattr("web_app.gateway.STORE_SECONDS", 0.2)
    monkeypatch.setattr(site.store, "put", lambda key, content: back.wait(60))
    view = visit()
    view.draw(*DIGITS[1])
    view.digit()
    view.page.locator("#labels button").nth(3).click()
    view.page.locator("#thanks", has_text="Not confirmed: the store did not answer").wait_for()
    back.set()


def test_in_a_browser_of_2023(browser: Any, site: Site) -> None:
    """The page works in a browser without AbortSignal.any, such as Safari before 17.4."""
    view = Visit(browser.new_page())
    view.page.add_init_script("delete AbortSignal.any")
    view.page.goto(site.url)
    view.draw(*DIGITS[3])
    assert view.digit() == "3"
    view.page.close()


def test_the_end_of_the_server_is_reported(browser: Any) -> None:
    """If the page's own server ends, the page reports it and does not fail."""
    with gateway_server(GatewayConfig((Endpoint("nowhere", "http://127.0.0.1:1"),))) as address:
        view = Visit(browser.new_page())
        view.page.goto(address)
        view.state("unreachable")
    view.state("gateway unreachable")
    view.page.close()


def test_chooses_among_endpoints(visit: Open) -> None:
    """The endpoints are listed by name; requests go to the selected one."""
    view = visit()
    page = view.page
    page.wait_for_selector("#choice:not([hidden])")
    assert page.locator("#endpoint option").all_inner_texts() == ["local", "nowhere"]
    page.select_option("#endpoint", "nowhere")
    view.state("unreachable")
    page.select_option("#endpoint", "local")
    view.state("")


def axe() -> str:
    """Return the source of axe-core, which a Python package ships."""
    package = pytest.importorskip("axe_playwright_python", reason="the accessibility check needs axe-playwright-python")
    return (Path(package.__file__).parent / "axe.min.js").read_text()


def violations(page: Any) -> list[str]:
    """Return the violations of rules for accessibility that axe-core finds in a page."""
    source = axe()
    page.wait_for_timeout(200)  # the bars' transition
    found = page.evaluate(source + "; axe.run().then(r => r.violations)")
    # Content hidden from screen readers is still visible, but axe-core skips it.
    page.evaluate("document.querySelectorAll('[aria-hidden]').forEach(e => e.removeAttribute('aria-hidden'))")
    found += page.evaluate("axe.run({runOnly: ['color-contrast']}).then(r => r.violations)")
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1000, 320])
def test_accessibility(visit: Open, scheme: str, width: int) -> None:
    """Axe-core finds no violation: empty, with an answer, with a correction, and with an endpoint that is down."""
    view = visit(color_scheme=scheme, viewport={"width": width, "height": 800}, bypass_csp=False)
    page = view.page
    view.state("")
    assert violations(page) == []
    view.draw(*DIGITS[8])
    view.digit()
    assert violations(page) == []
    page.locator("#labels button").nth(3).click()
    page.locator("#thanks", has_text="Stored").wait_for()
    assert violations(page) == []
    page.select_option("#endpoint", "nowhere")
    view.state("unreachable")
    assert violations(page) == []


def test_accessibility_of_another_task(visit_at: Open) -> None:
    """Axe-core finds no violation where one cannot draw and many long labels scroll; nothing is too wide."""
    labels = [f"kind {number} of a thing that has a rather long name" for number in range(200)]
    task = find(task_text(labels, (24, 32, 3)))
    with (
        asgi_server(StandIn(always([0.003] * 100 + [0.7] + [0.0] * 99), task).app) as endpoint,
        gateway_server(GatewayConfig(Endpoint.parse_all([endpoint], task.name), task=task)) as url,
    ):
        page = visit_at(url, viewport={"width": 320, "height": 800}, bypass_csp=False).page
        page.locator("#title", has_text="Colours").wait_for()
        assert violations(page) == []
        give(page, "drop", coloured_photo("red"))
        page.wait_for_selector(f"#digit[data-class='{labels[100]}']")
        assert violations(page) == []
        assert page.locator("#bars li").first.inner_text().startswith(labels[100])
        assert page.locator("#bars").bounding_box()["height"] < 400
        assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_the_status_region_exists_before_its_text(visit: Open, site: Site) -> None:
    """The region for problems exists while it is empty, so that a screen reader reads its text out."""
    view = visit()
    view.state("")
    regions = view.page.get_by_role("status")  # as the accessibility tree has them
    assert "state" in regions.evaluate_all("all => all.map(e => e.id)")
    assert view.page.locator("#state").bounding_box()["height"] == 0
    site.between.state = "starting"
    view.draw(*DIGITS[7])
    view.state("starting")
    assert regions.first.inner_text().startswith("The model is starting.")


def contrast(one: np.ndarray, other: np.ndarray) -> float:
    """Return the contrast (WCAG 2.2) of two colours, RGB in 0..255."""
    shares = np.array([one, other]) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    dark, bright = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((bright + 0.05) / (dark + 0.05))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pad_has_enough_contrast(visit: Open, scheme: str) -> None:
    """The pad's border has a contrast of 3 to the page and to the paper (WCAG 1.4.11), its hint one of 4.5 (1.4.3)."""
    page = visit(color_scheme=scheme).page

    def style(selector: str, name: str) -> np.ndarray:
        value = page.locator(selector).evaluate("(e, name) => getComputedStyle(e)[name]", name)
        return np.array([float(number) for number in re.findall(r"[\d.]+", value)[:3]])

    paper, border = style("#pad", "backgroundColor"), style("#pad", "borderTopColor")
    assert contrast(border, paper) >= 3
    assert contrast(border, style("html", "backgroundColor")) >= 3
    opacity = style("#hint", "opacity")  # axe-core does not check it, because it is above a canvas
    assert contrast(opacity * style("#hint", "color") + (1 - opacity) * paper, paper) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colors(visit: Open, scheme: str) -> None:
    """With forced colours the bars are visible, and so is the selected label with its digit."""
    view = visit(forced_colors="active", color_scheme=scheme)
    page = view.page
    view.draw(*DIGITS[1])
    assert view.digit() == "1"

    def painted(selector: str) -> tuple[np.ndarray, float]:
        """Return the colour in the middle of an element's left half, and the share of other colours in its middle."""
        page.wait_for_timeout(200)  # the bars' transition
        picture = np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB")).astype(int)
        height, width = picture.shape[:2]
        color = picture[height // 2, width // 4]
        middle = picture[height // 4 : -height // 4, width // 4 : -width // 4]
        return color, float((np.abs(middle - color).sum(axis=2) > 200).mean())

    full, empty = (painted(f"#bars li:nth-child({n}) .track")[0] for n in (2, 7))
    assert contrast(full, empty) >= 3
    plain, digit = painted("#labels button:nth-child(4)")
    page.locator("#labels button").nth(3).click()
    page.locator("#thanks", has_text="Stored").wait_for()
    page.mouse.move(0, 0)
    chosen, still = painted("#labels button:nth-child(4)")
    assert contrast(chosen, plain) >= 3
    assert digit / 2 < still < digit * 2


def test_the_content_policy_is_enforced(visit: Open) -> None:
    """The browser refuses inline scripts and other origins: a server that would answer gets no request."""
    paths = []

    async def answer(request: Request) -> Response:
        paths.append(request.url.path)
        return Response("here", headers={"Access-Control-Allow-Origin": "*"}, media_type="text/html")

    view = visit()
    elsewhere = Starlette(routes=[Route("/{path:path}", answer)])
    with asgi_server(elsewhere) as address, asgi_server(elsewhere) as without_a_policy:
        fetch = f"path => fetch('{address}/' + path).then(() => 'fetched', () => 'refused')"
        assert view.page.evaluate(fetch, "from-ours") == "refused"
        another = view.page.context.new_page()
        another.goto(without_a_policy)
        assert another.evaluate(fetch, "from-another") == "fetched"
    assert "/from-another" in paths
    assert "/from-ours" not in paths
    assert (
        view.page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.ran = 1';"
            " document.body.append(s); return window.ran ?? 0; }"
        )
        == 0
    )
    view.errors.clear()
    view.origins.discard(address)


def mirrored_three(number: int) -> list[Stroke]:
    """Return a mirrored 3, slightly different for each number, which is not in MNIST."""
    lean, wide = 0.02 * (number % 4), 1 + 0.06 * (number % 3)
    return [[(0.5 - (x - 0.5) * wide + lean * (y - 0.5), y) for x, y in stroke] for stroke in DIGITS[3]]


@pytest.mark.slow
def test_learns_from_corrections(browser: Any, lab: Lab) -> None:
    """Unusual digits that the champion misreads are read correctly after corrections and a run; accuracy stays."""
    before = lab.run("--epochs", "2")
    store = open_store(lab.settings())
    with gateway_server(GatewayConfig((Endpoint("local", before["endpoint"]),), store)) as address:
        view = Visit(browser.new_page())
        view.page.goto(address)

        def read(correct: bool) -> int:
            successes = 0
            for number in range(12):
                if number:
                    view.page.click("#clear")
                view.draw(*mirrored_three(number))
                digit = view.digit()
                successes += digit == "3"
                if correct and digit != "3":
                    view.page.locator("#labels button").nth(3).click()
                    view.page.locator("#thanks", has_text="Stored").wait_for()
            view.page.click("#clear")
            return successes

        wrong = 12 - read(correct=True)
        assert wrong >= 3, "the champion already reads these drawings correctly"
        assert len(corrections.collect(store, limit=100)) >= 3
        after = lab.run("--epochs", "3")  # more than before, so that the gate's chance does not decide
        assert after["data"]["feedback"]["count"] >= 3
        assert after["accuracy"] >= before["accuracy"] - 0.005
        assert after["promoted"], after["why"]
        # The page shows the new release without any input.
        view.page.locator("#model", has_text=after["release"]).wait_for(timeout=20_000)
        assert read(correct=False) == 12
        view.page.close()

"""The documents' pictures, from the real page: docs/pictures/page.png and drawing.gif.

    digits up --no-open &
    python dev/screenshots.py http://127.0.0.1:8000

With --states FOLDER it also takes one picture of every state for a look over.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT = 960, 740
LARGEST_GIF = 500_000

# A 2 with a loop and a flat foot, as a hand would draw it; 0..1 of the pad.
TWO = [
    *[(0.5 + 0.2 * math.cos(a / 20), 0.33 + 0.17 * math.sin(a / 20)) for a in range(-60, 14, 2)],
    *[(0.652 - 0.33 * t, 0.44 + 0.37 * t**0.9) for t in (i / 24 for i in range(1, 25))],
    *[(0.322 + 0.4 * t, 0.81 - 0.03 * math.sin(3.1 * t)) for t in (i / 24 for i in range(1, 25))],
]


def draw(page: Page, points: list[tuple[float, float]], after: Any = None) -> None:
    """Draw one stroke; `after` is called now and then while it grows."""
    box = page.locator("#pad").bounding_box()
    assert box is not None
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if number == 0:
            page.mouse.down()
        if after and number % 5 == 4:
            after()
    page.mouse.up()
    page.wait_for_selector("#correction:not([hidden])")
    page.mouse.move(0, 0)
    page.wait_for_timeout(250)


def still(browser: Any, address: str) -> None:
    """The page with a digit read."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=2)
    page.goto(address)
    draw(page, TWO)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    picture.convert("RGB").quantize(128, method=Image.Quantize.MEDIANCUT).save(PICTURES / "page.png", optimize=True)
    page.close()


def animation(browser: Any, address: str) -> None:
    """The drawing of a digit, and the answer that grows with it."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(address)
    page.wait_for_selector("#model div")
    frames: list[Image.Image] = []

    def shoot() -> None:
        page.wait_for_timeout(160)  # the live answer
        frame = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        frames.append(frame.resize((WIDTH * 3 // 4, HEIGHT * 3 // 4), Image.Resampling.LANCZOS))

    shoot()
    draw(page, TWO, shoot)
    shoot()
    palette = frames[-1].quantize(64)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [700] + [130] * (len(small) - 2) + [2500]
    path = PICTURES / "drawing.gif"
    small[0].save(path, save_all=True, append_images=small[1:], duration=times, loop=0, optimize=True)
    assert path.stat().st_size < LARGEST_GIF, f"{path} has {path.stat().st_size} bytes"
    page.close()


def states(browser: Any, address: str, folder: Path) -> None:
    """Every state once, light and dark, wide and narrow."""
    folder.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        for width in (WIDTH, 320):
            context = browser.new_context(
                viewport={"width": width, "height": HEIGHT}, color_scheme=scheme, has_touch=width == 320
            )
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("#model div")

            def take(state: str, page: Page = page, end: str = f"{scheme}-{width}.png") -> None:
                page.wait_for_timeout(250)
                page.screenshot(path=folder / f"{state}-{end}", full_page=True)

            take("empty")
            draw(page, TWO)
            take("answer")
            page.locator("#labels button").nth(2).click()
            page.locator("#thanks", has_text="Stored").wait_for()
            take("corrected")
            page.click("#clear")
            draw(page, [(0.25, 0.2), (0.25, 0.8)])
            draw(page, [(0.75, 0.2), (0.75, 0.8)])
            take("several")
            page.click("#clear")
            draw(page, [(0.3, 0.3), (0.7, 0.6), (0.3, 0.75), (0.6, 0.2), (0.5, 0.8)])
            take("scribble")
            page.route("**/api/**", lambda route: route.abort())
            page.click("#detect")
            page.wait_for_selector("#state:not(:empty)")
            take("gone")
            context.close()


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("address")
    parser.add_argument("--states", type=Path)
    given = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        if given.states:
            states(browser, given.address, given.states)
        else:
            still(browser, given.address)
            animation(browser, given.address)
        browser.close()


if __name__ == "__main__":
    main()

"""How well and how fast the page reads: MNIST's test digits drawn on it with the mouse, in a real browser.

    python dev/bench/page.py http://127.0.0.1:8000 http://127.0.0.1:8080 ../shared/mnist --count 200

Prints one JSON object: the share recognised as the endpoint recognises the original picture, the share right,
and the time from the pen's lifting to the answer shown.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import sync_playwright
from strokes import Stroke, mnist, strokes_of

WATCH = """() => {
  const pad = document.getElementById("pad"), shown = document.getElementById("time");
  window.answers = 0;
  pad.addEventListener("pointerup", () => { window.lifted = performance.now(); }, true);
  new MutationObserver(() => { window.took = performance.now() - window.lifted; window.answers += 1; })
    .observe(document.getElementById("verdict").parentNode, { subtree: true, childList: true, characterData: true });
}"""


def original_answers(endpoint: str, images: np.ndarray[Any, Any]) -> list[int]:
    """Return the endpoint's answers for MNIST's own images."""
    given = {"name": "image", "shape": list(images.shape), "datatype": "UINT8", "data": images.ravel().tolist()}
    answer = httpx.post(f"{endpoint}/v2/models/digits/infer", json={"inputs": [given]}, timeout=60).raise_for_status()
    return next(o["data"] for o in answer.json()["outputs"] if o["name"] == "class")


def draw(page: Any, strokes: list[Stroke], *, size: float) -> None:
    """Draw strokes with the mouse, `size` of the pad's side large."""
    box = page.locator("#pad").bounding_box()
    at = [[(box["x"] + box["width"] * (0.5 + (x - 0.5) * size), box["y"] + box["height"] * (0.5 + (y - 0.5) * size))
           for x, y in stroke] for stroke in strokes]  # fmt: skip
    for points in at:
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point)
        page.mouse.up()


def measure(address: str, endpoint: str, folder: Path, *, count: int, pen: float, size: float) -> dict[str, Any]:
    """Replay `count` digits; see the module."""
    images, labels = mnist(folder, "t10k")
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    expected = [original_answers(endpoint, images[i : i + 1])[0] for i in chosen]
    same, right, times, sure, wrong = 0, 0, [], 0, []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        page = browser.new_page(viewport={"width": 1000, "height": 800})
        page.goto(address)
        page.evaluate(WATCH)
        page.locator("#pen").fill(str(pen))
        for index, answer in zip(chosen, expected, strict=True):
            page.locator("#clear").dispatch_event("click")
            draw(page, strokes_of(images[index]), size=size)
            page.wait_for_selector("#correction:not([hidden])", timeout=5000)
            digit = page.locator("#digit")
            said = int(digit.get_attribute("data-class") or -1)
            sure += digit.get_attribute("data-state") == "sure"
            same += said == answer
            right += said == labels[index]
            times.append(page.evaluate("window.took"))
            if said != answer:
                wrong.append([int(index), int(answer), said])
        browser.close()
    return {
        "count": count,
        "pen_percent": pen,
        "as_the_original": same / count,
        "right": right / count,
        "sure": sure / count,
        "median_milliseconds": round(statistics.median(times), 1),
        "p95_milliseconds": round(float(np.percentile(times, 95)), 1),
        "differ": wrong,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("address", help="of the page")
    parser.add_argument("endpoint", help="the KServe endpoint that the page uses")
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--pen", type=float, default=5)
    parser.add_argument("--size", type=float, default=1.0)
    given = parser.parse_args()
    print(
        json.dumps(
            measure(given.address, given.endpoint, given.mnist, count=given.count, pen=given.pen, size=given.size)
        )
    )

"""The page in a real browser, before the real predictor: fixtures.

The predictor is that of a pipeline run in a temporary home; DIGITS_TEST_ENDPOINT names another one to test the page
against (the predictor's container, a port-forwarded InferenceService).
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from digits.settings import Settings
from digits.store.file import FileStore
from tests.helpers.asgi_server import asgi_server
from tests.helpers.gateway_requests import gateway_server
from tests.helpers.standin import PAINTS, StandIn, by_colour
from tests.helpers.support import missing
from web_app.endpoints import Endpoint
from web_app.gateway import GatewayConfig

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUN_SECONDS = 600


@dataclass(frozen=True)
class Lab:
    """A home of its own, in which the pipeline can be run."""

    home: Path

    def run(self, *options: str) -> dict[str, Any]:
        """`digits run --json` with these options; its answer."""
        command = [sys.executable, "-m", "digits", "run", "--json", *options]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return answer

    def environment(self) -> dict[str, str]:
        """The process's, with our home and MNIST."""
        nearby = ROOT.parent / "shared" / "mnist"
        data = os.environ.get("DIGITS_DATA") or (str(nearby) if nearby.is_dir() else "")
        return os.environ | {"DIGITS_HOME": str(self.home), "DIGITS_DATA": data, "PYTHONPATH": str(ROOT)}

    def settings(self) -> Settings:
        """The settings of that home."""
        return Settings.load(self.environment(), dotenv=None)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    from backends.process import predictor

    lab = Lab(tmp_path_factory.mktemp("home"))
    yield lab
    predictor.stop_all(lab.settings())


@pytest.fixture(scope="session")
def endpoint_url(request: pytest.FixtureRequest) -> str:
    """A real predictor that serves a real champion."""
    if given := os.environ.get("DIGITS_TEST_ENDPOINT"):
        return given
    lab: Lab = request.getfixturevalue("lab")
    return str(lab.run("--epochs", "2")["endpoint"])


class Between:
    """Stands between the gateway and the predictor, and can make it slow, starting or busy."""

    def __init__(self, url: str) -> None:
        self.url, self.state, self.asked = url, "", 0
        self.gate: Callable[[], Any] | None = None
        self.app = Starlette(routes=[Route("/{path:path}", self.forward, methods=["GET", "POST"])])

    async def forward(self, request: Request) -> Response:
        path = request.url.path
        if path.endswith("/infer"):
            self.asked += 1
            if self.gate:
                await self.gate()
        if self.state == "starting" or (self.state == "busy" and path.endswith("/infer")):
            return Response(b'{"error": "later"}', 503, {"Retry-After": "1"})
        if self.state == "wrong model":
            return Response(b'{"error": "no such model"}', 404)
        headers = {k: v for k, v in request.headers.items() if k not in {"host", "content-length"}}
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            answer = await http.request(request.method, self.url + path, content=await request.body(), headers=headers)
        return Response(answer.content, answer.status_code, {"Content-Type": answer.headers["content-type"]})


@pytest.fixture
def between(endpoint_url: str) -> Between:
    return Between(endpoint_url)


@dataclass
class Site:
    """The gateway's address and the store behind it."""

    url: str
    store: FileStore
    port: int
    between: Between


@pytest.fixture
def site(between: Between, tmp_path: Path) -> Iterator[Site]:
    store = FileStore(tmp_path / "store")
    with asgi_server(between.app) as endpoint:
        port = int(endpoint.rsplit(":", 1)[1])
        nowhere = Endpoint("nowhere", "http://127.0.0.1:1")
        with gateway_server(GatewayConfig((Endpoint("local", endpoint), nowhere), store)) as url:
            yield Site(url, store, port, between)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    if not CHROMIUM:
        missing("browser", "the browser tests need chromium (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[tuple[str, FileStore]]:
    """The address of a page for pictures of a colour, before an endpoint that recognises it, and its store."""
    store = FileStore(tmp_path / "store")
    store.task = PAINTS.name
    with asgi_server(StandIn(by_colour, PAINTS).app) as endpoint:
        endpoints = Endpoint.parse_all([f"local={endpoint}"], PAINTS.name)
        with gateway_server(GatewayConfig(endpoints, store, task=PAINTS)) as url:
            yield url, store


@dataclass
class Visit:
    """A page that was opened, and what it did behind the scenes."""

    page: Any
    url: str = ""
    errors: list[str] = field(default_factory=list)
    origins: set[str] = field(default_factory=set)

    def digit(self) -> str:
        """The digit shown, once an answer to the finished drawing is."""
        self.page.wait_for_selector("#correction:not([hidden])", timeout=10_000)
        return str(self.page.locator("#digit").get_attribute("data-class"))

    def state(self, state: str) -> None:
        """Wait until the page says that its endpoint is in this state; '' for ready."""
        shown = "visible" if state else "attached"
        self.page.wait_for_selector(f"#state[data-state='{state}']", timeout=15_000, state=shown)

    def draw(self, *strokes: list[tuple[float, float]]) -> None:
        """Draw strokes, in 0..1 of the pad, with the mouse."""
        box = self.page.locator("#pad").bounding_box()
        for stroke in strokes:
            for number, (x, y) in enumerate(stroke):
                self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
                if number == 0:
                    self.page.mouse.down()
            self.page.mouse.up()


Open = Callable[..., Visit]


@pytest.fixture
def visit_at(browser: Any) -> Iterator[Open]:
    """Opens the page at an address; afterwards, no request went elsewhere and no script failed."""
    visits = []

    def open_page(url: str, **context: Any) -> Visit:
        page = browser.new_context(**context).new_page()
        seen = Visit(page, url)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("console", lambda m: seen.errors.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("request", lambda r: seen.origins.add("/".join(r.url.split("/")[:3])))
        page.goto(url)
        visits.append(seen)
        return seen

    yield open_page
    for seen in visits:
        seen.page.context.close()
        assert seen.origins == {seen.url}
        # That an endpoint was down is no fault of the page: the browser itself logs each such answer.
        assert [error for error in seen.errors if "Failed to load resource" not in error] == []


@pytest.fixture
def visit(visit_at: Open, site: Site) -> Open:
    """Opens the page before the real predictor."""
    return functools.partial(visit_at, site.url)

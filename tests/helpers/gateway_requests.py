"""A gateway on a real socket, and requests to it: drawings to be recognised, and corrections."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

import httpx
from PIL import Image, ImageDraw

from tests.helpers.http_server import http_server
from web_app.gateway import GatewayConfig, create_listener

PNG = {"Content-Type": "image/png"}


@contextlib.contextmanager
def gateway_server(config: GatewayConfig, port: int = 0) -> Iterator[str]:
    """Serve a gateway while the block runs (port 0: any free one). Yields its address."""
    with http_server(create_listener(config), port=port) as host:
        yield f"http://{host}"


def drawing(*lines: list[tuple[int, int]], side: int = 280) -> bytes:
    """Return a PNG with lines through the given points, on transparent paper."""
    picture = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    for line in lines:
        ImageDraw.Draw(picture).line(line, fill="black", width=14)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def coloured(color: str, size: tuple[int, int] = (80, 60)) -> bytes:
    """Return a PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


ONE = drawing([(140, 40), (140, 240)])


def recognise(gateway: httpx.Client, png: bytes = ONE, endpoint: str = "here") -> httpx.Response:
    """Send a drawing to be recognised."""
    return gateway.post("/api/recognise", params={"endpoint": endpoint}, content=png, headers=PNG)


def correct(gateway: httpx.Client, label: int | str = 1, png: bytes = ONE) -> httpx.Response:
    """Send a correction."""
    return gateway.post("/api/feedback", params={"label": label}, content=png, headers=PNG)

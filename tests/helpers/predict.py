"""Prediction requests for the predictor's tests, and a constant load of them."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Self

import numpy as np

from digits.serving import client
from tests.helpers.support import Predictor


def post(url: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """POST `body`, and return (status, headers with lower-case names, body) of the response, also of an error."""
    parts = url.split("/", 3)
    connection = http.client.HTTPConnection(parts[2], timeout=30)
    try:
        connection.request("POST", f"/{parts[3]}", body, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def v1_body(images: np.ndarray) -> bytes:
    """Return a V1 request for images in 0..255."""
    return json.dumps({"instances": (images.astype(float) / 255).tolist()}).encode()


class Load:
    """Three threads that request predictions until the block ends, and keep the failures."""

    def __init__(self, predictor: Predictor, images: np.ndarray) -> None:
        self._predictor, self._images, self._stop = predictor, images, threading.Event()
        self.releases: set[str] = set()
        self.failures: list[str] = []
        self.count = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.releases.add(client.predict(self._predictor.url, self._images).release)
                self.count += 1
            except Exception as exc:  # noqa: BLE001 # every failure counts
                self.failures.append(repr(exc))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

"""Small servers of the inference protocols for the gateway's tests, whose state a test can change."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from digits.tasks.task import BUILT_IN, Task, find
from tests.helpers.tasks import task_text

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
# With a label that would be markup, if a page inserted it as such.
PAINTS = find(task_text(["red", "<b>green</b>", "a rather long name of the colour blue, with commas"], (24, 32, 3)))
SURE_OF_3 = [0.01, 0.0, 0.0, 0.97, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0]


def by_colour(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the share of red, green and blue in a coloured image."""
    sums = image.reshape(-1, 3).sum(axis=0).astype(np.float64) + 1e-9
    return (sums / sums.sum()).astype(np.float32)


def always(probabilities: list[float]) -> Answer:
    """Return a model that answers every image with these probabilities."""
    return lambda _: np.array(probabilities, np.float32)


class StandIn:
    """A server of a task's model over V2 that keeps the images it gets and the headers of the last request.

    Attributes:
        state: ready, starting, busy, slow or wrong.
        release: the one that the metadata describes.
        answering: the one that predicts.
        signature: of the release, as the metadata states it; '' for none.
        delay: seconds before each answer.
        sure_from: the least probability of a sure answer, as the metadata states it.
        task: the task's text, as the metadata states it; None for none.
    """

    def __init__(self, answer: Answer, task: Task | None = None) -> None:
        self.answer, self.state, self.headers = answer, "ready", {}
        self._task = task or find(BUILT_IN)
        self.task: Any = self._task.of_model().text()
        self.release = self.answering = "v1"
        self.delay, self.described, self.signature = 0.0, 0, ""
        self.sure_from: Any = None
        self.images: list[NDArray[np.uint8]] = []
        self.app = Starlette(
            routes=[
                Route(f"/v2/models/{self._task.name}", self.about),
                Route(f"/v2/models/{self._task.name}/ready", self.ready),
                Route(f"/v2/models/{self._task.name}/infer", self.infer, methods=["POST"]),
            ]
        )

    async def about(self, request: Request) -> JSONResponse:
        self.headers = dict(request.headers)
        self.described += 1
        await asyncio.sleep(self.delay)
        if self.state == "starting":
            return JSONResponse({"error": "not ready"}, 503)
        name = "pixels" if self.state == "wrong" else "image"
        shape = {"name": name, "datatype": "FP32", "shape": [-1, *self._task.input_shape]}
        parameters: dict[str, Any] = {"digest": "ab" * 32, "accuracy": 0.99, "dataset": "mnist", "mlflow_run": "run1"}
        parameters |= {"release": self.release, "signature": self.signature, "sure_from": self.sure_from}
        parameters |= {"task": self.task}
        about = {"name": self._task.name, "versions": [self.release], "inputs": [shape], "outputs": []}
        return JSONResponse(about | {"parameters": parameters})

    async def ready(self, request: Request) -> JSONResponse:
        self.headers = dict(request.headers)
        await asyncio.sleep(self.delay)
        return JSONResponse({"ready": self.state != "starting"}, 503 if self.state == "starting" else 200)

    async def infer(self, request: Request) -> JSONResponse:
        self.headers = dict(request.headers)
        body = await request.body()
        await asyncio.sleep(self.delay)
        if self.state in {"starting", "busy"}:
            return JSONResponse({"error": self.state}, 503, {"Retry-After": "1"})
        if self.state == "slow":
            await asyncio.sleep(1.5)
        if self.state == "wrong":
            return JSONResponse({"outputs": [{"name": "scores", "data": [1, 2]}]})
        head = int(request.headers.get("inference-header-content-length", 0))
        tensor = json.loads(body[:head] if head else body)["inputs"][0]
        pixels = np.frombuffer(body[head:], np.uint8) if head else np.array(tensor["data"], np.uint8)
        images = pixels.reshape(tensor["shape"])
        self.images.extend(images)
        rows = np.array([self.answer(image) for image in images], np.float64)
        count, classes = len(rows), [int(n) for n in rows.argmax(axis=1)]
        outputs: list[dict[str, Any]] = [
            {"name": "class", "datatype": "INT64", "shape": [count], "data": classes},
            {"name": "probabilities", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()},
        ]
        return JSONResponse({"model_name": self._task.name, "model_version": self.answering, "outputs": outputs})


class TensorFlowServing:
    """A server of V1 as TensorFlow Serving answers; `state` is the model version's. It keeps the images it gets."""

    def __init__(self, answer: Answer, model: str = BUILT_IN) -> None:
        self.answer, self.state = answer, "AVAILABLE"
        self.images: list[NDArray[np.float32]] = []
        self.app = Starlette(
            routes=[
                Route(f"/v1/models/{model}", self.status),
                Route(f"/v1/models/{model}:predict", self.predict, methods=["POST"]),
            ]
        )

    async def status(self, _: Request) -> JSONResponse:
        good = {"error_code": "OK", "error_message": ""}
        return JSONResponse({"model_version_status": [{"version": "3", "state": self.state, "status": good}]})

    async def predict(self, request: Request) -> JSONResponse:
        if self.state != "AVAILABLE":
            return JSONResponse({"error": "Servable not found for request: Latest(digits)"}, 404)
        images = np.array((await request.json())["instances"], np.float32)
        self.images.extend(images)
        return JSONResponse({"predictions": [[float(p) for p in self.answer(image)] for image in images]})

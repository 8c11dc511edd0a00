"""The limit of an ordinary server: Starlette and ONNX Runtime, nothing between, nothing checked."""

import os

import numpy as np
import onnxruntime
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
image = session.get_inputs()[0].name


async def predict(request: Request) -> JSONResponse:
    """V1."""
    images = np.array((await request.json())["instances"], np.float32).reshape(-1, 28, 28, 1)
    return JSONResponse({"predictions": session.run(None, {image: images})[0].tolist()})


async def ready(_: Request) -> JSONResponse:
    """Loaded as soon as it is up."""
    return JSONResponse({"ready": True})


app = Starlette(routes=[Route("/v1/models/digits:predict", predict, methods=["POST"]), Route("/ready", ready)])

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), loop="uvloop", http="httptools", access_log=False)

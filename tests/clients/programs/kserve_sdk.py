"""Asks an endpoint for predictions by KServe's SDK, over V1, V2 and gRPC; prints JSON.

    python kserve_sdk.py URL GRPC_ADDRESS IMAGES.npy

The output is {protocol: rows of ten probabilities}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ARGUMENTS, sys.argv = sys.argv[1:], sys.argv[:1]  # importing KServe parses them

from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig  # noqa: E402


async def main(url: str, grpc: str, images: str) -> None:
    """Print the answers."""
    pixels = np.load(images).astype(np.float32) / 255
    answers: dict[str, Any] = {}
    v1 = InferenceRESTClient(RESTConfig(protocol="v1", timeout=20))
    answers["V1"] = (await v1.infer(url, {"instances": pixels.tolist()}, model_name="digits"))["predictions"]
    assert await v1.is_model_ready(url, "digits")
    v2 = InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))
    assert await v2.is_server_live(url)
    assert await v2.is_server_ready(url)
    assert await v2.is_model_ready(url, "digits")
    remote = InferenceGRPCClient(grpc, timeout=20)
    assert await remote.is_server_ready()
    assert await remote.is_model_ready("digits")
    for binary in (False, True):
        tensor = InferInput("image", list(pixels.shape), "FP32")
        tensor.set_data_from_numpy(pixels, binary_data=binary)
        request = InferRequest(model_name="digits", infer_inputs=[tensor])
        for name, answer in (
            ("V2", await v2.infer(url, request, model_name="digits")),
            ("gRPC", await remote.infer(request)),
        ):
            output = next(output for output in answer.outputs if output.name == "probabilities")
            answers[f"{name}, binary" if binary else name] = output.as_numpy().reshape(-1, 10).tolist()
    Path("/dev/stdout").write_text(json.dumps(answers))


if __name__ == "__main__":
    asyncio.run(main(*ARGUMENTS))

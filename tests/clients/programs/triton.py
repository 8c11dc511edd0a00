"""Asks an endpoint for predictions by tritonclient, over HTTP or gRPC, in each form that it has; prints JSON.

    python triton.py {http,grpc} ADDRESS IMAGES.npy VERSION

The output is {form: probabilities or classes, or the error that was raised}.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main(kind: str, address: str, images: str, version: str) -> None:
    """Print the answers."""
    module = importlib.import_module(f"tritonclient.{kind}")
    client = module.InferenceServerClient(address)
    ready = (client.is_server_live(), client.is_server_ready(), client.is_model_ready("digits"))
    answers: dict[str, Any] = {"ready": [*ready, client.is_model_ready("digits", version)]}
    pixels = np.load(images).astype(np.float32) / 255

    def infer(outputs: list[str] | None, *, binary: bool = True, **options: Any) -> Any:
        raw = {"binary_data": binary} if kind == "http" else {}
        tensor = module.InferInput("image", pixels.shape, "FP32")
        tensor.set_data_from_numpy(pixels, **raw)
        requested = None if outputs is None else [module.InferRequestedOutput(name, **raw) for name in outputs]
        try:
            result = client.infer("digits", [tensor], outputs=requested, **options)
        except Exception as exc:  # noqa: BLE001 # the test compares the errors of both protocols
            return type(exc).__name__
        found = {name: result.as_numpy(name) for name in ("class", "probabilities")}
        return {name: values.tolist() for name, values in found.items() if values is not None}

    answers |= {
        "all": infer(None),
        "none named": infer([]),
        "both": infer(["class", "probabilities"]),
        "class": infer(["class"]),
        "probabilities": infer(["probabilities"]),
        "as JSON": infer(["probabilities"], binary=False),
        "with an id": infer(None, request_id="7"),
        "with the version": infer(None, model_version=version),
        "another version": infer(None, model_version="another"),
        "another output": infer(["predict"]),
    }
    with contextlib.suppress(module.InferenceServerException):  # gRPC reports NOT_FOUND, over HTTP it is not ready
        answers["another model"] = client.is_model_ready("another")
    answers.setdefault("another model", False)
    Path("/dev/stdout").write_text(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])

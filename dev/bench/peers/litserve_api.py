"""A LitServe server with our ONNX file: one worker, without a line for each request."""

import os
from typing import Any

import litserve
import numpy as np
import onnxruntime


class Digits(litserve.LitAPI):
    """V1 at /predict."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker's process."""
        del device
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.image = self.session.get_inputs()[0].name

    def decode_request(self, request: dict[str, Any]) -> np.ndarray:
        """Return the images (n, 28, 28, 1)."""
        return np.array(request["instances"], np.float32).reshape(-1, 28, 28, 1)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities (n, 10)."""
        return np.asarray(self.session.run(None, {self.image: images})[0])

    def encode_response(self, probabilities: np.ndarray) -> dict[str, Any]:
        """Return the answer, for JSON."""
        return {"predictions": probabilities.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Digits(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False, access_log=False)

"""A custom model in the form that KServe's documentation shows, with our ONNX file."""

import os
from typing import Any

import kserve
import numpy as np
import onnxruntime


class Sample(kserve.Model):
    """Load in the constructor, predict from the request's dict."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.load()

    def load(self) -> bool:
        """Load the model, one thread a request."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.image = self.session.get_inputs()[0].name
        self.ready = True
        return self.ready

    def predict(self, payload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
        """V1."""
        del headers
        images = np.array(payload["instances"], np.float32).reshape(-1, 28, 28, 1)
        return {"predictions": self.session.run(None, {self.image: images})[0].tolist()}


if __name__ == "__main__":
    kserve.ModelServer().start([Sample("digits")])

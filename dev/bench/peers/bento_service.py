"""A BentoML service with our ONNX file, without the line it would log for each request."""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(name="digits", workers=1, logging={"access": {"enabled": False}})
class Digits:
    """One worker."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])
        self.image = self.session.get_inputs()[0].name

    @bentoml.api
    def predict(self, instances: np.ndarray) -> np.ndarray:
        """Probabilities of images (n, 28, 28)."""
        images = instances.astype(np.float32).reshape(-1, 28, 28, 1)
        return np.asarray(self.session.run(None, {self.image: images})[0])

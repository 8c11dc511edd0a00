"""Write our ONNX file as a model that `mlflow models serve` takes: `python mlflow_save.py MODEL.onnx FOLDER`."""

import sys

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

source, folder = sys.argv[1:]
mlflow.onnx.save_model(
    onnx.load(source),
    folder,
    signature=ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 28, 28, 1), "image")])),
    onnx_execution_providers=["CPUExecutionProvider"],
    onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
    pip_requirements=[],
)

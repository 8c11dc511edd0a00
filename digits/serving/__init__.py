"""The predictor: KServe's ModelServer with ONNX Runtime, without TensorFlow, kfp or mlflow."""

import os

for _name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):  # another program's, into which we would write
    os.environ.pop(_name, None)

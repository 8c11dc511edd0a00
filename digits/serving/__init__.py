"""The predictor: KServe's ModelServer with ONNX Runtime, without TensorFlow, kfp or mlflow."""

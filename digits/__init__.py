"""A handwritten-digit classifier, from MNIST to a KServe endpoint: the domain, free of any engine.

Nothing here imports kfp, docker or kubernetes; those live behind `backends`.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime's official builds report their use to Microsoft as soon as they are imported, unless told before.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

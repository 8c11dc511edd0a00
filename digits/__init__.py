"""The library and the command `digits`: from a data set to a handwritten-digit classifier behind a KServe endpoint.

`digits.cli`, the command, is the top layer and imports `pipeline`, `backends` and `web_app`. Everything else in this
package is independent of engines: it imports neither kfp nor docker nor kubernetes.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime's official builds report usage to Microsoft on import unless this is set first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# gRPC writes a line to the log for each malformed field of a request's headers, which any client can send.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

"""A replacement for Kubeflow's launcher in a step's pod: fetch the inputs, run the step, store the outputs.

launcher.py FOLDER EXECUTOR_INPUT COMMAND…, where FOLDER is the URI under which the step's outputs are stored.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio


def place(uri: str) -> tuple[str, str, Path]:
    """Return (bucket, key, local path) of an artifact; KFP's executor derives the same path from the URI."""
    bucket, _, key = uri.removeprefix("minio://").partition("/")
    return bucket, key, Path("/minio", bucket, key)


def main() -> int:
    """Run the step and return its exit code."""
    executor_input, command = json.loads(sys.argv[2]), sys.argv[3:]
    endpoint = urlsplit(os.environ["MINIO_ENDPOINT"])
    keys = os.environ["MINIO_ACCESS_KEY"], os.environ["MINIO_SECRET_KEY"]
    client = Minio(endpoint.netloc, access_key=keys[0], secret_key=keys[1], secure=endpoint.scheme == "https")
    for artifacts in executor_input["inputs"]["artifacts"].values():
        bucket, key, path = place(artifacts["artifacts"][0]["uri"])
        for item in client.list_objects(bucket, prefix=key, recursive=True):
            rest = item.object_name.removeprefix(key)
            if not rest or rest.startswith("/"):
                client.fget_object(bucket, item.object_name, f"{path}{rest}")
    outputs = [item["artifacts"][0]["uri"] for item in executor_input["outputs"]["artifacts"].values()]
    metadata = Path(executor_input["outputs"]["outputFile"])
    for folder in (metadata.parent, *(place(uri)[2].parent for uri in outputs)):
        folder.mkdir(parents=True, exist_ok=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        return code
    for uri in outputs:
        bucket, key, path = place(uri)
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            client.fput_object(bucket, key + str(file).removeprefix(str(path)), str(file))
    bucket, key, _ = place(sys.argv[1])
    client.fput_object(bucket, f"{key}/output_metadata.json", str(metadata))
    return 0


sys.exit(main())

"""The program of a TrainJob's pod: it takes the training from the object store and runs one worker.

    python -m backends.trainer.worker_main FOLDER DIGEST HOST:PORT…

FOLDER/job in the store are the training's inputs, whose list has the DIGEST. Worker 0 writes FOLDER/output and leaves
the digest of its list as the pod's termination message. The addresses are those of all workers, and
JOB_COMPLETION_INDEX is the number of this one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from backends.programs import python
from backends.trainer.heartbeat import PERIOD, SILENCE, Listener
from backends.trainer.transfer import get_folder, put_folder
from digits.errors import DigitsError
from digits.settings import Settings
from digits.store import open_store
from digits.training.trainers import MAX_SECONDS

FAILED = 64  # exit code after which no worker is started again, as in the manifests
MESSAGE = Path("/dev/termination-log")


def main(place: str, digest: str, *hosts: str) -> int:
    """Run the worker of this pod and return the exit code. Raises DigitsError if the store refuses."""
    store, rank = open_store(Settings.load()), int(os.environ["JOB_COMPLETION_INDEX"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        get_folder(store, f"{place}/job", digest, folder)
        cluster = {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": rank}}
        environment = os.environ | {"TF_CONFIG": json.dumps(cluster)}
        command = python("-m", "digits.training.worker", name)
        # A worker ends when its standard input does.
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as worker:
            try:
                code = _end(worker, Listener(store, f"{place}/alive"))
            finally:
                worker.kill()
        if code == 0 and rank == 0:
            MESSAGE.write_text(put_folder(store, f"{place}/output", folder / "output"))
        if (folder / "error.json").exists():
            store.put(f"{place}/error.json", folder / "error.json")
            return FAILED
    return code


def _end(worker: subprocess.Popen[bytes], step: Listener) -> int:
    """Return the exit code of the worker; FAILED if its step has ended, or if it takes longer than MAX_SECONDS."""
    until, reason = time.monotonic() + MAX_SECONDS, f"the training takes longer than {MAX_SECONDS / 3600:g} hours"
    while time.monotonic() < until:
        try:
            code = worker.wait(PERIOD)
        except subprocess.TimeoutExpired:
            if step.silence() > SILENCE:
                reason = "the train step has ended"
                break
        else:
            # The end of another worker, which noticed first, breaks this one's connections.
            return FAILED if code and step.silence() > SILENCE / 2 else code
    sys.stderr.write(f"{reason}\n")
    return FAILED


if __name__ == "__main__":
    # The first process of a container ignores a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(main(*sys.argv[1:]))
    except DigitsError as exc:
        sys.exit(f"error: {exc}")

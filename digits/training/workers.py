"""The group of processes that train one network together. Importing this module imports TensorFlow.

TensorFlow's variable TF_CONFIG lists their addresses and states which of them this process is:

    {"cluster": {"worker": ["127.0.0.1:7001", "127.0.0.1:7002"]}, "task": {"type": "worker", "index": 0}}
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from digits.files import parse_json
from digits.training.tensorflow import tf

VARIABLE = "TF_CONFIG"
START_SECONDS = 600.0  # in which all workers must be there; pods may have to wait for a node
GATHER_SECONDS = 60.0  # in which all workers must have computed their part of a training step


@dataclass(frozen=True)
class Group:
    """One of `count` workers, the one with this index. `gather` concatenates their tensors along the first axis."""

    index: int = 0
    count: int = 1
    gather: Callable[[tf.Tensor], tf.Tensor] = tf.identity


ALONE = Group()


def join() -> Group:
    """Connect to the workers of TF_CONFIG, and wait for them. Without TF_CONFIG, this process is alone.

    The process ends with exit code 1 if they are not all there within START_SECONDS. An operation that needs a worker
    which has ended raises an error of TensorFlow within GATHER_SECONDS.
    """
    config = parse_json(os.environ.get(VARIABLE, "{}"))
    addresses = config.get("cluster", {}).get("worker", [])
    if len(addresses) < 2:
        return ALONE
    watchdog = threading.Timer(START_SECONDS, _give_up, [addresses])
    watchdog.daemon = True
    watchdog.start()
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.RING, timeout_seconds=GATHER_SECONDS
    )
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    watchdog.cancel()

    def gather_here(value: tf.Tensor) -> tf.Tensor:
        # The copy has the device of this worker, which the operation needs to know.
        return tf.distribute.get_replica_context().all_gather(tf.identity(value), 0, options=options)

    return Group(config["task"]["index"], len(addresses), lambda value: strategy.run(gather_here, [value]))


def _give_up(addresses: list[str]) -> None:
    sys.stderr.write(f"expected {len(addresses)} workers at {addresses} within {START_SECONDS:g} s\n")
    sys.stderr.flush()
    os._exit(1)

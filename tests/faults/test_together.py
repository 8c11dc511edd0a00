"""Concurrent runs, ports that are taken, and a predictor that dies under load."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from backends.process import predictor
from digits.errors import DigitsError
from digits.release import ledger
from digits.serving import client
from pipeline import STEPS
from tests.helpers.table import Fault
from tests.helpers.world import RUN, World


@pytest.mark.fault("four concurrent runs", "all succeed with the one release, one ledger entry")
def test_four_concurrent_runs(world: World, fault: Fault) -> None:
    """Four concurrent runs in one home, each with its own threshold, publish and deploy successfully."""
    world.before("publish")
    holds = fault.watch(world)
    programs = [world.start(*RUN, "--min-accuracy", f"0.{50 + n}", "--json") for n in range(4)]
    answers = [world.answer(program) for program in programs]
    assert len({answer["run"] for answer in answers}) == len(answers)
    assert {answer["digest"] for answer in answers} == {world.digest}
    for answer in answers:
        holds.recovered(answer | {"state": "SUCCEEDED"})
    fault.saw("four succeeded, the same digest, one entry")


@pytest.mark.fault("the predictor's ports taken", "it serves on others; the other program keeps its ports")
def test_taken_ports_are_left_alone(world: World, fault: Fault) -> None:
    """If another program holds both ports, the predictor serves on other ports."""
    world.before()
    holds = fault.watch(world)
    predictor.stop_all(world.settings)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.create_server(("127.0.0.1", port)))
                for port in (world.settings.port, world.settings.grpc_port)]  # fmt: skip
        answer = world.digits(*RUN)
        assert str(world.settings.port) not in answer["endpoint"]
        for holder in held:
            socket.create_connection(holder.getsockname(), 1).close()
        holds.recovered(answer)
    predictor.stop_all(world.settings)
    holds.recovered(world.digits(*RUN))
    fault.saw("served on other ports")


class Load:
    """Sends requests continuously, and counts correct answers and other outcomes by kind."""

    def __init__(self, url: str, release: str, image: np.ndarray) -> None:
        self.url, self.release, self.image = url, release, image
        self.right, self.other = 0, Counter[str]()
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def _ask(self) -> None:
        while not self.over.is_set():
            try:
                answer = client.predict(self.url, self.image)
                self.right += answer.release == self.release
                self.other["another release"] += answer.release != self.release
            except (DigitsError, OSError, urllib.error.URLError) as exc:
                self.other["HTTP" if "HTTP 5" in str(exc) else "no connection"] += 1
                time.sleep(0.05)

    @contextlib.contextmanager
    def going(self) -> Iterator[None]:
        """Send requests while the block runs."""
        for thread in self.threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in self.threads:
                thread.join(30)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
@pytest.mark.fault(
    "predictor killed or stopped under load",
    "connections are refused until the next run; no wrong answer, no 5xx but 503",
)
def test_a_predictor_that_dies_under_load_is_started_by_the_next_run(how: str, world: World, fault: Fault) -> None:
    """The next run starts it with the champion at the same address, and no answer in between is wrong."""
    world.before()
    holds = fault.watch(world)
    state = predictor.ensure(world.settings)
    answer = world.digits(*RUN)
    load = Load(answer["endpoint"], answer["release"], np.zeros((1, 28, 28), np.uint8))
    with load.going():
        world.wait_for(lambda: load.right > 20, "answers")
        os.kill(state.pid, getattr(signal, how))
        psutil.Process(state.pid).wait(60) if psutil.pid_exists(state.pid) else None
        world.wait_for(lambda: load.other["no connection"] > 0, "refused connections")
        again = world.digits(*RUN)
        before = load.right
        world.wait_for(lambda: load.right > before + 20, "answers again")
    assert again["endpoint"] == answer["endpoint"]
    assert {name: step["state"] for name, step in again["steps"].items()} == dict.fromkeys(STEPS, "cached") | {
        "deploy": "done"
    }
    assert load.other["another release"] == load.other["HTTP"] == 0, load.other
    assert ledger.champion(world.store) == answer["release"]
    holds.recovered(again)
    fault.saw("served again at the same address, no wrong answer")

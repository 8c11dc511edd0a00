"""Floods of HTTP/2 frames at the gRPC port: the predictor's memory stays within its container's limit."""

from __future__ import annotations

import grpc
import pytest

from digits.settings import Settings
from tests.helpers.http2_floods import FLOODS, flood
from tests.helpers.support import Predictor
from tests.helpers.targets import Target

CONNECTIONS = 100
SECONDS = 4.0


@pytest.mark.parametrize("name", FLOODS)
def test_frames_cost_bounded_memory(attacked: tuple[Settings, Predictor], predictor: Target, name: str) -> None:
    """A hundred connections that send one kind of frame leave a fifth of the memory free; both ports then answer."""
    host, port = attacked[1].grpc.split(":")
    sent = flood((host, int(port)), name, CONNECTIONS, SECONDS)
    predictor.tally.count(predictor.name, "flood")
    assert sent > 1_000_000
    with grpc.insecure_channel(attacked[1].grpc) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
        assert ready(b"", timeout=30, wait_for_ready=True)
    assert predictor.answers() == predictor.right
    assert predictor.memory() < 0.8 * predictor.most_bytes

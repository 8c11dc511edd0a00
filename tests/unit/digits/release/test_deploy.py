"""A deployer is found by its name, and an endpoint is waited for until it serves the release correctly."""

from __future__ import annotations

import json

import pytest

from digits.errors import EndpointError, MissingError, StoreUnreachable
from digits.release import deploy
from digits.tasks.task import find
from tests.helpers.examples import run_example
from tests.helpers.support import DRIPS, answering, dripping

DIGITS = find("digits").text()

NOT_OURS = [b"<!doctype html><title>Welcome</title>", b"", b"[]", b'{"predictions": []}', b'{"outputs": []}']


def test_the_example_of_the_contract_runs() -> None:
    """The example in the docstring of Deployer does what it shows."""
    run_example(deploy.Deployer, vars(deploy))


def test_a_deployer_is_found_by_name() -> None:
    """`follow` is built in, others are entry points, and an unknown name is refused with those installed."""
    assert deploy.find_deployer("follow") is deploy.follow
    with pytest.raises(MissingError, match=r"DIGITS_DEPLOYER of follow, .*got 'nowhere'"):
        deploy.find_deployer("nowhere")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", DRIPS)
def test_a_response_that_never_ends_does_not_delay_the_error(part: str) -> None:
    """Waiting ends in time although the endpoint sends a byte now and then."""
    with dripping(DRIPS[part]) as host, pytest.raises(EndpointError, match=r"after 0 s: .*: timed out"):
        deploy.wait_for(f"http://{host}", {"version": "v2", "task": DIGITS}, seconds=0.4)


@pytest.mark.parametrize("body", [*NOT_OURS, b'{"parameters": {"release": "v1", "refused": []}}'])
def test_waiting_continues_while_another_program_answers(body: bytes) -> None:
    """A response of any other form does not end the waiting early; the error reports it."""
    with answering(body) as host, pytest.raises(EndpointError, match=r"after 0 s: an unexpected response"):
        deploy.wait_for(f"http://{host}", {"version": "v2", "task": DIGITS}, seconds=0.2)


def test_waiting_continues_without_an_answer_to_the_golden_image() -> None:
    """The right release without a prediction for the golden image is an unexpected response."""
    body = b'{"parameters": {"release": "v1"}, "predictions": []}'
    golden = {"image": [[0] * 28] * 28, "probabilities": [0.1] * 10, "class": 0}
    with answering(body) as host, pytest.raises(EndpointError, match=r"after 0 s: an unexpected response"):
        deploy.wait_for(f"http://{host}", {"version": "v1", "task": DIGITS, "golden": golden}, seconds=0.2)


def test_a_rejected_release_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the endpoint reports that it rejected the release, the error comes before the deadline, with the reason."""
    monkeypatch.setattr(deploy, "REPAIR_SECONDS", 0.2)
    about = {"release": "v1", "refused": {"release": "v2", "why": "its digest differs"}}
    with (
        answering(json.dumps({"parameters": about}).encode()) as host,
        pytest.raises(EndpointError, match="rejected release v2 and still serves v1: its digest differs"),
    ):
        deploy.wait_for(f"http://{host}", {"version": "v2", "task": DIGITS}, seconds=30)


def test_a_release_that_was_repaired_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that the endpoint rejected before `publish` restored it is waited for until it is loaded again."""
    rejected = {"release": "", "refused": {"release": "v2", "why": "it is damaged"}}
    answers = iter([rejected, rejected, {"release": "v2", "refused": {}}])
    monkeypatch.setattr(deploy, "request_json", lambda *_, **__: {"parameters": next(answers)})
    deploy.wait_for_version("http://127.0.0.1:9", "v2", "digits", seconds=30)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("hangs", [True, False])
def test_a_superseded_release_ends_the_waiting(hangs: bool) -> None:
    """If another release has become the champion, the wait ends soon, also while the endpoint hangs."""
    serving = dripping(DRIPS["body"]) if hangs else answering(b'{"parameters": {"release": "v1"}}')
    with serving as host, pytest.raises(deploy.Superseded, match="v2 was replaced by v3"):
        deploy.wait_for(f"http://{host}", {"version": "v2", "task": DIGITS}, champion=lambda: "v3")


def test_an_unreachable_store_does_not_end_the_waiting() -> None:
    """While the ledger cannot be read, the wait for the release continues until its deadline."""

    def unreachable() -> str:
        raise StoreUnreachable("no answer")

    with answering(b'{"parameters": {"release": "v1"}}') as host, pytest.raises(EndpointError, match="after 2 s"):
        deploy.wait_for(f"http://{host}", {"version": "v2", "task": DIGITS}, champion=unreachable, seconds=1.5)

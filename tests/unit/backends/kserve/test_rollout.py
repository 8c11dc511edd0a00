"""Another service at the address of the cluster: commands end with an error that names the address."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backends.acceptance.probe import Context, Probe, run_probes
from backends.acceptance.probes import PROBES
from backends.kserve import rollout, service
from backends.kserve.kube import Kube
from backends.kserve.service import Service
from backends.trainer.trainjob import TrainJob
from digits.errors import DigitsError
from digits.settings import Settings
from tests.helpers.kubernetes_api import RELEASE, URI, write_kubeconfig
from tests.helpers.support import answering

ODD = [
    b"[]",
    b"null",
    b'"x"',
    b'{"metadata": []}',
    b'{"items": null}',
    b'{"items": [{}]}',
    b'{"metadata": {}, "spec": null, "items": [{"metadata": {}}]}',
    b'{"metadata": {"annotations": null, "labels": null}, "status": {"conditions": [{}]}, "items": []}',
    b'{"metadata": {"annotations": {"digits/previous": "{\\"uri\\": 1, \\"annotations\\": []}"}}, "spec": {}}',
]


@pytest.mark.parametrize("content", ODD)
@pytest.mark.parametrize(
    "command",
    [
        lambda settings: rollout.deploy(settings, RELEASE, URI, seconds=0.1),
        rollout.rollback,
        lambda settings: Service(Kube.connect(settings), "digits", "digits").ready_pod(),
        lambda settings: Service(Kube.connect(settings), "digits", "digits").problem(),
        lambda settings: TrainJob(Kube.connect(settings), "digits", "train-1").wait(),
    ],
    ids=["deploy", "rollback", "ready pod", "problem", "train"],
)
def test_odd_answers_are_errors_of_the_cluster(
    command: Callable[[Settings], object], content: bytes, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON of any shape is an error of ours, or no problem."""
    monkeypatch.setattr("backends.trainer.trainjob.OUTAGE_SECONDS", 0.0)
    monkeypatch.setattr(service, "REMOVE_SECONDS", 0.1)
    monkeypatch.setattr(service, "POLL_SECONDS", 0.01)
    with answering(content) as host:
        write_kubeconfig(settings, f"http://{host}")
        try:
            outcome = command(settings)
        except DigitsError as exc:
            outcome = exc.message
    assert outcome


@pytest.mark.parametrize("content", ODD)
def test_odd_answers_fail_a_probe(content: bytes, settings: Settings) -> None:
    """An acceptance run goes through all probes and ends with results."""
    probes = [Probe(p.name, p.title, p.function, seconds=5) for p in PROBES if p.name in {"cluster", "kserve", "gpu"}]
    with answering(content) as host:
        write_kubeconfig(settings, f"http://{host}")
        states = [outcome.state for outcome in run_probes(probes, Context(settings, frozenset({"gpu"})))]
    assert states == ["failed"] * 3

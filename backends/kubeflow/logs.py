"""The logs of a run's steps on Kubeflow, and its report in MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import urllib3

from backends.kubeflow.api import Pipelines
from backends.kubeflow.watch import LOOPS, events_of, pod_name
from digits.errors import DigitsError
from digits.events import Event
from digits.files import write_whole
from digits.proxies import pool_for

REPORT_SECONDS = 10.0


def step_log(api: Pipelines, run_id: str, nodes: Iterable[str], step: str, folder: Path, *, retries: int) -> str:
    """Return the log of a step's last attempt and write it to `folder`; '' if Kubeflow has none.

    The API does not report which of the workflow's `nodes` is an attempt of the step, so the logs are read in their
    order until one has the step's outputs. An attempt that reports a failure is preferred if the step is in a loop.
    """
    ends = _attempts(api, run_id, nodes, step, retries)
    rated = (((step in LOOPS and end["event"] == "failed", end["time"]), text) for end, text in ends)
    _, log = max(rated, default=((), ""))
    if log:
        write_whole(folder / f"{step}.log", log)
    return log


def fetch_report(tracking_uri: str, mlflow_run: str, folder: Path) -> None:
    """Write a run's report to `folder` if MLflow's server is reachable from here; it is also on the run's page."""
    if not mlflow_run or not tracking_uri.startswith("http"):
        return
    address = f"{tracking_uri.rstrip('/')}/get-artifact"
    fields = {"path": "report.html", "run_uuid": mlflow_run}
    with contextlib.suppress(urllib3.exceptions.HTTPError, DigitsError):
        answer = pool_for(address).request("GET", address, fields=fields, timeout=REPORT_SECONDS, retries=False)
        if answer.status == 200:
            write_whole(folder / "report.html", answer.data)


def _attempts(
    api: Pipelines, run_id: str, nodes: Iterable[str], step: str, retries: int
) -> Iterator[tuple[Event, str]]:
    """Yield the last event and the log of each attempt of a step; end after one that succeeded."""
    for node in nodes:
        text = _node_log(api, run_id, node, retries)
        if events := events_of(text, step):
            yield events[-1], text
            if events[-1]["event"] == "outputs":
                return


def _node_log(api: Pipelines, run_id: str, node: str, retries: int) -> str:
    for read, name in ((api.archived_log, node), (api.log, pod_name(node, retries=retries))):
        with contextlib.suppress(DigitsError):
            if log := read(run_id, name):
                return log
    return ""

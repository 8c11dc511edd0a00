"""`digits schedule` against a server of the Pipelines API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from digits.errors import UsageError
from pipeline import STEPS
from tests.helpers.kfp_api import Pipelines, serving
from tests.helpers.kfp_runs import invoke


@pytest.fixture
def api() -> Iterator[Pipelines]:
    with serving(Pipelines()) as server:
        yield server


def test_schedules_are_created_listed_and_removed(api: Pipelines, tmp_path: Path) -> None:
    """A cron expression of five fields gets its seconds; steps with external inputs are never cached."""
    made = json.loads(invoke(api, tmp_path, "schedule", "--cron", "0 3 * * *", "--epochs", "2", "--json").stdout)
    invoke(api, tmp_path, "schedule", "--every", "12h")
    sent = api.schedules[made["schedule"]]
    assert sent["trigger"] == {"cron_schedule": {"cron": "0 0 3 * * *"}}
    assert sent["runtime_config"]["parameters"] == {"epochs": 2}
    steps = sent["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    assert {step for step in STEPS if not steps[step]["cachingOptions"]} == {
        "fetch-mnist",
        "collect-feedback",
        "deploy",
    }
    for item in api.schedules.values():
        item["display_name"] = "digits-recognizer"
    listed = json.loads(invoke(api, tmp_path, "schedule", "--list", "--json").stdout)["schedules"]
    assert [item["when"] for item in listed] == ["0 0 3 * * *", "every 43200 s"]
    assert invoke(api, tmp_path, "schedule", "--delete", made["schedule"]).exit_code == 0
    assert len(api.schedules) == 1


@pytest.mark.parametrize(
    "arguments", [(), ("--list", "--delete", "x"), ("--cron", "3 *"), ("--every", "10s"), ("--every", "soon")]
)
def test_a_wrong_schedule_is_refused(api: Pipelines, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Contradicting or malformed options are refused before any request."""
    answer = invoke(api, tmp_path, "schedule", *arguments)
    assert isinstance(answer.exception, UsageError)
    assert api.asked == []

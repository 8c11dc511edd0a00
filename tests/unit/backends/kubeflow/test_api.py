"""The requests to the Pipelines API, against the OpenAPI document from which its client is generated."""

from __future__ import annotations

import re
from pathlib import Path

import kfp_server_api
import pytest

from backends.base import Request
from backends.kubeflow.api import Pipelines as Client
from backends.kubeflow.submit import compile_version, submission
from digits.errors import DigitsError
from digits.settings import Settings
from tests.helpers.kfp_api import Pipelines
from tests.helpers.openapi import find_operation, operations

# Kubeflow Pipelines registers these outside of its document: a pod's log, its archived log, and Argo's nodes.
UNDOCUMENTED = (
    r"GET /apis/v1alpha1/runs/[^/]+/nodes/[^/]+/log",
    r"GET /apis/v2beta1/runs/[^/]+/nodes/[^/]+/artifacts/main-logs:read",
    r"GET /apis/v1beta1/runs/[^/]+",
)


@pytest.mark.parametrize("multi_user", [False, True])
def test_every_request_is_of_the_document(settings: Settings, api: Pipelines, multi_user: bool, tmp_path: Path) -> None:
    """All requests and the responses to them fit the document, single-user and with a namespace."""
    api.multi_user = multi_user
    client = Client(settings)
    new = submission(settings, Request({"epochs": 1}))
    client.check()
    run_id = client.submit(new.spec, new.name, new.experiment, new.parameters)
    assert client.run(run_id).state == "SUCCEEDED"
    client.nodes(run_id)
    client.terminate(run_id)
    client.log(run_id, "pod")
    api.archive["node"] = "text"
    assert client.archived_log(run_id, "node") == "text"
    version = compile_version(settings, tmp_path / "pipeline.yaml")
    assert client.upload(tmp_path / "pipeline.yaml", "digits", version)[2]
    assert not client.upload(tmp_path / "pipeline.yaml", "digits", version)[2]
    for trigger in ({"cron": "0 0 3 * * *"}, {"every": 3600}):
        schedule = client.schedule(new.spec, "digits", new.experiment, {}, trigger)
    assert len(client.schedules("digits")) == 2
    client.unschedule(schedule)
    client.close()
    outside = [request for request in api.asked if not find_operation(*request.split(" "))]
    assert len(outside) == len(UNDOCUMENTED)
    assert all(any(re.fullmatch(pattern, request) for request in outside) for pattern in UNDOCUMENTED)


def test_the_document_is_read_whole() -> None:
    """The operations that we use have the bodies and parameters of the document of 2.17.3."""
    assert kfp_server_api.__version__ == "2.17.3"
    found = {(o.method, o.path.removeprefix("/apis/v2beta1")): o for o in operations()}
    assert found["POST", "/runs"].request == found["GET", "/runs/{run_id}"].response == "V2beta1Run"
    assert found["POST", "/pipelines/upload_version"].request == "file"
    assert {"filter", "namespace", "page_size"} < found["GET", "/recurringruns"].query


@pytest.mark.parametrize(
    "fields", [{"display": "x"}, {"display_name": 3}, {"state": "DONE"}, {"created_at": "today"}, {"tags": ["x"]}]
)
def test_another_body_is_refused(settings: Settings, api: Pipelines, fields: dict[str, object]) -> None:
    """The tests' server refuses an unknown field and a value of another type, wherever the client would send them."""
    client = Client(settings)
    with pytest.raises(DigitsError, match="HTTP 400"):
        client._client.request("POST", f"{client.host}/apis/v2beta1/runs", body=fields)
    assert api.runs == {}

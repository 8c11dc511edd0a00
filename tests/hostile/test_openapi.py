"""Check the servers against the OpenAPI documents of the documentation, by Schemathesis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import given
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.helpers.fuzz import fuzz
from tests.helpers.support import ROOT
from tests.helpers.targets import Target

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 150
OPERATIONS = {
    f"{name} {found.ok().method.upper()} {found.ok().path}": (name, found.ok())
    for name in ("predictor", "gateway")
    for found in schemathesis.openapi.from_path(ROOT / "docs" / f"openapi-{name}.yaml").get_all_operations()
}
# An operation without parameters and body has no invalid requests.
CASES = [
    (operation, mode)
    for operation, (_, described) in OPERATIONS.items()
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or list(described.body) or list(described.query)
]


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_conforms(operation: str, mode: GenerationMode, http: requests.Session, request: pytest.FixtureRequest) -> None:
    """Requests that conform to the document, and requests that do not, are answered as it specifies."""
    name, described = OPERATIONS[operation]
    target: Target = request.getfixturevalue(name)

    @fuzz(EXAMPLES if list(described.body) or list(described.query) else 3)
    @given(case=described.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        answer = case.call(base_url=target.url, session=http, timeout=60)
        target.tally.count(target.name, answer.status_code, f"{case.method} {case.path} {case.query} {case.body!r}")
        case.validate_response(answer, checks=CHECKS)

    check()
    assert target.tally.new_failures() == []

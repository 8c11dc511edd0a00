"""Checks against OpenAPI documents of servers, by the client packages that their projects generate from them.

`kfp_server_api` is generated from the document of Kubeflow Pipelines, and `kserve` and `kubernetes` have models of all
their objects. requirements/ pins their versions.
"""

from __future__ import annotations

import datetime
import functools
import inspect
import re
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import kfp_server_api

SCALARS: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float)}
ANY = {"object", "ResourceQuantity", "K8sIoApimachineryPkgApiResourceQuantity"}


def kubernetes_models() -> list[ModuleType]:
    """Return the modules with the models of KServe and Kubernetes."""
    before, sys.argv = sys.argv, sys.argv[:1]  # importing kserve reads sys.argv
    try:
        import kserve
        from kubernetes import client
    finally:
        sys.argv = before
    return [kserve, kserve.models, client]


def build(models: list[ModuleType], kind: str, value: Any) -> Any:
    """Build an object of the model `kind` from JSON.

    Raises:
        AssertionError, ValueError: a field is unknown or missing, or a value has the wrong type.
    """
    if inner := re.fullmatch(r"list\[(.*)\]", kind):
        assert isinstance(value, list), f"expected a list of {inner[1]}, got {value!r}"
        return [build(models, inner[1], item) for item in value]
    if inner := re.fullmatch(r"dict\(str, (.*)\)", kind):
        assert isinstance(value, dict), f"expected a mapping of {inner[1]}, got {value!r}"
        return {key: build(models, inner[1], item) for key, item in value.items()}
    if kind in SCALARS:
        assert isinstance(value, SCALARS[kind]), f"expected {kind}, got {value!r}"
        return value
    if kind == "datetime":
        return datetime.datetime.fromisoformat(value)
    if kind in ANY:
        return value
    name = re.sub(r"^K8sIoApi(Apps|Core)V1", "V1", kind)
    model = next(getattr(module, name) for module in models if hasattr(module, name))
    if choices := getattr(model, "allowable_values", None):
        assert value in choices, f"expected one of {choices}, got {value!r}"
        return value
    fields = {json_name: field for field, json_name in model.attribute_map.items()}
    assert isinstance(value, dict), f"expected {kind}, got {value!r}"
    assert set(value) <= set(fields), f"{kind} has no {set(value) - set(fields)}"
    return model(**{fields[key]: build(models, model.openapi_types[fields[key]], item) for key, item in value.items()})


@dataclass(frozen=True)
class Operation:
    """An operation of the Pipelines API: the names of its query parameters, and the models of its bodies ('': none)."""

    method: str
    path: str
    query: frozenset[str]
    request: str
    response: str

    def check_request(self, query: dict[str, str], body: Any) -> None:
        """Raise AssertionError or ValueError if a request does not fit the document."""
        assert set(query) <= self.query, f"{self.path} has no parameters {set(query) - self.query}"
        if self.request and self.request != "file":
            build([kfp_server_api], self.request, body)

    def check_response(self, body: Any) -> None:
        """Raise AssertionError or ValueError if a response does not fit the document."""
        build([kfp_server_api], self.response, body)


@functools.cache
def operations() -> tuple[Operation, ...]:
    """Return all operations of the Pipelines API, from the source of the generated client."""
    found = []
    for name, api in vars(kfp_server_api).items():
        for function in vars(api).values() if name.endswith("ServiceApi") else ():
            source = inspect.getsource(function) if inspect.isfunction(function) else ""
            if not (call := re.search(r"call_api\(\s*'(.+)', '(.+)'", source)):
                continue
            query = frozenset(re.findall(r"query_params\.append\(\('([^']+)'", source))
            body = re.search(r"(?:body_params = local_var_params|local_var_files)\['(\w+)'\]", source)
            kind = re.search(rf":type {body[1]}: (.+)", source) if body else None
            answer = re.search(r"response_type='([^']+)'", source)
            assert answer, source
            found.append(Operation(call[2], call[1], query, kind[1] if kind else "", answer[1]))
    return tuple(found)


def find_operation(method: str, path: str) -> Operation | None:
    """Return the operation that a request asks for, or None."""
    for operation in operations():
        pattern = re.sub(r"\\{[^}]+\\}", "[^/:]+", re.escape(operation.path))
        if operation.method == method and re.fullmatch(pattern, path):
            return operation
    return None

"""Label selectors and network policies as Kubernetes defines them."""

from __future__ import annotations

from typing import Any

import pytest

from backends.acceptance.selectors import forbidding, matches

LABELS = {"app": "digits", "tier": "step"}


@pytest.mark.parametrize(
    ("selector", "selected"),
    [
        (None, True),
        ({}, True),
        ({"matchLabels": {"app": "digits"}}, True),
        ({"matchLabels": {"app": "other"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["digits"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["digits"]}]}, False),
        ({"matchExpressions": [{"key": "absent", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "absent", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "absent", "operator": "Exists"}]}, False),
    ],
)
def test_a_selector_selects_labels(selector: dict[str, Any] | None, selected: bool) -> None:
    """All conditions must hold; an empty selector selects everything."""
    assert matches(selector, LABELS) is selected


@pytest.mark.parametrize(
    ("spec", "port", "denied"),
    [
        ({"podSelector": {}, "policyTypes": ["Egress"]}, 53, True),
        ({"podSelector": {}, "policyTypes": ["Ingress"]}, 53, False),
        ({"podSelector": {}}, 53, False),  # without policyTypes and egress it is about ingress
        ({"podSelector": {"matchLabels": {"app": "other"}}, "policyTypes": ["Egress"]}, 53, False),
        ({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}, 53, False),
        ({"podSelector": {}, "egress": [{"ports": [{"port": 80}]}]}, 53, True),
        ({"podSelector": {}, "egress": [{"ports": [{"port": 9000}]}]}, 9000, False),
        ({"podSelector": {}, "egress": [{"ports": [{"port": 9000, "protocol": "UDP"}]}]}, 9000, True),
        ({"podSelector": {}, "egress": [{"ports": [{"port": 1, "endPort": 9999}]}]}, 9000, False),
        ({"podSelector": {}, "egress": [{"ports": [{"port": "s3"}]}]}, 9000, False),
        ({"podSelector": {}, "egress": [{"to": [{"podSelector": {}}]}]}, 9000, False),
    ],
)
def test_a_policy_forbids_what_no_rule_allows(spec: dict[str, Any], port: int, denied: bool) -> None:
    """A port is forbidden if a policy selects the pod and no rule has that port."""
    policies = [{"metadata": {"name": "p"}, "spec": spec}]
    assert forbidding(policies, LABELS, "Egress", port, "TCP") == ("p" if denied else "")


def test_one_policy_that_allows_is_enough() -> None:
    """Policies add up: what one of them allows is allowed."""
    deny = {"metadata": {"name": "deny"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    allow = {"metadata": {"name": "allow"}, "spec": {"podSelector": {}, "egress": [{}]}}
    assert forbidding([deny, allow], LABELS, "Egress", 53, "UDP") == ""

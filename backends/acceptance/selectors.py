"""Label selectors of Kubernetes, and what network policies allow to a pod."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backends.kserve.kube import Json


def matches(selector: Json | None, labels: Mapping[str, str]) -> bool:
    """Return whether a selector (matchLabels, matchExpressions) selects these labels; {} and None select all."""
    selector = selector or {}
    pairs = selector.get("matchLabels") or {}
    return bool(pairs.items() <= labels.items()) and all(
        _holds(e, labels) for e in selector.get("matchExpressions") or []
    )


def _holds(expression: Json, labels: Mapping[str, str]) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator in {"Exists", "DoesNotExist"}:
        return bool((key in labels) == (operator == "Exists"))
    return bool((labels.get(key) in expression.get("values", [])) == (operator == "In"))


def forbidding(policies: Sequence[Json], labels: Mapping[str, str], direction: str, port: int, protocol: str) -> str:
    """Return the names of the policies that forbid a pod all traffic of a port; '' if it may be allowed.

    `direction` is Ingress or Egress. A rule that is limited to some peers counts as one that allows, because the peer
    is not known here.
    """
    names = []
    for policy in policies:
        spec = policy["spec"]
        types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
        if direction not in types or not matches(spec.get("podSelector"), labels):
            continue
        if any(_allows(rule, port, protocol) for rule in spec.get(direction.lower()) or []):
            return ""
        names.append(policy["metadata"]["name"])
    return ", ".join(names)


def _allows(rule: Json, port: int, protocol: str) -> bool:
    return not rule.get("ports") or any(
        item.get("protocol", "TCP") == protocol and port in _range(item) for item in rule["ports"]
    )


def _range(item: Json) -> range:
    first = item.get("port")
    if not isinstance(first, int):  # all ports, or one by its name, which is not resolved here
        return range(1 << 16)
    return range(first, item.get("endPort", first) + 1)


def conditions_of(items: Sequence[Json], kind: str) -> Iterator[str]:
    """Yield the names of the objects whose condition `kind` is not True."""
    for item in items:
        conditions = item.get("status", {}).get("conditions", [])
        if not any(c["type"] == kind and c["status"] == "True" for c in conditions):
            yield item["metadata"]["name"]

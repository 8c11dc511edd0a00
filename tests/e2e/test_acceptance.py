"""`digits acceptance` on a real cluster: green, and one red probe for each sabotage."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from backends.acceptance.probe import FAILED, PASSED, SKIPPED
from backends.kind.namespace import SECRET, store
from digits.cli import cli
from tests.helpers.cluster_fixtures import Namespace
from tests.helpers.store_servers import with_profile_keys

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
POD = "digits-acceptance"
Sabotage = Callable[[Namespace], contextlib.AbstractContextManager[None]]


def run(namespace: Namespace, *options: str) -> dict[str, Any]:
    """Run `digits acceptance --json` and return its report."""
    environ = {"DIGITS_HOME": str(namespace.settings.home), "K8S_NAMESPACE": namespace.name}
    result = CliRunner().invoke(cli, ["acceptance", "--json", *options], env=environ)
    report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code == 0) == report["ok"], result.output
    return report


def live(namespace: Namespace, kind: str, name: str) -> dict[str, Any]:
    """Return an object without the fields that the server sets."""
    item: dict[str, Any] = json.loads(namespace.kubectl("get", kind, name, "--output=json"))
    for key in ("resourceVersion", "uid", "managedFields", "creationTimestamp"):
        item["metadata"].pop(key, None)
    return item


def patch(namespace: Namespace, kind: str, name: str, **changes: Any) -> None:
    namespace.kubectl("patch", kind, name, "--type=merge", f"--patch={json.dumps(changes)}")


@contextlib.contextmanager
def no_quota(namespace: Namespace) -> Iterator[None]:
    namespace.kubectl("create", "quota", "nothing", "--hard=pods=0")
    namespace.kubectl("wait", "--for=jsonpath={.status.hard.pods}=0", "quota/nothing", "--timeout=30s")
    yield
    namespace.kubectl("delete", "quota", "nothing")


@contextlib.contextmanager
def control_plane(namespace: Namespace) -> Iterator[None]:
    namespace.kubectl("label", "namespace", namespace.name, "control-plane=x")
    yield
    namespace.kubectl("label", "namespace", namespace.name, "control-plane-")


@contextlib.contextmanager
def default_deny(namespace: Namespace) -> Iterator[None]:
    """Leave the default-deny policy of the namespace without the one that allows what steps need."""
    policy = live(namespace, "networkpolicy", "pipeline-steps")
    namespace.kubectl("delete", "networkpolicy", "pipeline-steps")
    yield
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace.name}/networkpolicies"
    namespace.kube.request("POST", path, body=policy)


@contextlib.contextmanager
def runtime(namespace: Namespace, **changes: Any) -> Iterator[None]:
    """Change the container of the ServingRuntime."""
    before = live(namespace, "servingruntime", "digits")["spec"]["containers"]
    patch(namespace, "servingruntime", "digits", spec={"containers": [before[0] | changes]})
    yield
    patch(namespace, "servingruntime", "digits", spec={"containers": before})


@contextlib.contextmanager
def restricted_keys(namespace: Namespace) -> Iterator[None]:
    """Give the steps keys of a MinIO user that may not use the bucket."""
    before = live(namespace, "secret", SECRET)["data"]
    with store(namespace.settings) as reached:
        keys = with_profile_keys(dataclasses.replace(reached, minio_region="us-east-1"), "other")
    changed = {"AWS_ACCESS_KEY_ID": keys.minio_access_key, "AWS_SECRET_ACCESS_KEY": keys.minio_secret_key}
    patch(namespace, "secret", SECRET, stringData=changed)
    yield
    patch(namespace, "secret", SECRET, data=before)


SABOTAGES: dict[str, tuple[Sabotage, str]] = {
    "quota 0": (no_quota, "pods"),
    "label control-plane": (control_plane, "kserve"),
    "default deny": (default_deny, "policy"),
    "Pod Security": (lambda namespace: runtime(namespace, securityContext=None), "security"),
    "image missing": (lambda namespace: runtime(namespace, image="digits-predictor:absent"), "pods"),
    "S3 403": (restricted_keys, "s3"),
}


def test_each_sabotage_fails_exactly_one_probe(namespace: Namespace) -> None:
    """A cluster passes; each of six sabotages fails one probe, until it is undone; nothing is left behind."""
    before = namespace.store.keys()
    report = run(namespace)
    states = {probe["name"]: probe["state"] for probe in report["probes"]}
    unused = {"mlflow", "signatures", "kfp", "trainer", "gpu", "proxy", "run"}
    assert states == {name: SKIPPED if name in unused else PASSED for name in states}
    assert {version["name"] for version in report["versions"]} == {"Kubernetes", "KServe"}
    for name, (sabotage, expected) in SABOTAGES.items():
        with sabotage(namespace):
            report = run(namespace)
        assert (name, report["failed"]) == (name, [expected])
        (failed,) = [probe for probe in report["probes"] if probe["state"] == FAILED]
        assert all(finding["remedy"] for finding in failed["findings"] if finding["ok"] is False), failed
        print(f"{name}: {expected}, {sum(probe['seconds'] for probe in report['probes']):.0f} s")
    report = run(namespace, "--only", "kserve", "--output", str(namespace.settings.home / f"{namespace.name}-results"))
    assert report["ok"]
    junit = namespace.settings.home / f"{namespace.name}-results/plugins/digits/results/global/junit.xml"
    assert ElementTree.parse(junit).getroot()[0].get("failures") == "0"
    assert namespace.store.keys() == before
    assert POD not in namespace.kubectl("get", "pods", "--output=name")

"""Follow docs/kubeflow.md with kubectl and digits, against servers of the APIs of Kubernetes and Kubeflow Pipelines."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from digits.settings import Settings
from pipeline import STEPS
from tests.helpers.kfp_api import Pipelines, serving
from tests.helpers.kfp_runs import OUTPUTS, succeeded
from tests.helpers.kubernetes_api import KubectlApi, kubernetes_api, write_kubeconfig
from tests.helpers.openapi import build, kubernetes_models
from tests.helpers.support import ROOT, child_environment

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on PATH"),
]
TEXT = (ROOT / "docs" / "kubeflow.md").read_text(encoding="utf-8")
NAMESPACE, REGISTRY = "kubeflow-user-example-com", "registry.example.com/digits"
ARGO = "/apis/apps/v1/namespaces/kubeflow/deployments/workflow-controller"
MOST_COMMANDS = 12
# Programs that would install packages, build and push images, and forward ports.
PROGRAMS = {
    "pip": """case " $* " in *" -e "*) ;; *) echo images are built only by the code of a checkout >&2; exit 1;; esac""",
    "docker": 'echo "$@" >> docker.log',
    "kubectl": 'case "$*" in *" port-forward "*) echo "$@" >> kubectl.log;; *) exec {kubectl} "$@";; esac',
    "digits": """case "$1" in
        images) shift 2; for name in "$@"; do
            case $name in steps) echo digits-python-steps:51;; *) echo digits-$name:52;; esac
        done;;
        *) exec {python} -m digits "$@";;
    esac""",
}


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a script; each may have several lines."""
    command = ""
    for line in text.splitlines(keepends=True):
        command += line
        if not subprocess.run(["bash", "-n", "-c", command], capture_output=True, timeout=60, check=False).returncode:
            yield command
            command = ""
    assert not command, f"incomplete: {command}"


class Shell:
    """A shell in a copy of the checkout, with PROGRAMS on PATH."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def run(self, script: str) -> str:
        """Return what a script printed; fail if a command of it fails."""
        process = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", script],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert process.returncode == 0, process.stdout
        return process.stdout


@pytest.fixture
def api() -> Iterator[Pipelines]:
    with serving(Pipelines()) as server:
        succeeded(server, *STEPS[:-1])
        yield server


@pytest.fixture
def shell(api: Pipelines, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    folder, programs = tmp_path / "checkout", tmp_path / "bin"
    shutil.copytree(ROOT / "manifests", folder / "manifests", ignore=shutil.ignore_patterns("s3.env"))
    programs.mkdir()
    for name, text in PROGRAMS.items():
        text = text.replace("{python}", sys.executable).replace("{kubectl}", str(shutil.which("kubectl")))
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    secret: dict[str, Any] = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "mlpipeline-minio-artifact"}}
    secret["data"] = {"accesskey": "YWNjZXNz", "secretkey": "c2VjcmV0"}
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/mlpipeline-minio-artifact"
    template = {"spec": {"containers": [{"name": "workflow-controller"}]}}
    argo = {"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "workflow-controller"}}
    monkeypatch.setattr(KubectlApi, "objects", {path: secret, ARGO: argo | {"spec": {"template": template}}})
    with kubernetes_api(KubectlApi) as server:
        kubernetes = Settings(home=tmp_path / "kubernetes")
        kubernetes.home.mkdir()
        write_kubeconfig(kubernetes, server)
        environment = child_environment(
            Settings(home=settings.home),
            PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            KUBECONFIG=str(kubernetes.home / "kubeconfig"),
            HOME=str(tmp_path),
        )
        yield Shell(folder, {key: value for key, value in environment.items() if key != "DIGITS_BACKEND"})


def test_the_way_to_a_served_model(shell: Shell, api: Pipelines) -> None:
    """At most 12 commands apply the overlay for a namespace and a registry, and run the pipeline with its images."""
    blocks = re.findall(r"```sh kubeflow\n(.*?)```", TEXT, re.DOTALL)
    script = "".join(blocks)
    assert 1 < len(list(commands(script))) <= MOST_COMMANDS
    output = shell.run(script.replace("http://127.0.0.1:8888", api.url))
    assert OUTPUTS["deployed"]["endpoint"] in output

    objects = {path: item for path, item in KubectlApi.objects.items() if not path.endswith("minio-artifact")}
    (controller,) = objects.pop(ARGO)["spec"]["template"]["spec"]["containers"]
    assert controller["env"] == [
        {"name": "DEFAULT_REQUEUE_TIME", "value": "100ms"},
        {"name": "INFORMER_WRITE_BACK", "value": "true"},
    ]
    models = kubernetes_models()
    for path, item in objects.items():
        assert f"/namespaces/{NAMESPACE}/" in path
        names = [f"{version}{item['kind']}" for version in ("V1", "V1alpha1")]
        build(models, next(name for name in names if any(hasattr(module, name) for module in models)), item)
    text = json.dumps(list(objects.values()))
    assert set(re.findall(r'"image": "([^"]+)"', text)) == {
        f"{REGISTRY}/digits-{name}:52" for name in ("predictor", "web")
    }
    assert f"s3://mlpipeline/private/{NAMESPACE}/digits" in text
    (keys,) = [item["data"] for item in objects.values() if item["kind"] == "Secret"]
    assert keys == {"AWS_ACCESS_KEY_ID": "YWNjZXNz", "AWS_SECRET_ACCESS_KEY": "c2VjcmV0"}

    (sent,) = api.runs.values()
    assert set(re.findall(r'"image": "([^"]+)"', json.dumps(sent["pipeline_spec"]))) == {
        f"{REGISTRY}/digits-python-steps:51"
    }
    assert (shell.folder / "docker.log").read_text().count("push") == 3


def test_the_other_commands(shell: Shell, api: Pipelines) -> None:
    """Each command that the page lists for a run works as it is written."""
    block = re.search(r"```sh kubeflow-commands\n(.*?)```", TEXT, re.DOTALL)
    assert block
    shell.environment |= {"DIGITS_KFP_HOST": api.url, "DIGITS_BACKEND": "kubeflow"}
    shell.run(f"digits run\n{block[1]}")
    assert len(api.runs) == 2
    assert len(api.versions) == len(api.schedules) == 1
    assert (shell.folder / "pipeline.yaml").is_file()


def test_every_patch_is_json() -> None:
    """The patches that the page shows are JSON."""
    patches = re.findall(r"(?:-p|--patch) '(.*?)'", TEXT, re.DOTALL)
    assert len(patches) > 4
    for patch in patches:
        json.loads(patch)

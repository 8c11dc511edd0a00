"""The kind cluster, as far as it works without Docker: scripts stand for docker, kind and kubectl."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from backends.kind import cluster, kubectl, namespace
from backends.kserve.kube import kubeconfig_path
from backends.programs import ProgramError
from digits.errors import DigitsError, MissingError, UsageError
from digits.settings import Settings
from tests.helpers.kubernetes_api import write_kubeconfig


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Put scripts before other programs on PATH, and return the file to which they write their arguments.

    `kind` has the clusters of the file `clusters`; all else succeeds, unless the file `refused` is in the arguments.
    """
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    (tmp_path / "clusters").touch()
    script = f"""#!/bin/sh
echo "${{0##*/}} $*" >> {log}
case "$*" in
    *"$(cat {tmp_path}/refused 2>/dev/null || echo nothing)"*) echo "error: no such place" >&2; exit 1;;
    "get clusters") cat {tmp_path}/clusters;;
    "ps -aq --filter network=kind") cat {tmp_path}/others 2>/dev/null;;
    "ps "*) cat {tmp_path}/nodes 2>/dev/null;;
    "delete cluster"*) rm -f {tmp_path}/nodes; : > {tmp_path}/clusters;;
    *"rollout status"*) test ! -e {tmp_path}/unready; exit;;
    "image inspect"*) echo sha256:1;;
    "create cluster"*)
        for option; do
            case "$option" in --kubeconfig=*) echo "current-context: kind-digits" > "${{option#*=}}";; esac
        done
        echo digits > {tmp_path}/clusters;;
    "export kubeconfig"*) echo "current-context: kind-digits" > "${{5#*=}}";;
esac
exit 0
"""
    for name in ("docker", "kind", "kubectl"):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def test_up_names_a_missing_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the programs that it needs, `up` ends before it changes anything."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingError, match="docker is not on PATH"):
        cluster.up(Settings(home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_nothing_is_installed_in_another_cluster(calls: Path, tmp_path: Path) -> None:
    """A kubeconfig that the user put into the home stays: `up` and `down` refuse, `status` does not use it."""
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    write_kubeconfig(settings, "https://10.0.0.1")
    theirs = kubeconfig_path(settings).read_text()
    for clusters in ("", "digits\n"):
        (tmp_path / "clusters").write_text(clusters)
        with pytest.raises(UsageError, match=r"is of another cluster \(x\)"):
            cluster.up(settings)
        assert not cluster.status(settings)["answers"]
    with pytest.raises(UsageError, match="is of another cluster"):
        cluster.down(settings)
    (tmp_path / "clusters").write_text("")
    assert not cluster.down(settings)
    assert kubeconfig_path(settings).read_text() == theirs
    assert not {line for line in calls.read_text().splitlines() if line.startswith(("kubectl", "kind create"))}


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("kserve_manifest", "/nonexistent/kserve.yaml", "DIGITS_KSERVE_MANIFEST: there is no file"),
        ("kind_config", "/nonexistent/kind.yaml", "DIGITS_KIND_CONFIG: there is no file"),
        ("trusted_keys", "/nonexistent/key.pub", "DIGITS_TRUSTED_KEYS: cannot read"),
        ("kserve_images", "kserve/absent:1", "there is no image kserve/absent:1"),
        ("minio_image", "absent:1", "there is no image absent:1"),
    ],
)
def test_what_up_needs_is_checked_before_the_cluster_is_created(
    variable: str, value: str, message: str, calls: Path, tmp_path: Path
) -> None:
    """Keys, files and images are checked first, because the creation takes minutes."""
    (tmp_path / "refused").write_text("absent:1")
    with pytest.raises(DigitsError, match=message):
        cluster.up(Settings(home=tmp_path / "home", **{variable: value}))  # type: ignore[arg-type]
    assert "kind create" not in calls.read_text()


def test_the_reason_why_kserve_is_not_installed_is_reported(calls: Path, tmp_path: Path) -> None:
    """A manifest that cannot be applied is the error, not the controller that is missing therefore."""
    (tmp_path / "manifest.yaml").touch()
    (tmp_path / "refused").write_text("manifest.yaml")
    (tmp_path / "unready").touch()
    settings = Settings(home=tmp_path / "home", kserve_manifest=str(tmp_path / "manifest.yaml"))
    (tmp_path / "clusters").write_text("digits\n")
    settings.home.mkdir()
    (settings.home / ".digits-home").touch()
    (settings.home / "kind-digits").touch()
    with pytest.raises(DigitsError, match="no such place"):
        cluster.up(settings)
    (tmp_path / "refused").unlink()
    with pytest.raises(DigitsError, match="kserve-controller-manager did not become ready") as unready:
        cluster.up(settings)
    assert isinstance(unready.value.__cause__, ProgramError)


def test_all_nodes_of_an_existing_cluster_are_started(calls: Path, tmp_path: Path) -> None:
    """All nodes are started, not only the control plane, and the kubeconfig is the present cluster's."""
    (tmp_path / "clusters").write_text("digits\n")
    (tmp_path / "nodes").write_text("one\ntwo\n")
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    kubeconfig_path(settings).write_text("current-context: kind-digits\nclusters: [{name: former}]\n")
    (settings.home / "kind-digits").write_text("one\ntwo\n")
    cluster._create(settings, "digits", lambda _: None)  # what follows needs a cluster
    assert "docker start one two" in calls.read_text()
    assert kubeconfig_path(settings).read_text() == "current-context: kind-digits\n"


@pytest.mark.parametrize("labelled", [False, True])
def test_a_cluster_whose_creation_was_interrupted_is_created_again(labelled: bool, calls: Path, tmp_path: Path) -> None:
    """Its API server may answer before a pod can start. The label of the nodes shows that the creation ended."""
    (tmp_path / "clusters").write_text("digits\n")
    (tmp_path / "nodes").write_text("one\n")
    if labelled:
        (tmp_path / "bin" / "kubectl").write_text('#!/bin/sh\ncase "$*" in *--selector*) echo node/one;; esac\n')
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    (settings.home / "kind-digits").touch()
    cluster._create(settings, "digits", lambda _: None)
    assert ("kind create cluster" in calls.read_text()) is not labelled


def test_a_deployment_that_is_not_ready_is_the_error(calls: Path, tmp_path: Path) -> None:
    """If pods or events cannot be listed, the Deployment that did not become ready is named nevertheless."""
    for refused in ("get pods", "events"):
        (tmp_path / "refused").write_text(refused)
        (tmp_path / "unready").touch()
        with pytest.raises(DigitsError, match="minio did not become ready"):
            kubectl.wait(Settings(home=tmp_path), "minio", "digits", lambda _: None)
    assert "kubectl" in calls.read_text()


def test_a_cluster_that_was_stopped_is_reported_with_a_remedy(calls: Path, tmp_path: Path) -> None:
    """If the cluster does not answer, `deploy` and `down` name the command that starts it."""
    (tmp_path / "bin" / "kubectl").write_text("#!/bin/sh\necho 'connection refused' >&2; exit 1\n")
    with pytest.raises(MissingError, match="connection refused") as stopped:
        namespace.credentials(Settings(home=tmp_path))
    assert "digits cluster up" in stopped.value.remedy
    assert not calls.exists()


def test_a_secret_of_another_project_is_reported(calls: Path, tmp_path: Path) -> None:
    """A Secret of our name without our keys is an error that names it."""
    kubectl = tmp_path / "bin" / "kubectl"
    for content in ('{"data": {"password": "eA=="}}', '{"data": null}', "{}"):
        kubectl.write_text(f"#!/bin/sh\necho '{content}'\n")
        with pytest.raises(MissingError, match="Secret minio-kserve-secret in namespace digits does not have the keys"):
            namespace.credentials(Settings(home=tmp_path))
    assert not calls.exists()


OURS, THEIRS = {"app.kubernetes.io/part-of": "digits"}, {"app.kubernetes.io/part-of": "shop"}


@pytest.mark.parametrize(
    ("kind", "name"), [("Namespace", "digits"), ("Service", "minio"), ("ConfigMap", "digits-settings")]
)
@pytest.mark.parametrize("labels", [None, THEIRS])
def test_objects_of_another_project_are_not_taken(
    kind: str, name: str, labels: dict[str, str] | None, calls: Path, tmp_path: Path
) -> None:
    """A namespace, or an object with the name of one of ours, without our label is named, and nothing is applied."""
    present: list[dict[str, Any]] = [
        {"kind": "Deployment", "metadata": {"name": "minio", "labels": OURS}},
        {"kind": kind, "metadata": {"name": name, "labels": labels}},
    ]
    (tmp_path / "present").write_text(json.dumps({"kind": "List", "items": present}))
    kubectl = tmp_path / "bin" / "kubectl"
    answer = f'case "$*" in *"get -k"*) cat {tmp_path}/present;; *"get secret"*) echo NotFound >&2; exit 1;; esac'
    kubectl.write_text(f'#!/bin/sh\necho "kubectl $*" >> {calls}\n{answer}\n')
    with pytest.raises(UsageError, match=f"{kind} {name} belongs to another project") as refused:
        namespace.install(Settings(home=tmp_path))
    assert "K8S_NAMESPACE" in refused.value.remedy
    assert " apply " not in calls.read_text()
    present[1]["metadata"]["labels"] = OURS
    (tmp_path / "present").write_text(json.dumps({"kind": "List", "items": present}))
    namespace.install(Settings(home=tmp_path))
    assert " apply " in calls.read_text()


def test_the_store_of_another_project_is_not_used(calls: Path, tmp_path: Path) -> None:
    """A Secret with the name and the keys of ours, but without our label, is refused."""
    secret = {"data": {"AWS_ACCESS_KEY_ID": "eA==", "AWS_SECRET_ACCESS_KEY": "eA=="}, "metadata": {"labels": THEIRS}}
    (tmp_path / "bin" / "kubectl").write_text(f"#!/bin/sh\necho '{json.dumps(secret)}'\n")
    with pytest.raises(UsageError, match="Secret minio-kserve-secret belongs to another project"):
        namespace.credentials(Settings(home=tmp_path))


def test_a_cluster_that_someone_else_created_later_is_kept(calls: Path, tmp_path: Path) -> None:
    """The mark of a cluster that was removed without digits does not count for another one of the same name."""
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    (tmp_path / "clusters").write_text("digits\n")
    (tmp_path / "nodes").write_text("one\n")
    (settings.home / "kind-digits").write_text("one\n")
    cluster._create(settings, "digits", lambda _: None)  # what follows needs a cluster
    cluster.check_ours(settings)
    (tmp_path / "nodes").write_text("theirs\n")
    with pytest.raises(UsageError, match="digits did not create the kind cluster digits"):
        cluster.down(settings)
    assert "kind delete" not in calls.read_text()


@pytest.mark.parametrize("others", ["", "registry\n"])
def test_the_network_stays_if_a_container_of_others_uses_it(others: str, calls: Path, tmp_path: Path) -> None:
    """Docker would remove a network of which the containers are stopped, and they could not start again."""
    (tmp_path / "clusters").write_text("digits\n")
    (tmp_path / "nodes").write_text("one\n")
    (tmp_path / "others").write_text(others)
    settings = Settings(home=tmp_path / "home")
    settings.home.mkdir()
    (settings.home / "kind-digits").touch()
    assert cluster.down(settings)
    assert ("docker network rm kind" in calls.read_text()) == (others == "")

"""The docker backend on a real Docker engine: its containers, its failures, and what remains afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from PIL import Image, ImageDraw

from backends import runs
from backends.base import Request
from backends.docker import containers, images, step_runner
from backends.docker import minio as docker_store
from backends.docker import predictor as docker_endpoint
from backends.docker.backend import DockerBackend
from digits import events, homes
from digits.answers import within
from digits.data import corrections
from digits.errors import MissingError, StepFailed, UsageError
from digits.release import releases
from digits.release.verify import verify
from digits.store import open_store
from digits.store.s3_client import s3_client
from tests.helpers import canary
from tests.helpers.engines import IMAGES, PARAMETERS, cleaned, engine, settings_for, wait_until
from tests.helpers.homes import BASIC, Home

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parent.parent.parent
NO_IMAGE = "registry.invalid/no-such-python:1"


@pytest.fixture(scope="module")
def client():
    """A client of the engine."""
    client = engine()
    yield client
    client.close()


@pytest.fixture(scope="module")
def settings(client, tmp_path_factory):
    """A home whose containers are removed at the end."""
    with cleaned(settings_for(tmp_path_factory.mktemp("home"), backend="docker")) as made:
        yield made


@pytest.fixture
def backend(settings):
    """The backend."""
    opened = DockerBackend(settings)
    yield opened
    opened.close()


def digits(home, *arguments, **environment):
    """Run the command line; returns the finished process."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("DIGITS_", "MINIO_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "digits", *arguments],
        env=plain | IMAGES | {"DIGITS_HOME": str(home), "PYTHONPATH": str(ROOT)} | environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def nothing_of(client, settings):
    """Return whether the engine has no container, network or volume of that home."""
    label = {"label": f"{containers.INSTALLATION_LABEL}={containers.installation(settings)}"}
    return not (
        client.containers.list(all=True, filters=label)
        or client.networks.list(filters=label)
        or client.volumes.list(filters=label)
    )


def test_a_step_container_is_labelled_and_restricted(client, settings, monkeypatch):
    """A step's container has our labels, the calling user, a read-only root, no capability and few credentials."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "canary-mlflow")
    secrets = {"kfp_token": "canary-token", "kfp_cookie": "canary-cookie", "endpoint_token": "canary-endpoint"}
    backend = DockerBackend(dataclasses.replace(settings, **secrets))
    seen = []

    def look(event):
        if event["event"] == "started" and event["step"] == "prepare":
            assert wait_until(lambda: containers.list_containers(client, settings, "step"))
            seen.extend(c.attrs for c in containers.list_containers(client, settings))

    with contextlib.closing(backend):
        result = backend.run(Request(PARAMETERS), look)
    assert result.state == "SUCCEEDED"
    assert {e for a in seen for e in a["Config"]["Env"] if "canary" in e} == {"MLFLOW_TRACKING_TOKEN=canary-mlflow"}
    step = next(a for a in seen if a["Config"]["Labels"][containers.ROLE_LABEL] == "step")
    assert step["Config"]["User"] == f"{os.getuid()}:{os.getgid()}"
    assert step["Config"]["Labels"][containers.RUN_LABEL] == result.run_id
    assert step["HostConfig"]["ReadonlyRootfs"]
    assert step["HostConfig"]["CapDrop"] == ["ALL"]
    bindings = [b for a in seen for bound in a["NetworkSettings"]["Ports"].values() for b in bound or []]
    assert {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}
    assert containers.list_containers(client, settings, "step") == []
    made = [p for p in settings.home.rglob("*") if p.is_file()]
    assert {p.stat().st_uid for p in made} == {os.getuid()}


def test_other_containers_are_restricted_too(client, settings, backend):
    """MinIO and predictor have a read-only root, no capability and no new privileges; only MinIO runs as root."""
    backend.run(Request(PARAMETERS), lambda event: None)
    found = {c.labels[containers.ROLE_LABEL]: c for c in containers.list_containers(client, settings)}
    assert set(found) == {"minio", "predictor"}
    for role, container in found.items():
        held = container.attrs["HostConfig"]
        assert held["ReadonlyRootfs"]
        assert held["CapDrop"] == ["ALL"]
        assert held["SecurityOpt"] == ["no-new-privileges"]
        assert not held["Privileged"]
        assert not held["CapAdd"]
        assert not held["Binds"] or role == "minio"
    for name in ("steps", "predictor", "web"):
        assert (
            client.images.get(images.ensure_image(client, settings, name, print)).attrs["Config"]["User"] == "1000:1000"
        )


def test_no_secret_leaks(client, tmp_path):
    """No secret setting is in a run's files, MLflow, bucket, logs, arguments, outputs, error texts or images."""
    settings, stem = canary.planted(settings_for(tmp_path, backend="docker"))
    kept = {"access_key": settings.minio_access_key, "secret_key": settings.minio_secret_key}
    homes.claim(settings.home)
    (settings.home / "minio.json").write_text(json.dumps(kept))
    said = []
    with cleaned(settings), canary.CommandLines([stem]) as processes:
        for arguments in (("run", *BASIC), ("doctor",), ("verify",)):
            said.extend(Home(settings).start(*arguments).communicate(timeout=300))
        opened = open_store(docker_store.host_settings(client, settings))
        objects = opened.keys()
        assert any(key.endswith("manifest.json") for key in objects)
        assert [key for key in objects if canary.holds(opened.get(key), [stem])] == []
        found = containers.list_containers(client, settings)
        assert {c.labels[containers.ROLE_LABEL] for c in found} == {"minio", "predictor"}
        for container in found:
            attrs = container.attrs
            assert stem in json.dumps(attrs["Config"]["Env"])
            seen = [attrs["Path"], attrs["Args"], container.labels, container.top()]
            assert not canary.holds(json.dumps(seen).encode(), [stem])
            assert not canary.holds(container.logs(), [stem])
        (settings.home / "minio.json").write_text(json.dumps(kept | {"secret_key": f"{stem}-wrong"}))
        failed = Home(settings).start("releases")
        said.extend(failed.communicate(timeout=60))
    assert failed.returncode
    assert "SignatureDoesNotMatch" in said[-1]
    assert [text for text in said if canary.holds(text.encode(), [stem])] == []
    assert processes.seen == set()
    assert processes.looks > 20
    assert {"mlflow.db", "report.html", "train.log"} <= {p.name for p in settings.home.rglob("*")}
    assert canary.files_with(settings.home, [stem], but={"minio.json"}) == []
    minio = docker_store.ensure_image(client, settings, print)
    for name in (
        minio,
        *(images.ensure_image(client, settings, which, print) for which in ("steps", "predictor", "web")),
    ):
        image = client.images.get(name)
        made = json.dumps([image.attrs, image.history()]).encode()
        assert not canary.holds(made, [stem])
        assert b"KEY=" not in made.replace(b"GPG_KEY=", b"")
        with within(600):  # an image has gigabytes
            assert not canary.stream_holds(image.save(chunk_size=1 << 24), [stem])


def test_a_home_whose_folders_are_on_another_disk(client, tmp_path):
    """Folders of the home that are links work as others do, and MLflow has what the steps logged there."""
    settings = settings_for(tmp_path / "home", backend="docker")
    homes.claim(settings.home)
    for name in ("cache", "data", "mlartifacts", "pipeline"):
        (tmp_path / "disk" / name).mkdir(parents=True)
        (settings.home / name).symlink_to(tmp_path / "disk" / name)
    (settings.home / "mlflow.db").symlink_to(tmp_path / "disk" / "mlflow.db")
    with cleaned(settings), contextlib.closing(DockerBackend(settings)) as backend:
        result = backend.run(Request(PARAMETERS), lambda event: None)
        store = open_store(backend.host_settings())
        checks = verify(settings, store, result.outputs["published"]["version"])
        assert [check for check in checks if not check.passed] == []
        again = backend.run(Request(PARAMETERS), lambda event: None)
    assert [name for name, step in again.steps.items() if step.state == "done"] == ["deploy"]


@pytest.mark.parametrize(
    "loss", ["disconnected", "network removed", "alias lost", "paused", "keys lost", "keys changed"]
)
def test_what_the_containers_lost_between_two_runs_is_restored(client, settings, backend, loss):
    """MinIO and predictor without their network or with other keys are started again, with the same objects."""
    backend.prepare(lambda event: None)
    open_store(backend.host_settings()).put("kept", b"1")
    (network,) = client.networks.list(names=[containers.ensure_network(client, settings)])
    file, found = settings.home / "minio.json", containers.list_containers(client, settings)
    if loss in {"disconnected", "network removed", "alias lost"}:
        for container in found:
            network.disconnect(container, force=True)
        if loss == "network removed":
            network.remove()
        for container in found * (loss == "alias lost"):
            network.connect(container)
    elif loss == "paused":
        for container in found:
            container.pause()
    elif loss == "keys lost":
        file.unlink()
    else:
        file.write_text(json.dumps({"access_key": "other-access", "secret_key": "other-secret"}))
    if loss == "paused":
        with pytest.raises(MissingError, match="MinIO is not running"):
            backend.host_settings()
    backend.prepare(lambda event: None)
    assert open_store(backend.host_settings()).get("kept") == b"1"
    for role in ("minio", "predictor"):
        (container,) = containers.list_containers(client, settings, role)
        assert containers.is_attached(client, settings, container, role)
    code = "import urllib.request; urllib.request.urlopen('http://minio:9000/minio/health/live')"
    client.containers.run(
        images.ensure_image(client, settings, "steps", print),
        ["python", "-c", code],
        network=containers.ensure_network(client, settings),
        remove=True,
    )


def test_only_the_user_can_read_the_credentials(settings, backend):
    """The file with MinIO's credentials has mode 0600, and another home has other credentials."""
    backend.prepare(lambda event: None)
    assert (settings.home / "minio.json").stat().st_mode & 0o777 == 0o600
    assert (
        docker_store.credentials(settings)[1]
        in docker_store.host_settings(containers.connect(), settings).minio_secret_key
    )


def test_the_bucket_holds_the_release_with_its_manifest(settings, backend):
    """Read with the MinIO client alone, the release is complete, and each digest in its manifest is correct."""
    result = backend.run(Request(PARAMETERS), lambda event: None)
    reached = backend.host_settings()
    bucket = s3_client(reached)
    prefix = f"models/digits/{result.outputs['published']['version']}/"
    found = {o.object_name for o in bucket.list_objects("digits", prefix=prefix, recursive=True)}
    manifest = json.loads(bucket.get_object("digits", prefix + "manifest.json").read())
    assert found == {prefix + name for name in [*manifest["files"], "manifest.json", *releases.ATTACHED]}
    store = open_store(reached)
    for name, digest in manifest["files"].items():
        store.get(prefix + name, sha256=digest)


@pytest.mark.parametrize("how", ["kill", "remove"])
def test_a_killed_or_removed_step_fails(client, settings, backend, how):
    """A killed or removed container does not count as done (kubeflow/pipelines#13332), and no container remains."""

    def attack(event):
        if event["event"] == "started" and event["step"] == "train":
            threading.Thread(target=strike, daemon=True).start()

    def strike():
        def train():
            return [
                c
                for c in containers.list_containers(client, settings, "step")
                if c.labels.get("org.digits.step") == "train"
            ]

        assert wait_until(lambda: any(c.status == "running" for c in train()))
        for victim in train():
            victim.kill() if how == "kill" else victim.remove(force=True)

    with pytest.raises(StepFailed, match=r"137|removed") as failure:
        backend.run(Request(PARAMETERS | {"seed": 99}), attack)
    assert failure.value.step == "train"
    assert runs.find(settings.home).record()["state"] == "FAILED"
    assert containers.list_containers(client, settings, "step") == []


def test_a_step_that_runs_out_of_memory_is_reported(client, tmp_path, monkeypatch):
    """A container that is killed at its memory limit is a failed step with that cause; no container remains."""
    create = step_runner.StepRunner._create

    def small(*arguments):
        made = create(*arguments)
        made.update(mem_limit="64m", memswap_limit="64m")
        return made

    monkeypatch.setattr(step_runner.StepRunner, "_create", small)
    with cleaned(settings_for(tmp_path, backend="docker")) as settings:
        run = runs.create(settings.home, "docker", Request(PARAMETERS))
        monkeypatch.setenv(events.VARIABLE, str(run.events))
        steps = step_runner.StepRunner(client, settings, run, images.ensure_image(client, settings, "steps", print))
        assert steps.start("train", ["python", "-c", "b'x' * (1 << 30)"], {}, run.logs / "train.log") == 137
        (event,) = events.EventLog(run.events).read_new()
        assert (event["event"], event["step"], event["remedy"]) == ("failed", "train", "digits run --resume")
        assert event["cause"] == "exit code 137: killed, because the container ran out of memory"
        assert containers.list_containers(client, settings, "step") == []


def test_a_long_step_is_polled(client, settings, monkeypatch):
    """A step that outlasts POLL_SECONDS is waited for by several requests; the result is its own exit code."""
    monkeypatch.setattr(step_runner, "POLL_SECONDS", 1)
    image = images.ensure_image(client, settings, "steps", print)
    waits, labels = [], containers.labels(settings, "step")
    made = client.containers.create(image, ["python", "-c", "import time; time.sleep(4); exit(3)"], labels=labels)
    try:
        made.start()
        monkeypatch.setattr(made, "wait", lambda real=made.wait, **given: waits.append(given) or real(**given))
        assert step_runner.wait_for_exit(made) == 3
    finally:
        containers.remove(made)
    assert len(waits) > 2


def test_a_taken_port_is_replaced(client, settings):
    """If DIGITS_PORT is taken, the predictor serves on another port."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = dataclasses.replace(settings, port=holder.getsockname()[1])
        found = docker_endpoint.ensure(client, taken, print)
        assert containers.published(found, docker_endpoint.HTTP) not in {0, taken.port}
        assert socket.create_connection(holder.getsockname(), 1)
        assert docker_endpoint.ensure(client, taken, print).id == found.id
    moved = docker_endpoint.ensure(client, settings, print)
    assert moved.id != found.id


def test_the_predictor_image_is_small_and_minimal(client, settings):
    """The image has at most 450 MB, does not run as root, and lacks TensorFlow, kfp, mlflow, pip and a compiler."""
    name = images.ensure_image(client, settings, "predictor", print)
    image = client.images.get(name)
    assert image.attrs["Size"] <= 450e6
    assert image.attrs["Config"]["User"] == "1000:1000"
    script = (
        "import importlib.util as u, shutil, digits.serving.server; "
        "print([m for m in ('tensorflow', 'kfp', 'mlflow', 'pip', 'setuptools') if u.find_spec(m)], "
        "[p for p in ('gcc', 'cc', 'apt-get', 'pip') if shutil.which(p)])"
    )
    said = client.containers.run(
        name,
        ["python", "-c", script],
        labels=containers.labels(settings, "step"),
        read_only=True,
        tmpfs={"/tmp": ""},
        network_disabled=True,
        remove=True,
    )
    assert said.decode().strip() == "[] []"


def test_a_tag_depends_on_the_content(client, settings, monkeypatch, tmp_path):
    """The same sources give the same tag; one changed byte gives another."""
    before = images.reference(client, settings, "predictor")
    assert images.reference(client, settings, "predictor") == before
    for part in ("dev", "requirements", "digits", "pyproject.toml", "LICENSE"):
        subprocess.run(["cp", "-r", str(ROOT / part), str(tmp_path)], check=True)
    monkeypatch.setattr(images, "ROOT", tmp_path)
    monkeypatch.setattr(images, "FOLDER", tmp_path / "dev" / "images")
    assert images.reference(client, settings, "predictor") == before
    with (tmp_path / "digits" / "errors.py").open("a") as file:
        file.write("\n")
    assert images.reference(client, settings, "predictor") != before


def test_no_engine_is_exit_code_3_with_a_remedy(tmp_path):
    """The error has one line of cause and one of remedy, and nothing is created."""
    done = digits(tmp_path, "run", "--backend", "docker", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert done.returncode == 3
    assert "no Docker engine answers" in done.stderr
    assert "--backend process" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_docker_context_is_used(tmp_path):
    """If the engine of the current `docker context` is unreachable, the error names its address."""
    context = {"Name": "away", "Metadata": {}, "Endpoints": {"docker": {"Host": f"unix://{tmp_path}/away.sock"}}}
    folder = tmp_path / "config" / "contexts" / "meta" / "5f2a1f0bd9b7c1ab8b3c9c0b3d3a1f6f"
    from hashlib import sha256

    folder = folder.with_name(sha256(b"away").hexdigest())
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(json.dumps(context))
    (tmp_path / "config" / "config.json").write_text(json.dumps({"currentContext": "away"}))
    done = digits(tmp_path, "run", "--backend", "docker", DOCKER_CONFIG=str(tmp_path / "config"))
    assert done.returncode == 3
    assert "away.sock" in done.stderr


@pytest.mark.parametrize("variable", ["DIGITS_BASE_IMAGE", "DIGITS_MINIO_IMAGE"])
def test_an_unavailable_image_is_exit_code_3_and_leaves_nothing(client, tmp_path, variable):
    """The error names the image and how to load it; no container, network or volume remains."""
    done = digits(tmp_path, "run", "--backend", "docker", **{variable: NO_IMAGE})
    assert done.returncode == 3, done.stderr
    assert NO_IMAGE in done.stderr
    assert variable in done.stderr
    assert nothing_of(client, settings_for(tmp_path))


def test_localhost_in_a_setting_is_refused(client, settings):
    """Inside a container localhost is the container itself, so it is refused before anything starts."""
    for value in ({"minio_endpoint": "localhost:9000"}, {"tracking_uri": "http://127.0.0.1:5000"}):
        with pytest.raises(UsageError, match="inside a container"):
            DockerBackend(dataclasses.replace(settings, **value)).check()


def test_paths_with_dots_and_links_work_in_containers(settings):
    """DIGITS_HOME and DIGITS_DATA may contain `..` or links; the steps get the path that is mounted."""
    real = settings.home / "real"
    real.mkdir()
    (settings.home / "link").symlink_to(real)
    (settings.home / "beside").mkdir()
    for given in (settings.home / "beside" / ".." / "real", settings.home / "link"):
        inside = DockerBackend(dataclasses.replace(settings, data=str(given))).step_settings()
        assert inside.data == str(real.resolve())
        assert settings_for(given).home == real.resolve()


def test_a_full_disk_is_exit_code_3(client, tmp_path):
    """A run in a home on a nearly full disk is refused."""
    home = tmp_path / "small"
    home.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2500k", "none", str(home)], check=False).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    try:
        with cleaned(settings_for(home, backend="docker")):
            done = digits(home, "run", "--backend", "docker", "--dataset", "sklearn-digits", "--epochs", "1")
            assert done.returncode == 3, done.stderr
            assert "free space" in done.stderr
            assert containers.list_containers(client, settings_for(home), "step") == []
    finally:
        subprocess.run(["umount", str(home)], check=True)


@pytest.mark.parametrize(("command", "digit"), [("up", 2), ("web", 4)])
def test_a_correction_on_its_page_reaches_its_next_run(settings, backend, command, digit):
    """`digits up` and `digits web` write corrections to the store of this backend, and its next run uses them."""
    backend.run(Request(PARAMETERS), lambda event: None)
    before = len(corrections.collect(open_store(backend.host_settings()), limit=10))
    basic = ("--dataset", "sklearn-digits", "--epochs", "1") if command == "up" else ()
    page = subprocess.Popen(
        [sys.executable, "-m", "digits", command, "--no-open", "--port", "0", *basic],
        env=os.environ | IMAGES | settings.environ(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        said = next(line for line in page.stderr if line.startswith("draw at "))
        drawing = io.BytesIO()
        picture = Image.new("L", (280, 280))
        ImageDraw.Draw(picture).line([(140, 40), (120, 240), (90 + 20 * digit, 240)], fill=255, width=24)
        picture.save(drawing, "PNG")
        answer = httpx.post(
            f"{said.split()[2]}/api/feedback",
            params={"label": digit, "answer": 1, "release": "v1"},
            content=drawing.getvalue(),
            headers={"Content-Type": "image/png"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
    finally:
        os.killpg(page.pid, signal.SIGINT)
        page.communicate(timeout=60)
    assert page.returncode == 0
    result = backend.run(Request(PARAMETERS), lambda event: None)
    assert result.outputs["feedback"]["count"] == before + 1
    assert not list(settings.home.glob("store/feedback/*"))


def test_clean_removes_everything_from_the_engine(client, settings, backend):
    """After `digits clean --yes` no container, network or volume of this home remains; doctor reports the same."""
    backend.prepare(lambda event: None)
    assert not nothing_of(client, settings)
    done = digits(settings.home, "clean", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert any(line.startswith("volume ") for line in json.loads(done.stdout)["removed"])
    assert any(" images, " in line for line in json.loads(done.stdout)["left"])
    assert nothing_of(client, settings)
    doctor = digits(settings.home, "doctor", "--backend", "docker", "--json")
    findings = {f["name"]: f for f in json.loads(doctor.stdout)["findings"]}
    assert findings["leftovers"]["found"] == "none"


def test_a_store_of_the_user_is_used_unchanged(settings):
    """With s3:// in DIGITS_STORE our MinIO is not used."""
    theirs = dataclasses.replace(settings, store="s3://theirs", minio_endpoint="s3.example:9000")
    assert not docker_store.is_ours(theirs)
    assert docker_store.container_settings(theirs) == theirs
    with pytest.raises(MissingError):
        docker_store.host_settings(containers.connect(), dataclasses.replace(settings, home=settings.home / "other"))

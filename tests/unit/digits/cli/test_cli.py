"""The command line: exit codes, one JSON object on standard output, and errors that help."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from backends.kserve.kube import RefusedError
from digits.cli import summary
from digits.data import corrections
from digits.data.catalog import names
from digits.data.dataset import Dataset
from digits.evaluation.verdict import with_article
from digits.release import ledger, releases
from digits.settings import Settings
from digits.store.file import FileStore
from digits.training.recipe import OPTIMIZERS
from tests.helpers.command import Digits
from tests.helpers.serving import serving
from tests.helpers.support import Finished, StartPredictor, child_environment, free_port

pytestmark = pytest.mark.filterwarnings("ignore")  # kfp's and MLflow's


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--epochs", "0"], "0 is not in the range"),
        (["run", "--epochs", "many"], "not a valid integer"),
        (["run", "--backend", "slurm"], "'process', 'docker', 'kubeflow'"),
        (["run", "--dataset", "letters"], "sklearn-digits"),
        (["run", "--backend", "kubeflow", "--data", "http://files/mnist"], "ConfigMap digits-settings"),
        (["run", "--min-accuracy", "95"], "95"),
        (["run", "--nonsense"], "No such option"),
        (["run", "--output", "x.yaml"], "--compile-only"),
        (["predict", "no-such-file.png"], "no-such-file.png"),
        (["nonsense"], "No such command"),
        (["relases"], "Did you mean releases?"),
    ],
)
def test_wrong_usage_is_2(arguments: list[str], expected: str, digits: Digits) -> None:
    """A request that makes no sense ends with 2, says what would, and with --json says it in JSON too."""
    said = digits(*arguments)
    assert said.code == 2
    assert expected in said.err
    assert said.out == ""
    if arguments[0] != "nonsense":
        answer = digits(*arguments, "--json").json
        assert expected in answer["error"]
        assert answer["exit_code"] == 2


def test_a_setting_that_makes_no_sense_is_2(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong variable in the environment is a usage error that names it."""
    settings = Settings()
    object.__setattr__(settings, "tracking_uri", "./mlruns")
    said = digits("releases", on=settings)
    assert said.code == 2
    assert "MLFLOW_TRACKING_URI" in said.err


def test_an_env_file_that_is_no_text_is_2(digits: Digits, tmp_path: Path) -> None:
    """A .env in another encoding is named, with what was expected."""
    (tmp_path / ".env").write_bytes("DIGITS_DATA=/prüfung".encode("latin-1"))
    said = digits("releases", "--json")
    assert (said.code, "expected text in UTF-8" in said.json["error"]) == (2, True)
    assert ".env" in said.err


def test_a_home_that_cannot_be_is_1(digits: Digits, tmp_path: Path) -> None:
    """Where DIGITS_HOME cannot be made, the path, the system's reason and the way out are said."""
    (tmp_path / "file").write_text("no folder")
    said = digits("run", "--json", on=Settings(home=tmp_path / "file" / "home"))
    assert (said.code, "Not a directory" in said.json["error"], "DIGITS_HOME" in said.json["remedy"]) == (1, True, True)


@pytest.mark.parametrize("writable", [True, False])
def test_a_fault_of_the_program_is_told_as_one(
    writable: bool, digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What nobody foresaw ends with 1 and one object; its traceback is in a file, else shown, and has no password."""
    home = settings.home if writable else tmp_path / "file" / "home"
    (tmp_path / "file").write_text("no folder")

    def faulty(_: object) -> str:
        raise KeyError("http://user:canary@host")

    monkeypatch.setattr(ledger, "champion", faulty)
    said = digits("releases", "--json", on=dataclasses.replace(settings, home=home), traceback=not writable)
    assert (said.code, said.json["exit_code"]) == (1, 1)
    assert "a fault of digits itself" in said.json["error"]
    assert "KeyError: 'http://<SECRET>@host'" in said.json["error"]
    assert "test_cli.py:" in said.json["error"]
    kept = list(home.glob("logs/fault-*.txt")) if writable else []
    told = kept[0].read_text() if writable else said.err
    assert "in faulty" in told
    assert "canary" not in told + said.err
    assert (str(kept[0]) if writable else "the traceback above") in said.json["remedy"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "--resume"], "no run"),
        (["run", "--resume", "20260101-000000-abcdef"], "no run 20260101-000000-abcdef"),
        (["releases"], "no releases yet"),
        (["report", "--no-open"], "no report"),
        (["verify"], "no champion"),
        (["run", "--data", "/no/such/folder", "--quiet"], "no folder /no/such/folder"),
    ],
)
def test_something_missing_is_3(arguments: list[str], expected: str, digits: Digits, settings: Settings) -> None:
    """What is not there ends with 3 and the way to get it."""
    try:
        said = digits(*arguments)
        assert said.code == 3
        assert expected in said.err
        assert "try:" in said.err
        if arguments != ["releases"]:
            assert expected in digits(*arguments, "--json").json["error"]
    finally:
        stop_endpoint(settings)


@pytest.mark.parametrize("command", [["report", "--no-open"], ["run", "--resume"]])
def test_an_unknown_run_lists_the_last(command: list[str], digits: Digits, settings: Settings) -> None:
    """Whoever mistypes a run's id sees the five that are newest, and no more."""
    from backends import runs
    from backends.base import Request

    ids = [runs.create(settings.home, "process", Request({})).id for _ in range(6)]
    said = digits(*command, "20260101")
    assert said.code == 3
    assert "no run 20260101" in said.err
    assert all(known in said.err for known in ids[1:])
    assert ids[0] not in said.err


def test_a_resumed_run_is_named(digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`digits run --resume` says which run it takes up before it does."""
    from backends import runs
    from backends.base import Request
    from digits.errors import StepFailed

    taken = runs.create(settings.home, "process", Request({})).id
    runs.find(settings.home).update(state="FAILED")

    class Stub:
        def check(self) -> None:
            raise StepFailed("train", "as before")

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr("backends.open_backend", lambda _: Stub())
    said = digits("run", "--resume")
    assert said.code == 1
    assert said.err.startswith(f"takes up run {taken}\n")


def test_up_that_promotes_nothing_is_1(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no release passes the gate and none did before, there is no page, for the reason that the gate gave."""
    from backends.fake import FakeBackend

    monkeypatch.setattr("backends.open_backend", FakeBackend)  # its run is a real one
    options = ("--dataset", "sklearn-digits", "--epochs", "1", "--min-accuracy", "1", "--no-open", "--port", "0")
    said = digits("up", *options)
    assert said.code == 1
    assert "nothing is served: accuracy" in said.err


def stop_endpoint(settings: Settings) -> None:
    """End the predictor that a run may have started."""
    from backends.process import predictor

    predictor.stop(settings)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["promote", "0" * 12], "no release"),
        (["rollback"], "no earlier champion"),
        (["predict", "--endpoint", "http://127.0.0.1:9", "drawing.png"], "http://127.0.0.1:9"),
        (["predict", "drawing.png"], "nothing is served yet"),
        (["verify", "http://127.0.0.1:9"], "digits cluster open"),
        (["verify", "0" * 12], "no release"),
    ],
)
def test_a_failure_is_1(arguments: list[str], expected: str, digits: Digits, tmp_path: Path) -> None:
    """What was tried and failed ends with 1 and the reason, in one JSON object if asked."""
    Image.fromarray(drawing(np.eye(28, dtype=np.uint8) * 255)).save(tmp_path / "drawing.png")
    said = digits(*arguments)
    assert said.code == 1
    assert expected in said.err
    answer = digits(*arguments, "--json")
    assert answer.code == 1
    assert isinstance(answer.json, dict)


@pytest.mark.parametrize(
    ("part", "remedy"),
    [
        ("models/digits/{version}/model.onnx", "digits rollback"),
        ("models/digits/{version}/manifest.json", "digits releases"),
        ("promotions/digits/*.json", "restore promotions/digits/"),
    ],
)
def test_verify_says_what_mends_the_chain(
    part: str, remedy: str, digits: Digits, finished: Finished, tmp_path: Path
) -> None:
    """Where the chain breaks, the error says what to do about that link of it."""
    settings = finished.copy(tmp_path / "home")
    version = ledger.champion(FileStore(settings.home / "store"))
    damaged = next((settings.home / "store").glob(part.format(version=version)))
    damaged.write_bytes(damaged.read_bytes()[:-40])
    said = digits("verify", version, on=settings)
    assert said.code == 1
    assert "breaks at" in said.err
    assert f"try: {remedy}" in said.err


def drawing(image: np.ndarray) -> np.ndarray:
    """A picture as people have them: large, dark on light."""
    return 255 - np.kron(image, np.ones((8, 8), np.uint8))


def test_help_lists_what_an_option_takes(digits: Digits) -> None:
    """`digits run --help` has the name of every optimizer and data set, and an optimizer may be written in capitals."""
    said = " ".join(digits("run", "--help").out.split())
    assert ", ".join(OPTIMIZERS) in said
    assert ", ".join(names()) in said
    assert "--resume [RUN]" in said
    assert digits("run", "--optimizer", "SGD", "--compile-only").code == 0
    assert "'ftrl'" in digits("run", "--optimizer", "ftrl").err


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("digits ro", "rollback"), ("digits cluster ro", "rollback"), ("digits run --opt", "--optimizer")],
)
def test_the_shell_completes_what_is_typed(settings: Settings, typed: str, completed: str) -> None:
    """docs/setup.md, "Shell completion": what bash asks on the tab key is answered for commands, groups and options."""
    asked = {"_DIGITS_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    program = "import sys; from digits.cli import main; sys.argv = ['digits']; main()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=child_environment(settings, **asked),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [f"plain,{completed}"], done.stderr


def test_clean_that_is_declined_removes_nothing(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answering no is no error: what was there is there, and it is said that nothing was removed."""
    (kept := settings.home / "runs" / "one").mkdir(parents=True)
    monkeypatch.setattr(sys, "stdin", typed := io.StringIO("n\n"))
    monkeypatch.setattr(typed, "isatty", lambda: True, raising=False)
    said = digits("clean")
    assert (said.code, said.err) == (0, "nothing removed\n")
    assert str(settings.home / "runs") in said.out
    assert kept.is_dir()


def test_clean_asks_nobody_where_nobody_is(digits: Digits, settings: Settings) -> None:
    """Without a terminal it is a wrong call, not an interruption, and what was there is there."""
    (kept := settings.home / "runs" / "one").mkdir(parents=True)
    said = digits("clean")
    assert (said.code, "--yes" in said.err, kept.is_dir()) == (2, True, True)


def test_clean_names_what_it_leaves(digits: Digits, settings: Settings) -> None:
    """Releases stay unless --all says otherwise; where they are, and what removes them, is said."""
    (store := settings.home / "store").mkdir(parents=True)
    assert f"left {store}, which --all removes" in digits("clean", "--yes").err
    assert store.is_dir()
    said = digits("clean", "--all", "--yes")
    assert (said.code, store.exists(), "--all removes" in said.err) == (0, False, False)


def test_clean_without_an_engine_keeps_what_its_containers_need(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no Docker engine answers, MinIO's keys stay with its volume, the runs are removed, and both are reported."""
    file = "minio.json"
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{free_port()}")
    (settings.home / "runs" / "one").mkdir(parents=True)
    (settings.home / file).write_text("{}")
    said = digits("clean", "--all", "--yes")
    assert (said.code, sorted(path.name for path in settings.home.iterdir())) == (0, [file])
    assert f"left containers as they are, and {settings.home / file}: no Docker engine answers" in said.err
    assert f"removed {settings.home / file}" not in said.err
    (settings.home / file).unlink()
    assert "left containers" not in digits("clean", "--yes").err


def test_a_release_may_be_named_by_its_first_letters(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """As git does it: what is one release's alone names it; nothing, or what several begin with, is refused."""
    on = finished.copy(tmp_path / "home")
    assert digits("promote", finished.version[:5], "--json", on=on).json["champion"] == finished.version
    hops = digits("verify", finished.version[:5], "--json", on=on).json
    assert (hops["release"], hops["holds"]) == (finished.version, True)
    folder = on.home / "store" / "models" / "digits"
    shutil.copytree(folder / finished.version, folder / (finished.version[:5] + "0000000"))
    for wrong, expected in ((finished.version[:5], "begin with"), ("", "no release"), ("zz", "no release begins with")):
        said = digits("promote", wrong, on=on)
        assert (said.code, expected in said.err) == (1, True), said.err


def test_a_correction_taken_back_is_named(digits: Digits, settings: Settings) -> None:
    """What was removed is said in the words of the list, and what the page had answered only if it had."""
    store = FileStore(settings.home / "store")
    corrections.record(store, np.full((28, 28), 9, np.uint8), 7, drawing_png=b"png", release="", answer=None)
    corrections.record(store, np.full((28, 28), 8, np.uint8), 3, drawing_png=b"png", release="v1", answer=5)
    listed = digits("feedback").out.splitlines()
    assert sorted(line[14:] for line in listed) == ["a 3, read as 5 by v1", "a 7"]
    said = digits("feedback", "--remove", listed[0][:12])
    assert said.out.splitlines() == [f"removed {listed[0]}", listed[1]]


def test_deploying_without_a_cluster_is_3(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """Where no cluster was made, that is said, with the command that makes one."""
    said = digits("cluster", "deploy", on=finished.copy(tmp_path / "home"))
    assert (said.code, "digits cluster up" in said.err) == (3, True)


@pytest.mark.parametrize("content", [b"clusters: [", b"clusters: 7", b"- a", b"contexts:\n- 1", b"\x01", b"\xff"])
def test_a_damaged_kubeconfig_is_3(content: bytes, digits: Digits, settings: Settings) -> None:
    """Whatever is wrong with the file that names the cluster, it is named, with the command that makes it anew."""
    settings.home.mkdir()
    (settings.home / "kubeconfig").write_bytes(content)
    answer = digits("cluster", "rollback", "--json").json
    assert (answer["exit_code"], answer["error"].endswith("kubeconfig is damaged")) == (3, True)
    assert "digits cluster up" in answer["remedy"]


@pytest.mark.parametrize("answers", [True, False])
def test_a_cluster_goes_only_with_its_corrections(
    digits: Digits, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """Where the corrections of its page cannot be brought back, the cluster stays, unless they are given up."""
    from backends.kind import cluster

    removed: list[Settings] = []
    monkeypatch.setattr(cluster, "status", lambda _: {"exists": True, "answers": answers})
    monkeypatch.setattr(cluster, "down", lambda settings, _: removed.append(settings) or True)
    said = digits("cluster", "down")
    assert (said.code, removed) == (1, [])
    assert "cannot be brought back" in said.err
    assert "digits cluster down --yes" in said.err
    assert digits("cluster", "down", "--yes").code == 0
    assert len(removed) == 1


def test_a_cluster_without_a_store_goes_at_once(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `up` had not come as far as the object store, there is nothing to bring back."""
    from backends.kind import cluster, namespace

    settings.home.mkdir(parents=True)
    (settings.home / "kubeconfig").write_text("{}")
    removed: list[Settings] = []
    monkeypatch.setattr(cluster, "status", lambda _: {"exists": True, "answers": True})
    monkeypatch.setattr(cluster, "down", lambda settings, _: removed.append(settings) or True)
    monkeypatch.setattr(namespace, "credentials", lambda _: None)
    assert digits("cluster", "down").code == 0
    assert len(removed) == 1


def test_an_endpoint_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`digits cluster open` watches the endpoint beside the page, and names the one that no longer answers."""
    from digits.cli import open_cluster

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    monkeypatch.setattr(open_cluster, "LOOK_SECONDS", 0.2)
    gone = f"http://127.0.0.1:{free_port()}/v2/health/live"
    with serving(app, lifespan="off", log_config=None) as url:
        assert open_cluster._watch(f"{url}/healthz", gone) == gone


def test_a_rollback_that_ends_half_way_says_so(
    digits: Digits, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has changed before MLflow refuses: the error names the champion, and what makes the rest good."""
    settings = finished.copy(tmp_path / "home")
    store = FileStore(settings.home / "store")
    first, second = finished.version, "f" * 12
    for key in store.keys(releases.release_prefix(first)):
        store.put(key.replace(first, second), store.get(key).replace(first.encode(), second.encode()))
    assert digits("promote", second, on=settings).code == 0

    def locked(*_: object) -> None:
        raise RefusedError("the database is locked", 403, remedy="close it")

    with monkeypatch.context() as patched:
        patched.setattr("digits.release.mlflow_log.mirror", locked)
        said = digits("rollback", on=settings)
    assert said.code == 1
    assert f"{first} is the champion now, but the database is locked" in said.err
    assert f"close it and then digits promote {first} --backend process" in " ".join(said.err.split())
    assert digits("promote", first, on=settings).code == 0
    assert ledger.champion(store) == first


def test_a_run_tells_of_a_misspelt_setting(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that nothing reads, but nearly is a setting, is named before a run begins."""
    monkeypatch.setenv("DIGITS_PROT", "9000")
    said = digits("run", "--resume", "nothing")
    assert "DIGITS_PROT is no setting, and has no effect; was DIGITS_PORT meant?" in said.err


def test_an_endpoint_elsewhere_than_set_is_told(settings: Settings) -> None:
    """Where another program has the predictor's port, the summary's address comes with the reason; others without."""
    here, elsewhere = f"http://127.0.0.1:{settings.port}", "http://127.0.0.1:1"
    assert [summary._moved(address, settings) for address in (here, "http://digits.example", "")] == ["", "", ""]
    assert summary._moved(elsewhere, settings) == f"   (port {settings.port} was taken)"


def test_an_endpoint_is_verified_with_its_token(digits: Digits, settings: Settings) -> None:
    """`digits verify ADDRESS` sends the endpoint's token, and takes an address with a slash at its end."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del receive
        let_in = dict(scope["headers"]).get(b"authorization") == b"Bearer key"
        known = let_in and scope["path"] == "/v2/models/digits"
        await send({"type": "http.response.start", "status": 200 if known else 401, "headers": []})
        await send({"type": "http.response.body", "body": b'{"parameters": {"release": "000000000000"}}'})

    with serving(app, lifespan="off", log_config=None) as url:
        said = digits("verify", f"{url}/", "--json", on=dataclasses.replace(settings, endpoint_token="key"))
    assert said.json["release"] == "000000000000"


def test_corrections_go_where_the_backends_runs_look(
    digits: Digits, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an endpoint of one's own too, the page of the docker backend keeps corrections in that backend's store."""
    from digits.cli import web as command

    docker = dataclasses.replace(settings, backend="docker")
    served: list[tuple[str, list[str]]] = []

    @contextlib.contextmanager
    def opened(_: object) -> Iterator[tuple[Settings, None, None]]:
        yield dataclasses.replace(docker, store="s3://digits"), None, None

    monkeypatch.setattr(command, "open_store_of", opened)
    monkeypatch.setattr("web_app.server.serve", lambda here, to, **_: served.append((here.store, to)))
    monkeypatch.setattr("web_app.server.listening", lambda *_: None)
    assert digits("web", "--endpoint", "http://127.0.0.1:1", on=docker).code == 0
    assert served == [("s3://digits", ["http://127.0.0.1:1"])]


def test_clean_says_what_it_left(digits: Digits, settings: Settings) -> None:
    """Where nothing is to be removed that is said, and a cluster that stays is named with its command."""
    said = digits("clean", "--yes")
    assert (said.code, "nothing to remove" in said.err) == (0, True)
    settings.home.mkdir(parents=True, exist_ok=True)
    (settings.home / "kubeconfig").write_text("{}")
    assert "left the cluster: digits cluster down" in digits("clean", "--yes").err


def test_a_correction_is_listed_and_taken_back(digits: Digits, settings: Settings) -> None:
    """`digits feedback` tells what each correction says, and removes the one that is named."""
    assert digits("feedback").out == "no corrections\n"
    store = FileStore(settings.home / "store")
    image = np.full((28, 28), 200, np.uint8)
    key = corrections.record(store, image, 7, drawing_png=b"", release="v1", answer=1)
    said = digits("feedback")
    which = key.removeprefix("feedback/")[:12]
    assert said.out == f"{which}  a 7, read as 1 by v1\n"
    assert [one["label"] for one in digits("feedback", "--json").json["corrections"]] == [7]
    assert digits("feedback", "--remove", which, "--json").json == {"corrections": [], "removed": 1}
    said = digits("feedback", "--remove", which)
    assert (said.code, "no corrections begin with" in said.err) == (3, True)


def test_no_page_is_served_for_a_backend_that_serves_nothing(digits: Digits, settings: Settings) -> None:
    """`digits web` for a backend without an endpoint is an error, not the page of another backend."""
    said = digits("web", "--no-open", "--port", "0", on=dataclasses.replace(settings, backend="kubeflow"))
    assert said.code != 0
    assert "--endpoint" in said.err or "DIGITS_KFP_HOST" in said.err


def test_compile_only_runs_nothing(digits: Digits, settings: Settings, tmp_path: Path) -> None:
    """The YAML is written where it was asked for, and neither a run nor a predictor comes of it."""
    assert digits("run", "--compile-only", "--json").json == {"output": "pipeline.yaml"}
    said = digits("run", "--compile-only", "--output", "a/b.yaml")
    assert (said.code, said.out) == (0, "")
    assert (tmp_path / "a" / "b.yaml").read_text() == (tmp_path / "pipeline.yaml").read_text()
    spec = next(iter(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())))
    assert len(spec["root"]["dag"]["tasks"]) == 7
    assert not (settings.home / "runs").exists()


def test_compile_only_keeps_what_was_chosen(digits: Digits, tmp_path: Path) -> None:
    """Options beside --compile-only are the defaults of what is written; the others stay the definition's."""
    assert digits("run", "--compile-only", "--epochs", "5", "--optimizer", "sgd").code == 0
    spec = next(iter(yaml.safe_load_all((tmp_path / "pipeline.yaml").read_text())))
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert [parameters[name]["defaultValue"] for name in ("epochs", "optimizer", "preset")] == [5, "sgd", "fast"]


def test_a_taken_port_is_said_before_anything_runs(digits: Digits, settings: Settings) -> None:
    """`digits up` looks at the page's port first."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = digits("up", "--no-open", "--port", str(taken.getsockname()[1]))
    assert (said.code, "--port" in said.err) == (3, True)
    assert not (settings.home / "runs").exists()


def test_releases_are_listed(digits: Digits, finished: Finished) -> None:
    """The list marks the champion, for people and in JSON."""
    said = digits("releases", on=finished.settings)
    assert said.out.startswith(finished.version)
    assert said.out.endswith("  champion\n")
    answer = digits("releases", "--json", on=finished.settings).json
    assert answer["champion"] == finished.version
    assert [row["version"] for row in answer["releases"]] == [finished.version]


def test_no_releases_in_json_is_an_empty_list(digits: Digits) -> None:
    """A program that asks is told that there are none, which is no error."""
    said = digits("releases", "--json")
    assert (said.code, said.json) == (0, {"releases": [], "damaged": {}, "champion": "", "previous": ""})


def test_verify_says_each_hop(digits: Digits, finished: Finished, tmp_path: Path) -> None:
    """An intact chain ends with 0; a broken one with 1, the hop's name, and still one JSON object."""
    settings = finished.copy(tmp_path / "home")
    said = digits("verify", finished.version, "--json", on=settings)
    assert (said.code, said.json["holds"]) == (0, True)
    said = digits("verify", "--json", on=settings)
    assert (said.code, [hop["hop"] for hop in said.json["hops"] if not hop["holds"]]) == (1, ["endpoint"])
    store = FileStore(settings.home / "store")
    store.put(releases.release_prefix(finished.version) + "model.keras", b"x")
    said = digits("verify", finished.version, "--json", on=settings)
    assert said.code == 1
    assert [hop["hop"] for hop in said.json["hops"] if not hop["holds"]] == ["files"]
    assert "files" in digits("verify", on=settings).err


def test_a_picture_is_recognised(
    digits: Digits, finished: Finished, start_predictor: StartPredictor, tmp_path: Path, mnist_folder: Path
) -> None:
    """Picture files and test images, by their number in the release's data set, are drawn and recognised."""
    test = Dataset.load(finished.folder / "test.npz")
    Image.fromarray(drawing(test.images[0])).save(tmp_path / "photo.png")
    predictor = start_predictor(finished.settings)
    said = digits("predict", "--endpoint", predictor.url, "--json", "photo.png")
    assert said.json["release"] == finished.version
    assert said.json["predictions"][0]["class"] == test.labels[0]
    assert sum(said.json["predictions"][0]["probabilities"]) == pytest.approx(1, abs=1e-4)
    # MNIST is at hand, but the release learned from scikit-learn's digits.
    settings = Settings(home=tmp_path / "home", data=str(mnist_folder), port=free_port())
    said = digits("predict", "--endpoint", predictor.url, "photo.png", "0", on=settings)
    assert said.code == 0
    assert f"photo.png is {with_article(test.labels[0])}" in said.out
    assert f"test image 0 is {with_article(test.labels[0])} (label {test.labels[0]})" in said.out
    assert "test images of sklearn-digits" in said.err
    assert "█" in said.out
    answer = digits("predict", "--endpoint", predictor.url, "1", "photo.png", "--json", on=settings).json
    assert answer["predictions"][0]["label"] == test.labels[1]
    assert answer["predictions"][0]["verdict"] in {"sure", "unsure"}
    assert "label" not in answer["predictions"][1]
    too_far = digits("predict", "--endpoint", predictor.url, "360", on=settings)
    assert too_far.code == 2
    assert "0 to 359" in too_far.err


def test_what_is_no_single_digit_is_said(
    digits: Digits, finished: Finished, start_predictor: StartPredictor, tmp_path: Path
) -> None:
    """A blank picture is empty and two digits are unsure, as on the page, whatever the model makes of them."""
    test = Dataset.load(finished.folder / "test.npz")
    predictor = start_predictor(finished.settings)
    Image.new("L", (280, 280), 255).save(tmp_path / "blank.png")
    Image.fromarray(drawing(np.hstack([test.images[0], test.images[1]]))).save(tmp_path / "two.png")
    said = digits("predict", "--endpoint", predictor.url, "blank.png", "two.png")
    assert said.out.startswith("blank.png is empty\n")
    assert "two.png: not sure: this looks like more than one digit   (" in said.out
    answer = digits("predict", "--endpoint", predictor.url, "blank.png", "two.png", "--json").json
    assert [row["verdict"] for row in answer["predictions"]] == ["empty", "several"]
    assert answer["predictions"][0]["class"] is None


def test_a_champion_that_nobody_serves_is_served_not_trained_again(
    digits: Digits, finished: Finished, tmp_path: Path
) -> None:
    """Where there is a champion but no endpoint, the way on is to serve it."""
    Image.fromarray(drawing(np.eye(28, dtype=np.uint8) * 255)).save(tmp_path / "drawing.png")
    settings = finished.copy(tmp_path / "home")
    said = digits("predict", "drawing.png", on=settings)
    assert said.code == 1
    assert finished.version in said.err
    assert "digits run, which serves it and takes what is done from the cache" in " ".join(said.err.split())


def test_a_file_that_is_no_picture_is_named(digits: Digits, tmp_path: Path) -> None:
    """A text file called .png is an error with its name."""
    (tmp_path / "text.png").write_text("not a picture")
    said = digits("predict", "--endpoint", "http://127.0.0.1:9", "text.png")
    assert said.code in {1, 2}
    assert "text.png" in said.err

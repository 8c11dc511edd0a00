"""The settings: values, errors, and masked secrets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from digits.errors import DigitsError, UsageError, mask_url
from digits.settings import STEP_VARIABLES, Settings, unknown
from digits.store import open_store, schemes
from digits.variables import sqlite_file
from tests.helpers.support import open_mlflow

SECRETS = {
    "MINIO_ACCESS_KEY": "canary-access",
    "MINIO_SECRET_KEY": "canary-secret",
    "DIGITS_ENDPOINT_TOKEN": "canary-token",
    "MLFLOW_TRACKING_URI": "http://user:canary-password@mlflow.example:5000",
    "DIGITS_DATA": "https://user:canary-data@host.example/mnist",
    "DIGITS_ENDPOINTS": "mine=http://user:canary-endpoint@endpoint.example other=http://127.0.0.1:8080",
}


def test_the_default_store_and_database_are_in_home(tmp_path: Path) -> None:
    """The store and MLflow's database are in the home folder by default."""
    settings = Settings.load({"DIGITS_HOME": str(tmp_path)}, dotenv=None)
    assert settings.store == tmp_path.as_uri() + "/store"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.backend == "process"


def test_the_database_of_a_home_with_special_characters(tmp_path: Path) -> None:
    """MLflow creates its database in a home whose path has unusual characters, and nothing next to the home."""
    home = tmp_path / "a b'=c&d; é"
    settings = Settings(home=home)
    assert sqlite_file(settings.tracking_uri) == home / "mlflow.db"
    home.mkdir()
    open_mlflow(settings)
    assert [*tmp_path.iterdir()] == [home]
    assert (home / "mlflow.db").is_file()


@pytest.mark.parametrize("character", "%?#*[]\\\n\x1b")
def test_a_home_that_libraries_do_not_find_is_refused(character: str, tmp_path: Path) -> None:
    """A home whose path TensorFlow, MLflow or a terminal would take for another one is an error."""
    with pytest.raises(UsageError, match="DIGITS_HOME"):
        Settings(home=tmp_path / f"a{character}b" / "home")


@pytest.mark.parametrize("home", ["~no-such-user", "~no-such-user/home"])
def test_a_home_of_no_user_is_refused(home: str) -> None:
    """A ~ that stands for no folder is not taken for a folder of that name in the present one."""
    with pytest.raises(UsageError, match="no home directory"):
        Settings.load({"DIGITS_HOME": home}, dotenv=None)


@pytest.mark.parametrize("name", ["DIGITS_HOME", "DIGITS_TRUSTED_KEYS", "DIGITS_SIGNING_KEY"])
def test_an_address_in_the_place_of_a_path_is_refused(name: str) -> None:
    """A setting that is a path cannot be an address, which would be taken for a new folder; the error names it."""
    with pytest.raises(UsageError, match=f"{name}: expected a path"):
        Settings.load({name: "https://user:pass@host/x"}, dotenv=None)


@pytest.mark.parametrize("name", ["K8S_NAMESPACE", "DIGITS_SECRET", "DIGITS_CONFIG_MAP", "DIGITS_PULL_SECRET"])
@pytest.mark.parametrize("value", ["../default", "a/b", "a?b", "A", "-a", "a b", "a%2fb"])
def test_names_of_kubernetes_objects_are_checked(name: str, value: str) -> None:
    """A setting that becomes a part of an API server's path is a valid name."""
    with pytest.raises(UsageError, match=name):
        Settings.load({name: value}, dotenv=None)


@pytest.mark.parametrize("value", ["a/b", "a:b", "it's", 'a"b', "a`b", "a\\b", "a\tb", "a" * 251, ".", "..", "..a"])
def test_a_name_that_mlflow_cannot_register_or_search_is_refused_before_a_run(value: str, tmp_path: Path) -> None:
    """The name of the registered model is checked with the settings, not by `publish` after the training."""
    with pytest.raises(UsageError, match="DIGITS_MLFLOW_MODEL: expected a name"):
        Settings.load({"DIGITS_HOME": str(tmp_path), "DIGITS_MLFLOW_MODEL": value}, dotenv=None)
    Settings.load({"DIGITS_HOME": str(tmp_path), "DIGITS_MLFLOW_MODEL": "prod.vision.Ziffern é 2"}, dotenv=None)


def test_variables_replace_defaults(tmp_path: Path) -> None:
    """A variable replaces the default, and a port is read as a number."""
    environ = {"DIGITS_HOME": str(tmp_path), "DIGITS_STORE": "s3://bucket", "DIGITS_PORT": " 9000 "}
    settings = Settings.load(environ, dotenv=None)
    assert (settings.store, settings.port) == ("s3://bucket", 9000)


def test_the_environment_overrides_dotenv(tmp_path: Path) -> None:
    """A variable of the file .env is used only if the environment lacks it."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("DIGITS_PORT=9001\nDIGITS_GRPC_PORT=9002\n")
    settings = Settings.load({"DIGITS_PORT": "9000"}, dotenv=dotenv)
    assert (settings.port, settings.grpc_port) == (9000, 9002)
    assert Settings.load({}, dotenv=tmp_path / "none").port == 8080


def test_the_secrets_of_dotenv_are_masked_in_errors(tmp_path: Path) -> None:
    """A secret of the file .env is masked in what a server repeats, as one of the environment is."""
    (tmp_path / ".env").write_text("MINIO_ACCESS_KEY=key-of-the-file\n")
    Settings.load({}, dotenv=tmp_path / ".env")
    assert "key-of-the-file" not in str(DigitsError("no such key: key-of-the-file", remedy="not key-of-the-file"))


def test_a_dotenv_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    """A named pipe .env is refused, not ignored or waited for; a folder, a virtual environment, is ignored."""
    os.mkfifo(pipe := tmp_path / ".env")
    with pytest.raises(UsageError, match="regular file"):
        Settings.load({}, dotenv=pipe)
    assert Settings.load({}, dotenv=tmp_path).port == 8080


def test_a_relative_home_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative DIGITS_HOME becomes absolute, because steps run in other folders."""
    monkeypatch.chdir(tmp_path)
    assert Settings.load({"DIGITS_HOME": "here"}, dotenv=None).home == tmp_path / "here"


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    """Settings that are loaded from `environ()` are equal."""
    settings = Settings.load({"DIGITS_HOME": str(tmp_path / "a b"), **SECRETS}, dotenv=None)
    assert Settings.load(settings.environ(), dotenv=None) == settings


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DIGITS_PORT", "eighty", "whole number"),
        ("DIGITS_PORT", "65536", "0 to 65535"),
        ("DIGITS_GRPC_PORT", "-1", "0 to 65535"),
        ("DIGITS_TRAIN_GPUS", "-1", "0 to 100"),
        ("DIGITS_STEP_RETRIES", "101", "0 to 100"),
        ("DIGITS_KFP_MLFLOW", "2", "0 to 1"),
        ("DIGITS_BACKEND", "slurm", "process, docker, kubeflow"),
        ("MLFLOW_TRACKING_URI", "file:///mlruns", "sqlite:///"),
        ("MLFLOW_TRACKING_URI", "mlruns", "sqlite:///"),
        ("MLFLOW_TRACKING_URI", "sqlite:///relative.db", "sqlite:////"),
    ],
)
def test_an_invalid_value_is_rejected(name: str, value: str, expected: str, tmp_path: Path) -> None:
    """The error names the variable, its value and what was expected."""
    with pytest.raises(UsageError) as error:
        Settings.load({"DIGITS_HOME": str(tmp_path), name: value}, dotenv=None)
    assert name in str(error.value)
    assert value in str(error.value)
    assert expected in str(error.value)


@pytest.mark.parametrize("name", ["DIGITS_STORE", "DIGITS_DATA"])
@pytest.mark.parametrize("address", ["file://data/store", "file://~/store", "file://data", "file:store", "file:///a#b"])
def test_an_ambiguous_folder_address_is_rejected(name: str, address: str, tmp_path: Path) -> None:
    """An address with two slashes (the first folder is a host) or a relative path is rejected."""
    with pytest.raises(UsageError, match=f"{name}: expected file:///folder") as error:
        Settings.load({"DIGITS_HOME": str(tmp_path), name: address}, dotenv=None)
    assert address in error.value.message
    with pytest.raises(UsageError, match="expected file:///folder"):
        open_store(Settings(home=tmp_path), address)


@pytest.mark.parametrize(
    "name", ["DIGITS_STORE", "MLFLOW_TRACKING_URI", "MINIO_ENDPOINT", "DIGITS_DATA", "DIGITS_KFP_HOST"]
)
def test_an_address_that_cannot_be_parsed_is_rejected(name: str, tmp_path: Path) -> None:
    """An address that cannot be parsed is a usage error that names the variable but shows no password."""
    with pytest.raises(UsageError, match=name) as error:
        Settings.load({"DIGITS_HOME": str(tmp_path), name: "http://me:canary@[::1"}, dotenv=None)
    assert "canary" not in str(error.value)


@pytest.mark.parametrize(
    "address", ["http://", "https://?canary", "http://:5000", "http://h:0", "http://h:70000", "http://me:canary/x@h"]
)
@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_URI", "MINIO_ENDPOINT", "DIGITS_DATA", "DIGITS_KFP_HOST"])
def test_an_address_without_a_host_or_with_a_wrong_port_is_rejected(name: str, address: str, tmp_path: Path) -> None:
    """A web address that no server can have is refused before the training, which would end without its records."""
    with pytest.raises(UsageError, match=rf"{name}: .*expected http://host:port") as error:
        Settings.load({"DIGITS_HOME": str(tmp_path), name: address}, dotenv=None)
    assert "canary" not in str(error.value)
    Settings.load({"DIGITS_HOME": str(tmp_path), name: "http://[::1]:5000/x"}, dotenv=None)


def test_an_address_with_a_line_break_is_rejected(tmp_path: Path) -> None:
    """An address with a line break, where a password would not be recognised, is rejected without being shown."""
    with pytest.raises(UsageError, match="DIGITS_DATA") as error:
        Settings.load({"DIGITS_HOME": str(tmp_path), "DIGITS_DATA": "http://me:can\nary@host/x"}, dotenv=None)
    assert "ary" not in str(error.value)


def test_a_store_needs_only_settings_that_reach_the_steps() -> None:
    """Each variable of a kind of store is passed into a step's container or pod."""
    assert {name for scheme in schemes().values() for name in scheme.variables} <= set(STEP_VARIABLES)


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """Neither `repr` nor `describe` contains a secret or a URL's password."""
    settings = Settings.load({"DIGITS_HOME": str(tmp_path), **SECRETS}, dotenv=None)
    for shown in (repr(settings), str(settings), str(settings.describe())):
        assert "canary" not in shown
    assert "mlflow.example" in str(settings.describe())


def test_invalid_settings_can_be_printed(tmp_path: Path) -> None:
    """An invalid address is printed as it is, so that `digits doctor` can show it."""
    assert "[bad" in repr(Settings(home=tmp_path, endpoints="http://[bad"))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("got 'https://u:canary@h/b', not", "got 'https://<SECRET>@h/b', not"),
        ("http://u:canary@a:80: no; s3://v:canary@b: no", "http://<SECRET>@a:80: no; s3://<SECRET>@b: no"),
        ("proxy http://u:ca/na?r#y@a:80: no", "proxy http://<SECRET>@a:80: no"),
        ("proxy http://u:/canary@a:80: no", "proxy http://<SECRET>@a:80: no"),
        ("http://me@here:can@ary@[bad/x", "http://<SECRET>@[bad/x"),
        ("redis://:canary@h", "redis://<SECRET>@h"),
        ("https://canary@h/x and https://canary:@h", "https://<SECRET>@h/x and https://<SECRET>@h"),
        ("http://127.0.0.1:80/a and [::1]:9", "http://127.0.0.1:80/a and [::1]:9"),
        ("proxy http://u:80/canary@a and 9", "proxy http://<SECRET>@a and 9"),
        ("http://u:can ary@a and 9; http://b/c", "http://<SECRET>@a and 9; http://b/c"),
        ("http://u:can://ary@a and http://b/c", "http://<SECRET>@a and http://b/c"),
        ("retries exceeded with url: /can%20ary@b/c (x)", "retries exceeded with url: /<SECRET>@b/c (x)"),
        ("got 'u:can ary@h', not u:canary@h", "got '<SECRET>@h"),
        ("got 'u:can ary@h', not http://u:canary@h", "got '<SECRET>@h', not http://<SECRET>@h"),
        ("cannot read 'icon@2x.png': no file", "cannot read 'icon@2x.png': no file"),
        (
            "https://h/v2: no image a/b:1@sha256:12ab, a:1@sha256:12",
            "https://h/v2: no image a/b:1@sha256:12ab, a:1@sha256:12",
        ),
        ("models:/digits@champion", "models:/digits@champion"),
        ("postgresql://db/x?connect_timeout=10s&pin=canary", "postgresql://db/x?connect_timeout=10s&pin=<SECRET>"),
        ("postgresql://db/x?user=canary&password=canary", "postgresql://db/x?user=<SECRET>&password=<SECRET>"),
        ("url: /a.gz?X-Amz-Signature=canary (Caused by x)", "url: /a.gz?X-Amz-Signature=<SECRET> (Caused by x)"),
        (
            "https://h/a?canary and https://h/a?b=canary&canary",
            "https://h/a?<SECRET> and https://h/a?b=<SECRET>&<SECRET>",
        ),
        ("https://h/a;sig=canary/b", "https://h/a;sig=<SECRET>"),
        ("https://h/a#access_token=canary", "https://h/a#access_token=<SECRET>"),
        ("Authorization: Bearer canary", "Authorization: <SECRET>"),
        ("{'Cookie': 'session=canary'}", "{'Cookie': '<SECRET>'}"),
        ("host=db password=canary dbname=x", "host=db password=<SECRET> dbname=x"),
        ("the key canary-of-the-store is wrong", "the key <SECRET> is wrong"),
        ("http://h/#/experiments/1/runs/a, why? yes", "http://h/#/experiments/1/runs/a, why? yes"),
        ("https://h/start/#installation", "https://h/start/#installation"),
    ],
)
def test_credentials_are_masked(given: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials in every URL, header and connection string of a text are masked, and what is between two."""
    monkeypatch.setenv("MINIO_SECRET_KEY", "canary-of-the-store")
    assert mask_url(given) == shown


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "text",
    [
        "://" + "?" * 200_000 + "=",
        "://" * 70_000 + "=",
        "://" + "?,)" * 70_000,
        "&a=" * 70_000,
        " ://" * 50_000,
        ",a:" * 70_000,
        "'a: " * 50_000,
    ],
)
def test_a_long_text_is_masked_in_linear_time(text: str) -> None:
    """A text of 200 KB, made to be ambiguous, does not keep a program busy for minutes."""
    assert "canary" not in mask_url(f"{text} https://u:canary@h/")


def test_no_error_shows_a_password(tmp_path: Path) -> None:
    """Neither the message nor the remedy of an error contains a URL's password."""
    with pytest.raises(UsageError, match="MLFLOW_TRACKING_URI") as error:
        Settings(home=tmp_path, tracking_uri="file://u:canary@h/b")
    failure = DigitsError("cannot get http://u:canary@h/x", remedy="curl http://u:canary@h/x")
    for shown in (str(error.value), str(failure), repr(failure), failure.message, failure.remedy):
        assert "canary" not in shown


def test_every_setting_is_described() -> None:
    """`describe` has each variable once, with a meaning."""
    rows = Settings().describe()
    assert len(rows) == len({name for name, _, _ in rows}) == len(Settings().environ())
    assert all(meaning for _, _, meaning in rows)


def test_the_printed_form_names_each_variable(tmp_path: Path) -> None:
    """`repr` uses the names of the environment variables."""
    assert f"DIGITS_HOME='{tmp_path}'" in repr(Settings(home=tmp_path))


def test_a_misspelt_setting_is_reported(tmp_path: Path) -> None:
    """A variable DIGITS_... that is not a setting is reported with a similar one, from .env and the environment."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("DIGITS_DTA=/mnist\nDIGITS_PORT=9001\n")
    environ = {"DIGITS_STROE": "s3://b", "DIGITS_ENDPOINT": "http://a", "DIGITS_ZZZ": "1", "PATH": "/bin"}
    suggestions = unknown(environ, dotenv=dotenv)
    assert suggestions == {"DIGITS_DTA": "DIGITS_DATA", "DIGITS_STROE": "DIGITS_STORE", "DIGITS_ZZZ": ""}
    assert unknown(Settings().environ(), dotenv=None) == {}


FLOWERS = """
name = "flowers"
labels = ["daisy", "rose"]
image = {height = 32, width = 32, channels = 3}
data = {place = "pictures"}
"""


def test_task_file_travels_as_text(tmp_path: Path) -> None:
    """A task file is read once; a program that gets the settings as variables needs neither the file nor its folder."""
    (tmp_path / "flowers.toml").write_text(FLOWERS)
    given = {
        "DIGITS_HOME": str(tmp_path / "home"),
        "DIGITS_TASK": str(tmp_path / "flowers.toml"),
        "DIGITS_DATA": "/mnist",
    }
    settings = Settings.load(given, dotenv=None)
    (tmp_path / "flowers.toml").unlink()
    again = Settings.load(settings.environ(), dotenv=None)
    assert again == settings
    assert (again.declaration.labels, again.data) == (("daisy", "rose"), str(tmp_path / "pictures"))
    assert again.mlflow_model == open_store(again).task == "flowers"


def test_another_task(tmp_path: Path) -> None:
    """Settings for another task have its registered model, unless the user named one."""
    settings = Settings(home=tmp_path)
    assert (settings.mlflow_model, settings.with_task("fashion").mlflow_model) == ("digits", "fashion")
    assert Settings(home=tmp_path, mlflow_model="ours").with_task("fashion").mlflow_model == "ours"
    assert open_store(settings.with_task("fashion")).task == "fashion"


def test_unknown_task(tmp_path: Path) -> None:
    """A task that does not exist is refused when the settings are read."""
    with pytest.raises(UsageError, match="expected a task of digits, fashion"):
        Settings.load({"DIGITS_HOME": str(tmp_path), "DIGITS_TASK": "flowers"}, dotenv=None)


def test_a_user_without_a_home_folder(tmp_path: Path) -> None:
    """A user whom the machine does not know, as in a container with a random user id, needs DIGITS_HOME alone."""
    program = (
        "import pwd; pwd.getpwuid = {}.__getitem__; "
        "from digits.settings import Settings; print(Settings.load(dotenv=None).home)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HOME"} | {"DIGITS_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"{tmp_path}\n", done.stderr


@pytest.mark.parametrize("text", ["80_80", "8080.0", "0x50", "٨٠٨٠", "1" * 5000, "eight"])
def test_a_port_that_is_no_plain_number_is_refused(text: str, tmp_path: Path) -> None:
    """A number with other characters than digits is refused, although Python would read some of them."""
    with pytest.raises(UsageError, match="DIGITS_PORT: expected a whole number"):
        Settings.load({"DIGITS_HOME": str(tmp_path), "DIGITS_PORT": text}, dotenv=None)

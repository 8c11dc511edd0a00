"""`digits doctor`: its output on standard output, and its exit code."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from digits.settings import Settings
from tests.helpers.acceptance_cluster import KSERVE, ClusterApi
from tests.helpers.command import Digits
from tests.helpers.kubernetes_api import kubernetes_api, write_kubeconfig
from tests.helpers.mnist_files import tiny_task
from tests.helpers.signing import new_keys


@pytest.fixture
def installed(settings: Settings, mnist_folder: Path) -> Settings:
    """Return settings with data and a secret."""
    return dataclasses.replace(settings, data=str(mnist_folder), endpoint_token="canary")


def test_the_output_can_be_redirected(digits: Digits, installed: Settings) -> None:
    """Standard output has the checks, the settings with values, and the number of unset ones, but no secret."""
    result = digits("doctor", on=installed)
    assert (result.code, result.err) == (0, "")
    unset = sum(not value for _, value, _ in installed.describe())
    order = [
        "✓ python",
        "✓ data",
        "leftovers",
        "DIGITS_HOME=",
        "folder of runs",
        f"{unset} settings are not set",
    ]
    places = [result.out.index(part) for part in order]
    assert places == sorted(places)
    assert "DIGITS_ENDPOINT_TOKEN=<SECRET>" in result.out
    assert "canary" not in result.out


def test_a_misspelt_variable_is_listed(digits: Digits, installed: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is not a setting is shown with a similar setting, and is no failure."""
    monkeypatch.setenv("DIGITS_WEBPORT", "9000")
    result = digits("doctor", "--json", on=installed)
    assert result.code == 0
    (row,) = (row for row in result.json["findings"] if row["name"] == "unknown setting")
    assert (row["ok"], row["remedy"]) == (None, "DIGITS_WEB_PORT")
    assert "DIGITS_WEBPORT" in result.err


@pytest.mark.parametrize("password", ["pass", "12/pass", "pa/s@s"])
@pytest.mark.parametrize("scheme", ["", "http://"])
def test_the_password_of_a_proxy_is_masked(
    scheme: str, password: str, digits: Digits, installed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address of a proxy is shown without its user and password, also if it has no scheme."""
    monkeypatch.setenv("HTTPS_PROXY", f"{scheme}user:{password}@127.0.0.1:9")
    result = digits("doctor", on=installed)
    assert f"HTTPS_PROXY={scheme}<SECRET>@127.0.0.1:9" in " ".join(result.out.split())
    assert "user" not in result.out + result.err


def test_absent_data_is_marked_with_a_dash(digits: Digits, settings: Settings) -> None:
    """A fallback to scikit-learn's digits is marked with a dash and a remedy; the exit code is 0."""
    result = digits("doctor", on=settings.with_task(tiny_task("http://127.0.0.1:9/").text()))
    assert result.code == 0
    assert "- data" in result.out
    assert "try: set DIGITS_DATA" in result.out


def test_the_keys_are_shown(digits: Digits, installed: Settings, tmp_path: Path) -> None:
    """Unsigned releases are stated; with keys, the signing and the trusted ones are; one that is not trusted fails."""
    private, public = new_keys(tmp_path / "keys")
    other, _ = new_keys(tmp_path / "keys", name="other")

    def finding(**changed: str) -> tuple[bool | None, str]:
        result = digits("doctor", "--json", on=dataclasses.replace(installed, **changed))
        (row,) = (row for row in result.json["findings"] if row["name"] == "signatures")
        return row["ok"], row["found"]

    assert finding() == (None, "releases are unsigned")
    ok, text = finding(signing_key=str(private), trusted_keys=str(public))
    assert (ok, text.split("; ")[0][-16:] in text.split("; ")[1]) == (True, True)
    assert finding(trusted_keys=str(public))[0]
    assert finding(signing_key=str(other), trusted_keys=str(public))[0] is False


@pytest.mark.parametrize("backend", ["process", "kubeflow"])
def test_the_probes_of_the_acceptance_run_are_used(digits: Digits, installed: Settings, backend: str) -> None:
    """Each part that a cluster lacks is shown, with its remedy; it is a failure only if runs need the cluster."""
    ClusterApi.reset()
    del ClusterApi.objects[KSERVE]
    installed.home.mkdir(exist_ok=True)
    with kubernetes_api(ClusterApi) as server:
        write_kubeconfig(installed, server)
        result = digits("doctor", "--json", "--backend", backend, on=installed)
    rows = {row["name"]: row for row in result.json["findings"]}
    assert (rows["cluster"]["found"], rows["api server"]["ok"]) == (server, True)
    assert "inferenceservices" in rows["kserve"]["found"]
    assert "KServe" in rows["kserve"]["remedy"]
    assert ("kserve" in result.json["missing"]) == ("kubeflow api" in result.json["missing"]) == (backend == "kubeflow")
    assert ClusterApi.removed == []


def test_without_a_cluster_nothing_is_missing(digits: Digits, installed: Settings) -> None:
    """Without a kubeconfig the cluster is marked with a dash."""
    result = digits("doctor", "--json", on=installed)
    rows = {row["name"]: row["ok"] for row in result.json["findings"]}
    assert (rows["cluster"], rows["kubeflow api"], result.code) == (None, None, 0)

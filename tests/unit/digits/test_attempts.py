"""The repetition of a step while a server does not answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from digits import attempts
from digits.errors import DataError, DigitsError, StoreUnreachable, Unavailable
from digits.release import mlflow_client
from digits.settings import Settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """The environment of a step's pod, with two retries and short waits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attempts, "FIRST_WAIT", 0.01)
    for name, value in {"BACKEND": "kubeflow", "STEP_RETRIES": "2", "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(f"DIGITS_{name}", value)
    return monkeypatch


def _count_calls(failures: list[DigitsError]) -> int:
    """Call a step that raises each of `failures` once, and then succeeds. Return the number of calls."""
    calls = []

    @attempts.step("train")
    def function() -> None:
        calls.append(1)
        if failures:
            raise failures.pop(0)

    try:
        function()
    except DigitsError:
        return -len(calls)
    return len(calls)


def test_a_step_on_kubeflow_is_repeated_while_a_server_does_not_answer(settings: pytest.MonkeyPatch) -> None:
    """A step is called again as often as the settings allow, and then fails with the last error."""
    assert _count_calls([StoreUnreachable("gone"), Unavailable("gone")]) == 3
    assert _count_calls([Unavailable("gone")] * 3) == -3


def test_a_step_that_failed_for_another_reason_is_not_repeated(settings: pytest.MonkeyPatch) -> None:
    """A step is not repeated for an error that a later attempt would have too, such as damaged data."""
    assert _count_calls([DataError("damaged")]) == -1


def test_a_step_on_a_laptop_is_not_repeated(settings: pytest.MonkeyPatch) -> None:
    """On a laptop the user sees the error immediately."""
    settings.setenv("DIGITS_BACKEND", "process")
    assert _count_calls([Unavailable("gone")]) == -1


def test_servers_that_do_not_answer_are_unavailable(settings: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An MLflow server that refuses connections counts as a server that may answer later."""
    settings.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Unavailable):
        mlflow_client.check_connection(Settings(home=tmp_path, tracking_uri="http://127.0.0.1:9"))

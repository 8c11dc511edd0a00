"""The functions that several commands share."""

from __future__ import annotations

import threading
import webbrowser

import pytest

from digits.cli.common import announce_page
from digits.settings import Settings


def test_a_browser_that_runs_in_the_terminal_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is served while a browser such as w3m, which runs in the terminal, is open."""
    asked, served = threading.Event(), threading.Event()
    answers: list[bool] = []

    def browse(_: str) -> None:
        asked.set()
        answers.append(served.wait(20))

    monkeypatch.setattr(webbrowser, "open", browse)
    announce_page(Settings(), "http://127.0.0.1:9", "a note", opens=True)
    assert asked.wait(20)
    assert answers == []
    served.set()

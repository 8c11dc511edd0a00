"""A port that cannot be used is reported."""

from __future__ import annotations

import socket

import pytest

from digits.errors import MissingError
from digits.serving.sockets import bind


def test_a_port_in_use_is_an_error() -> None:
    """A port that another program uses is an error that names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(MissingError, match="cannot be used") as caught:
        bind("127.0.0.1", other.getsockname()[1], "DIGITS_PORT")
    assert "DIGITS_PORT" in (caught.value.remedy or "")


@pytest.mark.parametrize("host", ["nosuchhost.invalid", "a" * 64, "", "198.51.100.7"])
def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    """For a host that cannot be listened on, the remedy is another host, not the end of another program."""
    with pytest.raises(MissingError, match="cannot be used") as caught:
        bind(host, 0, "DIGITS_PORT")
    assert caught.value.remedy == "give an address of this machine as --host"

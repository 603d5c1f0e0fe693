"""Programs and ports that tests borrow from the machine."""

import os
import shutil
import socket

import pytest


def needs(program: str) -> str:
    """The path of a system program; without it the test is skipped with its reason, and fails where CI=true."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found:
        return found
    reason = f"{program} is not installed (make test-tools installs it)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment, and another at every call."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port

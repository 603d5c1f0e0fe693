"""A real PostgreSQL for tests: Debian's, on a free port, with its data in a folder that is gone afterwards."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.patience import PATIENCE_S, until
from tests.programs import free_port

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Where Debian keeps the servers, one folder a version; they are not on the path."""


def program(name: str) -> str:
    found = [folder / name for folder in FOLDERS if (folder / name).exists()]
    if found:
        return str(found[-1])
    reason = f"PostgreSQL's {name} is not installed (make test-tools installs postgresql)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def postgresql() -> Iterator[str]:
    """The URL of an empty database. PostgreSQL refuses to run as root, so root lends the folder to its user."""
    initdb, server = program("initdb"), program("postgres")
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    folder = Path(tempfile.mkdtemp(prefix="fettle-postgres-"))
    os.chown(folder, user.pw_uid, user.pw_gid)
    lent = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    made = subprocess.run(
        [initdb, "-D", folder / "data", "-U", "fettle", "--auth=trust", "--no-sync", "--encoding=UTF8"],
        cwd=folder, capture_output=True, text=True, check=False, **lent,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    port = free_port()
    running = subprocess.Popen(
        [server, "-D", folder / "data", "-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **lent,
    )  # fmt: skip
    try:
        url = f"postgresql://fettle@127.0.0.1:{port}/postgres"
        until(lambda: _answers(url), "PostgreSQL answers")
        yield url
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(PATIENCE_S)
        shutil.rmtree(folder)


def _answers(url: str) -> bool:
    """It listens some time before it takes anybody in."""
    try:
        with psycopg.connect(url, connect_timeout=10):
            return True
    except psycopg.OperationalError:
        return False

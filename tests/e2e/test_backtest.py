"""`fettle backtest` beside a running service, which has the telemetry to itself, and without one."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.service import Service
from tests.patience import until

RIG = """
name = "rig"
title = "Test rig"
title_zh = "试验台"
[[sensor]]
name = "temp_c"
limits = { high = 100 }
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "var"
    (home / "profiles").mkdir(parents=True)
    (home / "profiles" / "rig.toml").write_text(RIG)
    (tmp_path / "loose.toml").write_text(RIG.replace("100", "150"))
    return home


def test_it_asks_the_service_where_one_runs(home: Path) -> None:
    service = Service(home)
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    loose = str(home.parent / "loose.toml")
    with service:
        machine = service.add_device("R-1", "rig").connect()
        machine.tell({"temp_c": 120.0})
        [ticket] = until(lambda: service.tickets("R-1"), "a ticket")
        machine.disconnect()

        same = service.answer("backtest", "--from", since)
        changed = service.answer("backtest", "--from", since, "--profile", loose)
        lines = service.run("backtest", "--from", since, "--profile", loose, "--against", "current")
        refused = service.refused("backtest", "--from", since, "--against", "current")
        service.interrupt()
    alone = service.answer("backtest", "--from", since, "--profile", loose)

    assert (same["unchanged"], same["opened"], same["vanished"]) == (1, [], [])
    assert [found["opened_at"] for found in changed["vanished"]] == [ticket["opened_at"]]
    assert alone["vanished"] == changed["vanished"]
    assert "1 vanished" in lines
    assert "vanished  R-1  limit temp_c" in lines
    assert "needs a profile" in refused
    assert json.dumps(alone).count("R-1") == 1

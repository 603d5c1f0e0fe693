"""The command line, run in this process on a real data folder; a replay goes through a real broker."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import sqlalchemy as sa
import typer.main

from fettle import cli
from fettle.house import broker_address, house
from fettle.settings import read_settings
from fettle.wiring import broker_running
from ingest.subscriber import Subscriber, begin_session
from monitor.readings import Arrival, Reading
from monitor.store.schema import customer, seen
from tests.patience import until
from tests.programs import free_port


class Answer(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.out)


Fettle = Callable[..., Answer]


@pytest.fixture
def fettle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Fettle:
    for name in os.environ:
        if name.startswith("FETTLE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FETTLE_HOME", str(tmp_path / "var"))

    def run(*arguments: str) -> Answer:
        # Without a process of its own, the log of the parts around a command stands on standard output.
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.run(list(arguments))
        said = capsys.readouterr()
        return Answer(int(ended.value.code or 0), said.out, said.err)

    return run


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


PROCESSES = {("up",), ("ingest",), ("monitor",), ("api",), ("broker",), ("migrate",)}


def test_every_command_and_option_says_what_it_is_for(fettle: Fettle) -> None:
    found = dict(commands(typer.main.get_command(cli.app)))
    assert found.keys() - PROCESSES == {
        ("device", "label"), ("customer", "link"),
        ("device", "add"), ("device", "move"), ("device", "renew"), ("device", "revoke"),
        ("device", "retire"),
        ("import",), ("export",), ("site", "add"), ("person", "add"), ("person", "reset"),
        ("rental", "add"), ("token", "create"), ("token", "revoke"), ("login-link",), ("replay",),
        ("detect",), ("backtest",),
    }  # fmt: skip
    for path, command in found.items():
        assert command.help, path
        assert [option.name for option in command.params if not option.help] == [], path
        assert (path in PROCESSES) != any("--json" in option.opts for option in command.params), path
        assert fettle(*path, "--help").status == 0
    assert "not for a machine in service" in found["replay",].help


def test_what_answers_with_data_does_so_as_json(fettle: Fettle) -> None:
    site = fettle("site", "add", "Tunnel North", "--remote", "--json").data
    assert (site["name"], site["remote"], site["timezone"]) == ("Tunnel North", True, "Asia/Shanghai")
    card = fettle("device", "add", "GX-1", "--profile", "diesel_generator", "--site", "Tunnel North", "--json").data
    again = fettle("device", "renew", "GX-1", "--json").data
    assert card["device_id"] == again["device_id"] == "GX-1"
    assert card["mqtt"]["topic"] == again["mqtt"]["topic"]
    assert card["mqtt"]["password"] != again["mqtt"]["password"]
    who = ("--customer", "Metro JV", "--email", "site@metro.example")
    assert fettle("rental", "add", "GX-1", *who, "--json").data["customer"] == "Metro JV"
    li = fettle("person", "add", "Li", "--role", "customer", "--customer", "Metro JV", "--email", "li@metro.example",
                "--json").data  # fmt: skip
    assert (li["name"], li["role"]) == ("Li", "customer")
    token = fettle("token", "create", "--role", "customer", "--customer", "Metro JV", "--name", "map", "--json").data
    assert token["token"].startswith("fettle_")
    assert fettle("token", "revoke", "map", "--json").data == {"name": "map", "revoked": True}
    assert "/sign-in/" in fettle("login-link", "--name", "Li", "--json").data["url"]
    assert fettle("device", "revoke", "GX-1", "--json").data == {"device_id": "GX-1", "revoked": True}
    assert "machine GX-1 is with its customer by rental 1" in fettle("device", "retire", "GX-1", "--reason", "x").err
    assert fettle("device", "add", "GX-2", "--profile", "diesel_generator").status == 0
    gone = fettle("device", "retire", "GX-2", "--reason", "sold", "--json").data
    assert gone == {"device_id": "GX-2", "retired": True}


def test_a_token_is_revoked_by_its_name_either_way(fettle: Fettle) -> None:
    for way in (["script"], ["--name", "script"]):
        assert fettle("token", "create", "--role", "ops", "--name", "script").status == 0
        taken = fettle("token", "create", "--role", "manager", "--name", "script")
        assert (taken.status, taken.err) == (
            2, "fettle: there is a valid token named 'script' already; fettle token revoke ends it\n",
        )  # fmt: skip
        assert fettle("token", "revoke", *way).out == "Token script is void.\n"
    assert fettle("token", "revoke", "script", "--name", "other").status == 2


def test_a_customer_s_person_leaves_the_customer_s_address_alone(fettle: Fettle) -> None:
    fettle("device", "add", "GX-1", "--profile", "diesel_generator")
    fettle("rental", "add", "GX-1", "--customer", "Metro JV", "--email", "site@metro.example", "--lang", "zh")
    added = fettle("person", "add", "Li", "--role", "customer", "--customer", "Metro JV", "--email", "li@metro.example")
    assert added.status == 0
    with house(read_settings()) as rooms, rooms.database.connect() as connection:
        assert connection.execute(sa.select(customer.c.email, customer.c.lang)).all() == [("site@metro.example", "zh")]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("device add a/b --profile diesel_generator", "device id 'a/b': allowed are 1 to 64 of A-Z a-z 0-9 _ -"),
        ("device add GX-1 --profile toaster", "profile 'toaster' is not known; known are: air_compressor, "),
        ("device add GX-1 --profile diesel_generator --site Moon", "site 'Moon' is not known"),
        ("device renew GX-9", "device 'GX-9' is not known"),
        ("device revoke GX-9", "device 'GX-9' is not known"),
        ("device retire GX-9 --reason sold", "device 'GX-9' is not known"),
        ("device move GX-9", "device 'GX-9' is not known"),
        ("export --kind toasters", "kind 'toasters': allowed are sites, customers, devices, rentals, maintenance"),
        ("export --kind sites --out /no/such/folder/x.csv", "--out /no/such/folder/x.csv: No such file or directory"),
        ("site add Moon --timezone Moon/Tycho", "timezone 'Moon/Tycho' is not known"),
        ("person add Li --role boss --email li@e.com", "role 'boss': allowed are ops, technician, "),
        ("person add Li --role ops --email nobody", "e-mail 'nobody': one plain address"),
        ("person add Li --role ops --email li@e.com --lang fr", "lang 'fr': allowed are zh, en"),
        ("person add Li --role customer --email li@e.com", "role customer needs it"),
        ("rental add GX-9 --customer C --email c@e.com", "device 'GX-9' is not known"),
        ("token create --role boss --name t", "role 'boss': allowed are ops, technician, "),
        ("token create --role customer --name t", "a token names a customer (--customer NAME) when its role is"),
        ("token create --role ops --customer C --name t", "customer 'C' is not known"),
        ("token revoke t", "there is no valid token named 't'"),
        ("token revoke", "name one token: fettle token revoke NAME, or --name NAME"),
        ("login-link", "name either --role ROLE or --name PERSON"),
        ("login-link --name Nobody", "person 'Nobody' is not known"),
        ("monitor", "set FETTLE_TELEMETRY_URL to influxdb:http://host:port/database"),
    ],
)
def test_what_a_person_can_mend_is_one_line(fettle: Fettle, command: str, why: str) -> None:
    refused = fettle(*command.split())
    assert (refused.status, refused.out) == (2, "")
    (line,) = refused.err.splitlines()
    assert line.startswith("fettle: ")
    assert why in line


@pytest.mark.parametrize(
    ("setting", "value", "why"),
    [
        ("FETTLE_HOME", "{folder}/file", "FETTLE_HOME: {folder}/file cannot be a data folder: File exists"),
        ("FETTLE_DATABASE_URL", "nonsense", "FETTLE_DATABASE_URL: it is no URL"),
        ("FETTLE_DATABASE_URL", "sqlite:///{folder}/file", "the database cannot be opened: file is not a database"),
        ("FETTLE_DATABASE_URL", "sqlite:///{folder}/file/f.db", "FETTLE_DATABASE_URL: [Errno 17] File exists"),
        ("FETTLE_DATABASE_URL", "postgresql://u:hunter2@127.0.0.1:1/f", "the database cannot be opened: connection"),
    ],
)
def test_a_place_that_cannot_be_used_is_one_line(
    fettle: Fettle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, why: str
) -> None:
    (tmp_path / "file").write_text("no database, and no folder\n")
    monkeypatch.setenv(setting, value.format(folder=tmp_path))
    refused = fettle("migrate")
    assert refused.status == 2
    (line,) = refused.err.splitlines()
    assert why.format(folder=tmp_path) in line
    assert "hunter2" not in line


# --- replay --------------------------------------------------------------------------------------------------------

ROWS = "datetime;Temperature;Pressure;unknown\n2020-03-09 10:14:33;79.1;0.05;1\n2020-03-09 10:14:34;79.2;;1\n"


class Ear:
    """What a subscriber heard."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.heard = threading.Event()

    def observe(self, arrivals: Sequence[Arrival], now: int) -> None:
        assert all(arrival.received_at <= now for arrival in arrivals)
        self.readings += [arrival.body for arrival in arrivals if isinstance(arrival.body, Reading)]


def test_a_replay_counts_as_the_next_start_of_its_machine(
    fettle: Fettle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FETTLE_MQTT_PORT", str(free_port()))
    recording = tmp_path / "rows.csv"
    recording.write_text(ROWS)
    fettle("device", "add", "P-1", "--profile", "skab_pump")
    played = ("replay", str(recording), "--device", "P-1", "--profile", "skab_pump", "--speed", "100", "--json")
    ear = Ear()
    with house(read_settings()) as rooms, broker_running(rooms):
        address, client_id = broker_address(rooms.settings)
        begin_session(address, client_id, 10)
        assert fettle(*played).data == {"device_id": "P-1", "sent": 2}
        with rooms.database.begin() as connection:
            course = {"next_seq": 1, "received": 1, "gaps": []}
            for boot in (3, 41):
                connection.execute(sa.insert(seen).values(device_id="P-1", generation=0, boot=boot, **course))
        assert fettle(*played).status == 0
        subscriber = Subscriber(address, client_id, ear.observe)
        subscriber.start()
        try:
            until(lambda: len(ear.readings) == 4, what="all four rows")
        finally:
            subscriber.stop()
    assert [(reading.boot, reading.seq) for reading in ear.readings] == [(1, 0), (1, 1), (42, 0), (42, 1)]
    assert [reading.values for reading in ear.readings[:2]] == [
        {"Temperature": 79.1, "Pressure": 0.05}, {"Temperature": 79.2},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("recording", "why"),
    [
        (b"", "has none of the sensors of skab_pump"),
        (b"time,Temperature\n0,hot\n", "rows.csv, line 2: could not convert string to float: 'hot'"),
        (b"time,Temperature\nyesterday,1\n", "rows.csv, line 2: Invalid isoformat string: 'yesterday'"),
        (b"\xff\xfe", "rows.csv cannot be read as CSV in UTF-8"),
        (b"time,Temperature\n0,1\n", "the broker at 127.0.0.1:"),
    ],
)
def test_a_replay_that_cannot_be_is_one_line(
    fettle: Fettle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recording: bytes, why: str
) -> None:
    monkeypatch.setenv("FETTLE_MQTT_PORT", str(free_port()))
    (tmp_path / "rows.csv").write_bytes(recording)
    fettle("device", "add", "P-1", "--profile", "skab_pump")
    refused = fettle("replay", str(tmp_path / "rows.csv"), "--device", "P-1", "--profile", "skab_pump")
    assert refused.status == 2
    (line,) = refused.err.splitlines()
    assert why in line

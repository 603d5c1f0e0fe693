"""Remote diagnosis beside the clocks: what a self-test means, over real brokers, through the API, on PostgreSQL."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from fettle.wiring import Ticks, tick_commands
from firmware_sim.device import Machine
from firmware_sim.failures import FOR_EVER, Injection
from firmware_sim.fleet import Fleet
from firmware_sim.models import MODELS
from firmware_sim.wire import Box
from ingest.connection import Address
from ingest.passwords import PasswordFiles
from ingest.subscriber import Subscriber, begin_session
from monitor.desk.diagnosis import (
    VALUES_KEPT,
    ForCustomer,
    ForTechnician,
    Policy,
    Rule,
    Tip,
    Words,
    advise,
    kept,
    read,
    shipped_policy,
    summary,
    words,
)
from monitor.desk.notices import LANGS
from monitor.devices import Device, topic
from monitor.engine import diagnosis
from monitor.readings import Reply
from monitor.store import commands, schema
from monitor.store.access import Role
from tests.api_world import World as Company
from tests.api_world import furnish
from tests.api_world import world as company_of
from tests.brokers import Client, as_device, mosquitto, nats_broker, now_ms
from tests.e2e.postgres import postgresql
from tests.office import Office
from tests.patience import PATIENCE_S, until
from tests.standard.world import World

POLICY = shipped_policy()


# --- what a self-test means ----------------------------------------------------------------------------------------


def simulated(failure: str = "") -> dict[str, Any]:
    """What a simulated machine answers, with this failure."""
    box = Box("m", MODELS["diesel_generator"], Machine(1_000_000, fuel_pct=60.0), 1, report_s=10, boot=1)
    if failure:
        box.inject(Injection(failure, 0, FOR_EVER))
    (reply,) = box.answer(json.dumps({"id": "c", "at": 1, "command": "diagnose"}).encode())
    result: dict[str, Any] = json.loads(reply.payload)["result"]
    return result


@pytest.mark.parametrize(
    ("failure", "kind", "subject", "technician", "customer"),
    [
        ("", "startup_failure", "", ["look_at_fuel_supply", "look_at_emergency_stop", "nothing_found"], "do_not_start"),
        ("", "limit", "coolant_temp_c", ["look_at_cooling", "nothing_found"], "cool_down"),
        ("", "limit", "vibration_mm_s", ["nothing_found"], "leave_it"),
        ("", "limit", "oil_pressure_bar", ["take_oil", "nothing_found"], "switch_off"),
        ("dead_starter", "startup_failure", "", ["take_starter", "look_at_emergency_stop"], "do_not_start"),
        ("stuck_sensor", "limit", "coolant_temp_c", ["take_sensor"], "leave_it"),
    ],
)
def test_what_a_simulated_machine_answers_becomes_advice(
    failure: str, kind: str, subject: str, technician: list[str], customer: str
) -> None:
    advice = advise(read(kept(simulated(failure)), POLICY), kind, subject, POLICY)
    assert ([tip.code for tip in advice.technician], advice.customer) == (technician, customer)


@pytest.mark.parametrize(
    ("checks", "codes", "technician", "customer"),
    [
        ({"battery": "weak"}, [], [Tip(ForTechnician.TAKE_BATTERY)], "do_not_start"),
        ({"battery": "weak", "coolant_level": "low"}, [], ["take_coolant", "take_battery"], "cool_down"),
        ({"fuel": "empty"}, ["P0191", 7], ["take_fuel", ("read_codes", "P0191, 7")], "refuel"),
        ({"fuel": "OK", "pump": True, "belt": "torn"}, [], [("look_at", "belt: torn")], "leave_it"),
        ({}, ["P0191"], [("read_codes", "P0191")], "leave_it"),
    ],
)
def test_findings_become_advice(checks: Any, codes: Any, technician: list[Any], customer: str) -> None:
    advice = advise(read(kept({"checks": checks, "codes": codes}), POLICY), "reported", "", POLICY)
    wanted = tuple(Tip(ForTechnician(one)) if isinstance(one, str) else Tip(ForTechnician(one[0]), *one[1:])
                   for one in technician)  # fmt: skip
    assert (advice.technician, advice.customer) == (wanted, customer)


def test_another_firmware_is_shown_as_it_speaks() -> None:
    test = read(kept({"battery_v": 23.9, "tank": {"level": [1, None]}, "checks": ["odd"], "codes": {"a": 1}}), POLICY)
    assert test.rest == (
        ("battery_v", 23.9), ("tank.level.0", 1), ("tank.level.1", None), ("checks.0", "odd"), ("codes.a", 1)
    )  # fmt: skip
    advice = advise(test, "limit", "x", POLICY)
    assert (advice.technician, advice.customer) == ((Tip(ForTechnician.UNKNOWN_RESULT),), ForCustomer.LEAVE_IT)
    assert summary(test) == "battery_v: 23.9 · tank.level.0: 1 · checks.0: odd · codes.a: 1"


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=80,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text() | st.sampled_from(["checks", "codes"]), ANYTHING))
def test_whatever_a_stranger_answers_is_kept_small_and_read(result: dict[str, Any]) -> None:
    cut = kept(result)
    assert json.loads(json.dumps(cut, allow_nan=False)) == cut
    test = read(cut, POLICY)
    assert len(test.checks) + len(test.codes) + len(test.rest) <= VALUES_KEPT
    assert len(summary(test)) <= 400
    assert summary(test).isprintable()
    assert advise(test, "limit", "x", POLICY).technician


def test_a_result_as_large_as_the_contract_allows_is_cut() -> None:
    deep: Any = "bottom"
    for _ in range(14):
        deep = {"down": deep}
    cut = kept(
        {"deep": deep, "text": "x" * 60_000, "many": list(range(5_000)), "huge": 10**40, "control": "a\0\x1b[2Jb"}
    )
    assert len(json.dumps(cut)) < 2_000
    assert cut["deep"] == {"down": {"down": {"down": "…"}}}
    assert kept({"huge": 10**40, "control": "a\0\x1b[2Jb"}) == {"huge": "…", "control": "a[2Jb"}


@pytest.mark.parametrize("lang", LANGS)
def test_all_advice_has_words(lang: str) -> None:
    said: Words = words(lang)
    assert set(said.technician) == set(ForTechnician)
    assert set(said.customer) == set(ForCustomer)
    assert {rule.check for rule in POLICY.rules if rule.check} <= set(said.check)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"check": "fuel", "clean": True}, "cannot be clean"), ({}, "needs a check or kinds")],
)
def test_a_rule_that_cannot_be_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Rule((), **change)


def test_pauses_without_end_or_of_no_time_are_refused() -> None:
    for resend_s in ((), (0.0,)):
        with pytest.raises(ValueError, match="resend_s"):
            Policy("x", resend_s, 60, (), ())


def test_the_machine_is_given_up_well_before_the_clock_warns() -> None:
    assert POLICY.give_up_ms <= 45 * 60_000 - 10 * 60_000
    assert [POLICY.pause_ms(sends) for sends in (1, 2, 5, 99)] == [10_000, 20_000, 60_000, 60_000]


# --- over a real broker --------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "home")
    world.now = now_ms()
    world.site("Quarry", remote=True)
    yield world
    world.close()


def opened(world: World) -> Any:
    """The one command, of the ticket that the hot machine m1 has at the quarry; its time is the wall clock's."""
    world.now = now_ms()
    if "m1" not in world.machines:
        world.machine(site="Quarry")
    world.machines["m1"].goes_hot()
    return only_command(world)


def only_command(world: World) -> Any:
    (row,) = world.rows(schema.command)
    return row


class Session:
    """The service's session: what devices answer goes to the real watch, what they are asked goes out."""

    def __init__(self, world: World, address: Address, client_id: str) -> None:
        begin_session(address, client_id, 10)
        self.world = world
        self.subscriber = Subscriber(address, client_id, world.watch.observe)
        self.subscriber.start()
        until(lambda: self.subscriber.connected, what="the service is connected")

    def send(self) -> int:
        return diagnosis.send_due(self.world.database, self.subscriber.publish, POLICY, now_ms())

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: object) -> None:
        self.subscriber.stop()


def test_a_simulated_machine_diagnoses_itself_for_its_ticket(world: World, tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        card = broker.mint("m1", now_ms())
        given = {
            "device_id": "m1", "profile": "diesel_generator",
            "mqtt": {"host": "127.0.0.1", "port": broker.port, "client_id": card.client_id, "username": card.username,
                     "password": card.password, "topic": card.topic},
        }  # fmt: skip
        command = opened(world)
        with Session(world, *broker.service(now_ms())) as session:
            fleet = Fleet([given], home=tmp_path / "sim")
            fleet.start()
            try:
                until(lambda: fleet.connected, what="the machine is connected")
                tick_commands_until_answered(world, session)
            finally:
                fleet.stop()
    answered = only_command(world)
    assert (answered.id, answered.ok, set(answered.result["checks"])) == (
        command.id, True, {"battery", "fuel", "starter", "coolant_level", "sensors"},
    )  # fmt: skip
    clock = world.clocks(answered.ticket_id)["remote_diagnosis"]
    assert clock.met_at == answered.answered_at
    assert clock.breached_at is None
    (step,) = world.rows(schema.step, ticket_id=answered.ticket_id, event="diagnose")
    assert step.note.startswith("battery: ok")
    assert step.happened_at == answered.answered_at


def tick_commands_until_answered(world: World, session: Session) -> None:
    """As a process does it: by the scheduler."""

    class Rooms:
        database = world.database

    ticks = Ticks()
    try:
        tick_commands(ticks, Rooms(), session.subscriber)  # type: ignore[arg-type]
        until(lambda: only_command(world).answered_at, "the answer is recorded")
        assert ticks.in_time()
    finally:
        ticks.stop()


def test_what_was_not_noted_as_sent_goes_out_again_under_the_same_name(world: World, tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        opened(world)
        with (
            Session(world, *broker.service(now_ms())) as session,
            as_device(broker, broker.mint("m1", now_ms())) as device,
        ):
            device.subscribe(f"{topic('m1')}/command")
            # The process dies after the broker has it and before that is noted.
            with world.database.begin() as connection:
                connection.exec_driver_sql(
                    "CREATE TRIGGER dies BEFORE UPDATE ON command BEGIN SELECT RAISE(ABORT, 'x'); END"
                )
            with pytest.raises(sa.exc.IntegrityError):
                session.send()
            with world.database.begin() as connection:
                connection.exec_driver_sql("DROP TRIGGER dies")
            assert session.send() == 1
            assert session.send() == 0, "it is not due again yet"
            until(lambda: len(device.heard) == 2)
            assert device.heard[0] == device.heard[1]
            said = json.loads(device.heard[0][1])
            assert (said["id"], said["command"], said["args"]) == (only_command(world).id, "diagnose", {})
            # The machine answers each copy; one is recorded.
            for voltage in (23.9, 1.0):
                reply = {"id": said["id"], "at": now_ms(), "ok": True, "result": {"battery_v": voltage}}
                device.publish(f"{topic('m1')}/reply", json.dumps(reply))
            until(lambda: session.subscriber.counts.acked == 2)
    assert only_command(world).result == {"battery_v": 23.9}
    assert len(world.rows(schema.step, event="diagnose")) == 1


def test_without_a_connection_nothing_is_lost(world: World, tmp_path: Path) -> None:
    with nats_broker(tmp_path) as broker:
        address, client_id = broker.service(now_ms())
    opened(world)
    subscriber = Subscriber(address, client_id, world.watch.observe)
    assert diagnosis.send_due(world.database, subscriber.publish, POLICY, now_ms()) == 0
    row = only_command(world)
    assert (row.sends, row.sent_at) == (0, None)
    assert row.asked_at < row.next_send_at <= now_ms() + 10_000


def test_mosquitto_lets_the_service_ask_and_the_machine_answer(world: World, tmp_path: Path) -> None:
    files = PasswordFiles(tmp_path)
    card = files.mint("m1", now_ms())
    with mosquitto(tmp_path, files.passwd, files.acl, anonymous=False) as broker:
        address, client_id = files.service(broker.address)
        broker.reload()
        until(lambda: signs_in(address), what="mosquitto knows the service")
        opened(world)
        own = Address(broker.address.host, broker.address.port, card.username, card.password)
        with Session(world, address, client_id) as session, Client(own, card.client_id) as device:
            assert device.subscribe(f"{card.topic}/command")
            assert session.send() == 1
            until(lambda: device.heard)
            said = json.loads(device.heard[0][1])
            reply = {"id": said["id"], "at": now_ms(), "ok": True, "result": {"checks": {"fuel": "empty"}}}
            device.publish(f"{card.topic}/reply", json.dumps(reply))
            until(lambda: only_command(world).answered_at)
    assert only_command(world).result == {"checks": {"fuel": "empty"}}


def signs_in(address: Address) -> bool:
    with Client(address, "probe") as probe:
        return probe.answer == "Success"


# --- people ask ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    with company_of(tmp_path_factory.mktemp("diagnosis")) as company:
        furnish(company)
        yield company


def answered(company: Company, device_id: str, result: dict[str, Any]) -> None:
    """The machine answers the newest question for a ticket."""
    with company.database.begin() as connection:
        row = next(row for row in commands.of_device(connection, device_id, 20) if row.ticket_id is not None)
        connection.execute(
            sa.update(schema.command).where(schema.command.c.id == row.id)
            .values(answered_at=company.now(), ok=True, result=result, next_send_at=None)
        )  # fmt: skip


def test_a_person_asks_and_asking_twice_is_asking_once(company: Company) -> None:
    with company.client("service") as client:
        first = client.post("/api/v1/devices/gen-a/diagnose", json={"ticket_id": 1})
        again = client.post("/api/v1/devices/gen-a/diagnose", json={"ticket_id": 1})
        without = client.post("/api/v1/devices/gen-a/diagnose")
        listed = client.get("/api/v1/devices/gen-a/commands").json()["items"]
        assert (first.status_code, first.json()["status"], first.json()["ticket_id"]) == (202, "waiting", 1)
        assert again.json() == first.json()
        assert [item["id"] for item in listed] == [without.json()["id"], first.json()["id"]]
        assert without.json()["ticket_id"] is None
    with company.database.connect() as connection:
        audited = connection.execute(sa.select(schema.audit).where(schema.audit.c.what == "diagnose_asked")).all()
    assert [row.after["ticket_id"] for row in audited] == [1, None]


def test_what_is_answered_stands_on_the_ticket_with_its_advice(company: Company) -> None:
    with company.client("ops") as ops, company.client("customer") as customer:
        assert ops.get("/api/v1/tickets/3").json()["self_test"] is None
        ops.post("/api/v1/devices/gen-a/diagnose", json={"ticket_id": 1})
        assert customer.get("/api/v1/tickets/1").json()["self_test"] is None
        nasty = {"checks": {"coolant_level": "low", "fuel": "ok"}, "codes": ["P0217"], "note": "<img src=x onerror=1>"}
        answered(company, "gen-a", nasty)
        told = ops.get("/api/v1/tickets/1").json()["self_test"]
        assert (told["status"], told["codes"], told["facts"]) == ("answered", ["P0217"], {"note": nasty["note"]})
        assert [(check["name"], check["well"]) for check in told["checks"]] == [
            ("coolant_level", False),
            ("fuel", True),
        ]
        assert [tip["code"] for tip in told["technician"]] == ["take_coolant", "read_codes"]
        assert told["technician"][1]["text"].endswith(": P0217")
        theirs = customer.get("/api/v1/tickets/1").json()["self_test"]
        assert theirs["customer"] == told["customer"]
        assert theirs["customer"]["code"] == "cool_down"
        assert (theirs["checks"], theirs["codes"], theirs["facts"], theirs["technician"]) == ([], [], {}, [])
        page = ops.get("/tickets/1").text
        assert "Take coolant, hoses and clamps along" in page
        assert "&lt;img src=x" in page
        assert "<img src=x" not in page
        own = customer.get("/tickets/1").text
        assert "Do not open the radiator cap" in own
        assert "coolant, hoses" not in own
        chinese = ops.get("/tickets/1?lang=zh").text
        assert "携带冷却液、水管和卡箍" in chinese


@pytest.mark.parametrize(
    ("who", "address", "wish", "status"),
    [
        ("ops", "no-such", None, 404),
        ("ops", "gen-a", {"ticket_id": 2}, 404),
        ("ops", "gen-a", {"ticket_id": 999}, 404),
        ("ops", "gen-a", {"ticket_id": 1, "args": {}}, 422),
        ("technician", "gen-a", None, 403),
        ("technician", "gen-a", {"ticket_id": 1}, 403),
        ("manager", "gen-a", {"ticket_id": 1}, 403),
        ("customer", "gen-a", {"ticket_id": 1}, 403),
    ],
)
def test_who_may_not_ask_or_for_what(company: Company, who: str, address: str, wish: Any, status: int) -> None:
    with company.client(who) as client:
        answer = client.post(f"/api/v1/devices/{address}/diagnose", json=wish)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_technician_asks_for_a_ticket_of_their_own_and_a_page_has_the_button(company: Company) -> None:
    with company.database.connect() as connection:
        tang = connection.execute(sa.select(schema.person.c.id).where(schema.person.c.name == "Tang")).scalar_one()
    company.machine("gen-own")
    ticket_id = company.ticket("gen-own", "limit", "coolant_temp_c", technician_id=tang, status="accepted")
    with company.client("ops") as ops:
        token_of_tang = company.link(Role.TECHNICIAN, tang)
        page = ops.get(f"/tickets/{ticket_id}").text
        assert f'action="/tickets/{ticket_id}/self-test"' in page
    with company.client() as client:
        signed = client.post("/sign-in", data={"secret": token_of_tang})
        client.headers["Cookie"] = signed.headers["set-cookie"].partition(";")[0]
        client.headers["Sec-Fetch-Site"] = "same-origin"
        asked = client.post("/api/v1/devices/gen-own/diagnose", json={"ticket_id": ticket_id})
        assert asked.status_code == 202
        assert asked.json()["asked_by"] == f"person:{tang}"
        back = client.post(f"/tickets/{ticket_id}/self-test", follow_redirects=False)
        assert (back.status_code, back.headers["location"]) == (303, f"/tickets/{ticket_id}")
        assert client.post("/tickets/1/self-test").status_code == 403


def test_a_machine_that_cannot_be_reached_is_a_conflict(company: Company) -> None:
    company.machine("gen-gone", revoked_at=company.began)
    with company.client("ops") as client:
        answer = client.post("/api/v1/devices/gen-gone/diagnose")
    assert answer.status_code == 409
    assert "cannot be reached" in answer.json()["detail"]


def test_ten_who_ask_at_once_ask_one_question(company: Company) -> None:
    company.machine("gen-ten")
    asked: list[str] = []

    def ask() -> None:
        asked.append(diagnosis.request(company.database, "gen-ten", None, "role:ops", company.now()).id)

    people = [threading.Thread(target=ask) for _ in range(10)]
    for person in people:
        person.start()
    for person in people:
        person.join(PATIENCE_S)
    assert len(asked) == 10
    assert len(set(asked)) == 1


def test_loose_commands_go_after_a_month_and_those_of_tickets_stay(company: Company) -> None:
    company.machine("gen-loose")
    with company.database.begin() as connection:
        commands.insert(connection, "gen-loose", 0, None, "role:ops", company.began - 40 * 86_400_000)
        commands.insert(connection, "gen-loose", 0, 3, "role:ops", company.began - 40 * 86_400_000)
        commands.prune(connection, company.began)
        assert [row.ticket_id for row in commands.of_device(connection, "gen-loose", 20)] == [3]


@pytest.fixture
def office() -> Iterator[Office]:
    with postgresql() as url:
        office = Office([("Quarry", 2)], url=url)
        yield office
        office.close()


def test_on_postgresql_it_is_the_same(office: Office) -> None:
    """Ten ask at once, one question goes out, one of two same answers is recorded; the other machine is given up."""
    database, now = office.database, office.now
    with ThreadPoolExecutor(10) as people:
        ids = list(people.map(lambda _: diagnosis.request(database, "GX-1", None, "role:ops", now).id, range(10)))
    assert len(set(ids)) == 1
    other = diagnosis.request(database, "GX-2", None, "role:ops", now)
    sent: list[str] = []

    def publish(topic_: str, _payload: bytes) -> bool:
        sent.append(topic_)
        return True

    assert diagnosis.send_due(database, publish, POLICY, now) == 2
    assert sorted(sent) == sorted(f"{topic(device_id)}/command" for device_id in ("GX-1", "GX-2"))
    box, reply = Device("GX-1", "diesel_generator", 0), Reply(ids[0], now, True, {"battery_v": 23.9})
    for received_at in (now + 5, now + 9):
        with database.begin() as connection:
            replies = [(box, received_at, reply)]
            diagnosis.take_answers(connection, replies, POLICY, office.desk.reckon_clocks, now + 10)
    assert diagnosis.give_up(database, POLICY, now + POLICY.give_up_ms) == 1
    with database.connect() as connection:
        (first,), (second,) = (commands.of_device(connection, name, 20) for name in ("GX-1", "GX-2"))
    assert (first.answered_at, first.result, first.sends) == (now + 5, {"battery_v": 23.9}, 1)
    assert (second.id, second.reason, second.next_send_at) == (other.id, "no_answer", None)

"""From a machine that will not start to a dispatched technician: the real program, bare devices, the API."""

import math
import random
import re
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import pytest

from tests.e2e.service import BareDevice, Service, now_ms, topic_of
from tests.patience import until

HOUR_S = 3600


def impatient_generator(home: Path) -> None:
    """The company's own profile beside the shipped ones: a generator whose starts must not take long."""
    shipped = files("monitor").joinpath("profiles", "diesel_generator.toml").read_text()
    own = shipped.replace('name = "diesel_generator"', 'name = "impatient_generator"')
    own = re.sub(r"start_timeout_s = \d+", "start_timeout_s = 3", own)
    (home / "profiles").mkdir(parents=True)
    (home / "profiles" / "impatient_generator.toml").write_text(own)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    home = tmp_path_factory.mktemp("home") / "var"
    impatient_generator(home)
    with Service(home) as running:
        running.run("site", "add", "Harbour East")
        running.run("site", "add", "Quarry Sandberg", "--remote")
        running.run("person", "add", "Ada", "--role", "technician", "--email", "ada@example.com", "--lang", "en")
        running.run("person", "add", "Olu", "--role", "ops", "--email", "olu@example.com", "--lang", "en")
        yield running


@pytest.fixture
def machine(service, request):
    """A generator on hire at a near site, connected with nothing but its card."""
    device_id = f"GX-{request.node.name.removeprefix('test_')[:50]}".replace("[", "-").replace("]", "")
    made = service.add_device(device_id, "diesel_generator", "--site", "Harbour East")
    service.run("rental", "add", device_id, "--customer", "Lindqvist Bau", "--email", "site@lindqvist.example")
    made.connect()
    yield made
    made.disconnect()


def profile_of(service: Service, name: str) -> dict:
    return service.get(f"profiles/{name}")


def nominal(service: Service, name: str = "diesel_generator") -> dict[str, float]:
    return {sensor["name"]: sensor["nominal"] for sensor in profile_of(service, name)["sensors"] if "nominal" in sensor}


def limit_of(service: Service, sensor: str) -> dict:
    sensors = {found["name"]: found for found in profile_of(service, "diesel_generator")["sensors"]}
    return sensors[sensor]["limits"]


def due_in_hours(ticket: dict) -> dict[str, float]:
    """Each commitment's time, counted from the ticket's opening."""
    opened = seconds(ticket["opened_at"])
    return {
        f"{c['standard_id']} {c['kind']}": round((seconds(c["due_at"]) - opened) / HOUR_S, 3)
        for c in ticket["commitments"]
    }


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def overheat(machine: BareDevice, healthy: dict[str, float], limit: dict, sensor: str = "coolant_temp_c") -> None:
    """Beyond the limit for its hold, in the device's own time, at four readings a second of it."""
    hold_ms = math.ceil(limit["hold_s"] * 1000)
    begun = now_ms() - hold_ms - 500
    for at in range(begun, begun + hold_ms + 501, 250):
        machine.tell({**healthy, sensor: limit["high"] + 10}, at=at)


def open_ticket(service: Service, machine: BareDevice, kind: str) -> dict:
    def found():
        return [t for t in service.tickets(machine.device_id) if t["kind"] == kind and t["cleared_at"] is None]

    tickets = until(found, f"a {kind} ticket for {machine.device_id}")
    assert len(tickets) == 1
    return tickets[0]


def test_overheating_opens_an_urgent_ticket(service, machine):
    healthy, limit = nominal(service), limit_of(service, "coolant_temp_c")
    machine.tell(healthy)
    assert service.tickets(machine.device_id) == []
    overheat(machine, healthy, limit)
    ticket = open_ticket(service, machine, "limit")
    assert (ticket["subject"], ticket["severity"], ticket["status"]) == ("coolant_temp_c", "urgent", "open")
    assert due_in_hours(ticket) == {"R7 dispatch": 1.0}
    notices = [n for n in service.get("notices", limit=500)["items"] if n["ticket_id"] == ticket["id"]]
    assert {(n["kind"], n["recipient"]) for n in notices} == {
        ("dispatch_alert", "ada@example.com"),
        ("fault_noticed", "site@lindqvist.example"),
    }


def test_a_start_and_nothing_after_is_an_emergency(service):
    machine = service.add_device("GX-dead", "impatient_generator", "--site", "Harbour East").connect()
    service.run("rental", "add", "GX-dead", "--customer", "Lindqvist Bau", "--email", "site@lindqvist.example")
    timeout_s = profile_of(service, "impatient_generator")["start_timeout_s"]
    assert timeout_s == 3
    machine.tell(nominal(service), state="off")
    machine.event("start_requested")
    machine.drop()
    ticket = open_ticket(service, machine, "startup_failure")
    assert ticket["severity"] == "emergency"
    assert due_in_hours(ticket) == {"R7 dispatch": 1.0, "R9 repair_start": 4.0}
    assert {found["kind"] for found in service.tickets(machine.device_id)} == {"startup_failure"}


def test_a_remote_site_is_diagnosed_from_afar_first(service):
    machine = service.add_device("GX-remote", "diesel_generator", "--site", "Quarry Sandberg")
    service.run("rental", "add", "GX-remote", "--customer", "Sandberg AG", "--email", "it@sandberg.example")
    machine.connect()
    machine.tell(nominal(service), state="off")
    machine.event("start_requested")
    machine.event("start_failed")
    ticket = open_ticket(service, machine, "startup_failure")
    assert due_in_hours(ticket) == {"R8 remote_diagnosis": 1.0, "R8 dispatch": 4.0, "R9 repair_start": 4.0}
    machine.disconnect()


def test_two_sensors_beyond_their_limits_are_two_faults_that_clear_each_for_itself(service, machine):
    healthy = nominal(service)
    hot, fast = limit_of(service, "coolant_temp_c"), limit_of(service, "engine_speed_rpm")
    bad = {**healthy, "coolant_temp_c": hot["high"] + 10, "engine_speed_rpm": fast["high"] + 100}
    hold_ms = math.ceil(max(hot["hold_s"], fast["hold_s"]) * 1000)
    begun = now_ms() - hold_ms - 500
    for at in range(begun, begun + hold_ms + 501, 250):
        machine.tell(bad, at=at)
    until(lambda: len(service.tickets(machine.device_id)) == 2, "two tickets")
    half_well = {**bad, "coolant_temp_c": healthy["coolant_temp_c"]}
    machine.tell(half_well)
    machine.tell(half_well)

    def cleared() -> dict[str, bool]:
        return {t["subject"]: t["cleared_at"] is not None for t in service.tickets(machine.device_id)}

    until(lambda: cleared() == {"coolant_temp_c": True, "engine_speed_rpm": False}, "one cleared")
    machine.tell(healthy)
    machine.tell(healthy)
    until(lambda: all(cleared().values()), "both cleared")
    opened = [t["id"] for t in service.tickets(machine.device_id)]
    told = [n for n in service.get("notices", limit=500)["items"] if n["ticket_id"] in opened]
    assert sum(n["kind"] == "fault_resolved" for n in told) == 2


def test_a_forged_publish_to_another_machines_topic_never_arrives(service, machine):
    victim = service.add_device("GX-victim", "diesel_generator").connect()
    # A denied publish is acknowledged all the same, so the proof is that the victim's store stays empty.
    machine.publish("telemetry", machine.reading({"coolant_temp_c": 500.0}), topic=topic_of("GX-victim"))
    machine.seq = 0
    machine.tell(nominal(service))
    victim.tell(nominal(service))
    until(lambda: service.get("devices/GX-victim")["data"]["received"] == 1, "the victim's own reading")
    assert service.get("devices/GX-victim")["data"] == {"received": 1, "missing": 0}
    assert not [r for r in service.get("rejected", limit=500)["items"] if r["device_id"] == "GX-victim"]
    victim.disconnect()


def test_a_dispatched_technician_stops_the_clocks(service, machine):
    machine.event("start_failed")
    ticket = open_ticket(service, machine, "startup_failure")
    ada = next(p for p in service.get("people")["items"] if p["name"] == "Ada")
    path = f"tickets/{ticket['id']}"
    refused = service.post(f"{path}/resolve")
    assert refused.status_code == 409
    assert "accept" in refused.json()["allowed"]
    assert service.post(f"{path}/dispatch", technician_id=ada["id"]).status_code == 200
    assert service.post(f"{path}/accept").status_code == 200
    assert service.post(f"{path}/start-repair").status_code == 200
    walked = service.get(path)
    assert walked["status"] == "repairing"
    assert all(c["met_at"] and not c["breached_at"] for c in walked["commitments"])


def test_a_revoked_machine_is_cut_off(service):
    machine = service.add_device("GX-revoked", "diesel_generator").connect()
    service.run("device", "revoke", "GX-revoked")
    until(lambda: not machine.connected, "it is cut off")
    assert until(lambda: machine.refusal, "and refused") == "Not authorized"
    machine.disconnect()


def test_a_renewed_box_begins_again_and_the_old_one_is_refused(service):
    old = service.add_device("GX-renewed", "diesel_generator").connect()
    old.tell(nominal(service))
    new = BareDevice(service.answer("device", "renew", "GX-renewed")).connect()
    new.tell({**nominal(service), "fuel_level_pct": 41.0})
    until(lambda: not old.connected, "the old box is cut off")
    until(lambda: service.get("devices/GX-renewed")["data"]["received"] == 2, "both are kept")
    assert service.get("devices/GX-renewed")["latest"]["values"]["fuel_level_pct"] == 41.0
    old.disconnect()
    new.disconnect()


def test_what_breaks_the_contract_is_shown_with_its_reason(service, machine):
    machine.publish("telemetry", b"{not json")
    machine.tell(nominal(service), at=now_ms() + 3_600_000)
    machine.tell(nominal(service))

    def reasons() -> set[str]:
        items = service.get("rejected", limit=500)["items"]
        return {item["reason"] for item in items if item["device_id"] == machine.device_id}

    until(lambda: reasons() == {"bad_json", "clock_ahead"}, "both are in the dead-letter table")
    until(lambda: service.tickets(machine.device_id), "a wrong clock is a fault of its own")
    assert {t["kind"] for t in service.tickets(machine.device_id)} == {"wrong_clock"}


def test_a_lost_connection_is_silence_and_a_goodbye_is_not(service):
    cards = [service.answer("device", "add", name, "--profile", "diesel_generator") for name in ("GX-lost", "GX-bye")]
    lost, bye = (BareDevice(card, will=True).connect() for card in cards)
    for machine in (lost, bye):
        machine.publish("status", {"state": "online", "boot": 1, "at": now_ms()})
        machine.tell(nominal(service))
    bye.publish("status", {"state": "offline", "reason": "powered_off", "boot": 1, "at": now_ms()})
    bye.disconnect()
    until(lambda: service.get("devices/GX-bye")["connection"] == "offline", "the goodbye")
    lost.drop()
    ticket = open_ticket(service, lost, "silent")
    assert (ticket["severity"], ticket["commitments"]) == ("routine", [])
    assert service.get("devices/GX-lost")["condition"] == "unknown"
    assert service.tickets("GX-bye") == []
    back = BareDevice(cards[0], boot=2).connect()
    back.tell(nominal(service))
    until(lambda: service.get("devices/GX-lost")["condition"] == "good", "heard again")
    back.disconnect()


def test_a_customer_sees_their_own_machines_and_nothing_else(service, machine):
    token = service.run("token", "create", "--role", "customer", "--name", "for-lindqvist",
                        "--customer", "Lindqvist Bau").split()[-1]  # fmt: skip
    service._tokens["lindqvist"] = token
    machine.tell(nominal(service))
    service.add_device("GX-not-theirs", "diesel_generator")
    theirs = {item["device_id"] for item in service.get("devices", role="lindqvist", limit=500)["items"]}
    assert machine.device_id in theirs
    assert "GX-not-theirs" not in theirs
    assert service.call("GET", "devices/GX-not-theirs", role="lindqvist").status_code == 404
    assert service.call("GET", "notices", role="lindqvist").status_code == 403


def test_the_service_goes_on_where_it_was(tmp_path):
    service = Service(tmp_path / "var").start()
    try:
        machine = service.add_device("GX-1", "diesel_generator").connect()
        machine.event("start_failed")
        before = open_ticket(service, machine, "startup_failure")
        machine.disconnect()
        assert service.interrupt() == 0
        service.start()
        assert [t["id"] for t in service.tickets("GX-1")] == [before["id"]]
        machine.connect()
        machine.tell(nominal(service))
        until(lambda: service.tickets("GX-1")[0]["cleared_at"], "running clears it")
        machine.disconnect()
    finally:
        service.kill()


def test_wrong_settings_are_told_apart(tmp_path):
    service = Service(tmp_path / "var", FETTLE_TELEMETRY_URL="influx://db", FETTLE_HTTP_PROT="1")
    said = service.refused("migrate")
    assert "FETTLE_TELEMETRY_URL: the scheme must be duckdb: or influxdb:" in said
    assert "FETTLE_HTTP_PROT is not a setting; FETTLE_HTTP_PORT is" in said


def recording(path: Path, rows: int, fault_from: int, seed: int = 5) -> Path:
    """Rows of the shape of a pump rig's recording: eight noisy channels, a valve that closes from `fault_from` on."""
    rng = random.Random(seed)
    names = ["Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure", "Temperature", "Thermocouple",
             "Voltage", "Volume Flow RateRMS"]  # fmt: skip
    typical = [0.027, 0.040, 1.33, 0.05, 79.0, 26.0, 233.0, 32.0]
    noise = [0.0005, 0.0006, 0.15, 0.25, 0.15, 0.02, 2.5, 0.5]
    lines = [";".join(["datetime", *names, "anomaly", "changepoint"])]
    for row in range(rows):
        closed = min(1.0, max(0, row - fault_from) / 60)
        shift = [closed * step for step in (0.004, 0.005, 0.4, 0.6, 0.5, 0.1, 0.0, -8.0)]
        values = [rng.gauss(a + s, b) for a, s, b in zip(typical, shift, noise, strict=True)]
        stamp = f"2020-03-09 10:{14 + row // 60:02d}:{row % 60:02d}"
        label = float(row >= fault_from)
        lines.append(";".join([stamp, *(f"{value:.6g}" for value in values), str(label), "0.0"]))
    path.write_text("\n".join(lines))
    return path


def test_a_recording_replayed_as_a_rented_pump_ends_in_a_ticket_after_the_fault_begins(service, tmp_path):
    service.run("device", "add", "P-rig", "--profile", "skab_pump", "--site", "Harbour East")
    service.run("rental", "add", "P-rig", "--customer", "Metro JV", "--email", "it@metro.example")
    healthy, whole = recording(tmp_path / "a.csv", 560, 10_000), recording(tmp_path / "b.csv", 700, 60, seed=6)
    sent = service.answer("replay", str(healthy), "--device", "P-rig", "--profile", "skab_pump", "--speed", "200")
    assert sent == {"device_id": "P-rig", "sent": 560}
    until(lambda: service.get("devices/P-rig")["data"]["received"] == 560, "all rows are in")
    assert service.tickets("P-rig") == []
    service.run("replay", str(whole), "--device", "P-rig", "--profile", "skab_pump", "--speed", "200")
    tickets = until(lambda: service.tickets("P-rig"), "a ticket")
    assert {t["kind"] for t in tickets} == {"anomaly"}
    assert due_in_hours(tickets[0]) == {"R7 dispatch": 1.0}

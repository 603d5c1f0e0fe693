"""What `fettle up` prints, and the simulated rental fleet that it can bring along."""

import json
from collections.abc import Callable

import structlog

from fettle.cards import Card, issue_card
from fettle.house import House, clock, sign_in_url
from fettle.settings import Settings
from firmware_sim.fleet import Fleet
from ingest.credentials import private_folder, write_private
from monitor.store.access import Role
from monitor.store.registry import Registry

log = structlog.get_logger()

REPORT_S = 2.0
MODELS = ("diesel_generator", "air_compressor", "water_pump")
PREFIX = {"diesel_generator": "GX", "air_compressor": "AC", "water_pump": "WP"}
SITES = (("Harbour East", False), ("Tunnel North", False), ("City Works", False), ("Quarry Sandberg", True))
CUSTOMERS = ("Lindqvist Bau", "Metro JV", "City Works Department", "Sandberg AG")
IN_THE_YARD = 8
"""Every so-manieth machine is not on hire."""


def announce(rooms: House, broker: object, machines: int) -> Callable[[], None]:
    """Say where everything is, and start the simulated machines. Answers how to stop them."""
    fleet = start_fleet(rooms, machines) if machines else None
    settings = rooms.settings
    with rooms.database.begin() as connection:
        link = sign_in_url(connection, settings, role=Role.OPS)
    lines = [
        f"Pages and API   {settings.public}",
        f"MQTT broker     {_mqtt(settings)}{'' if broker else ' (outside)'}",
        f"Data            {settings.home}",
        f"Sign in         {link}",
        "Stop            Ctrl-C",
    ]
    if machines:
        lines.insert(2, f"Simulated       {machines} machines; one of them will not start within a minute")
    print("\n".join(["", "fettle is running.", *lines, ""]), flush=True)
    return fleet.stop if fleet else lambda: None


def _mqtt(settings: Settings) -> str:
    if settings.mqtt_url is not None:
        return settings.mqtt_url.get_secret_value().rpartition("@")[2].removeprefix("mqtt://")
    return f"mqtt://{settings.broker_host}:{settings.mqtt_port}"


# --- the simulated fleet ---


def start_fleet(rooms: House, machines: int) -> Fleet:
    """Simulated machines, customers and people; a second start goes on with the same."""
    home = rooms.settings.home / "sim"
    private_folder(home)
    path = home / "cards.json"
    cards: list[dict[str, object]] = json.loads(path.read_text()) if path.exists() else []
    registry = Registry(rooms.database, actor="demo")
    if not cards:
        _people_and_sites(registry, rooms.settings)
    for number in range(len(cards), machines):
        cards.append(_machine(rooms, registry, number))
        write_private(path, json.dumps(cards).encode())
    fleet = Fleet(cards[:machines], home=home, report_s=REPORT_S, scenario="demo")
    fleet.start()
    return fleet


def _people_and_sites(registry: Registry, settings: Settings) -> None:
    now, lang = clock(), settings.lang
    for name, remote in SITES:
        registry.add_site(name, remote=remote, timezone=settings.timezone, now=now)
    for name, role in (("T-07", "technician"), ("Dispatch room", "ops"), ("Fleet manager", "manager")):
        email = f"{name.lower().replace(' ', '.')}@fettle.example"
        registry.add_person(name, role, email, phone="", lang=lang, customer=None, now=now)


def _machine(rooms: House, registry: Registry, number: int) -> dict[str, object]:
    profile = MODELS[number % len(MODELS)]
    device_id = f"{PREFIX[profile]}-{101 + number}"
    site = SITES[number % len(SITES)][0]
    device = registry.add_device(device_id, profile, site, clock())
    card: Card = issue_card(rooms, registry, device)
    if number % IN_THE_YARD != IN_THE_YARD - 1:
        customer = CUSTOMERS[number % len(CUSTOMERS)]
        email = f"site@{customer.lower().replace(' ', '-')}.example"
        registry.add_rental(device_id, customer, email, lang=rooms.settings.lang, now=clock())
    return {**card, "profile": profile}

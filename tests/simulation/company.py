"""The company of every world: twenty machines at four sites, their customers, and the people who care for them."""

from functools import cache

from monitor.desk.rota import EVERY_DAY, Rotation, WorkingHours
from monitor.store.database import open_database
from monitor.store.people import Certified, People
from monitor.store.registry import Registry
from tests.simulation.lives import DAY, MODELS, T0
from tests.simulation.stores import Ground
from tests.standard.world import fresh_database

MACHINES = tuple(f"m{number:02}" for number in range(1, 21))
SITES = (("Quarry", False), ("Ridge", True), ("Harbour", False), ("", False))
TECHNICIANS = ("Tian", "Bo", "Chen")
IN_CHARGE = ("Olga", "Mei")


@cache
def founded(ground: Ground) -> bytes:
    """The database of the company as every world finds it."""
    ground.clear(fresh_database())
    database = open_database(f"sqlite:///{ground.file}")
    registry, people = Registry(database), People(database, "sim")
    for name, remote in SITES:
        if name:
            registry.add_site(name, remote=remote, timezone="Asia/Shanghai", now=T0 - DAY)
    for number, device_id in enumerate(MACHINES):
        registry.add_device(device_id, MODELS[number % len(MODELS)], SITES[number // 5][0] or None, T0 - DAY)
    for number, device_id in enumerate(MACHINES[:11]):
        name = ("Metro JV", "Port Ltd", "Harbour Works")[number % 3]
        registry.add_rental(
            device_id, name, f"site{number % 3}@example.com", lang=("en", "zh")[number % 2], now=T0 - DAY
        )
    roles = [(name, "technician") for name in TECHNICIANS] + [("Olga", "ops"), ("Mei", "manager")]
    ids = {name: registry.add_person(name, role, f"{name.lower()}@example.com", phone="", lang="en", customer=None,
                                     now=T0 - DAY) for name, role in roles}  # fmt: skip
    for name in TECHNICIANS:
        people.certify(ids[name], [Certified(model, T0 - 2 * DAY) for model in MODELS], T0 - DAY)
    for name in TECHNICIANS[:2]:
        people.set_hours(ids[name], [WorkingHours(day, 0, 1440) for day in EVERY_DAY], T0 - DAY)
    rota = Rotation(0, "Asia/Shanghai", (ids["Chen"],), 24, 0, 480, T0 - 2 * DAY)
    people.add_rotation("First line", rota, T0 - DAY)
    database.close()
    return ground.file.read_bytes()

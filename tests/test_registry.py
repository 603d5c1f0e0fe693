"""What operators keep, and what the database lets out about it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from monitor.store.access import Role, create_token, revoke_token
from monitor.store.database import Database, migrate, open_database
from monitor.store.hire import Hire
from monitor.store.registry import Conflict, Refused, Registry
from monitor.store.schema import customer, device, person, rental, site, token
from monitor.store.watching import newest_boot

NOW = 1_763_877_900_000


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path / 'fettle.db'}")
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def registry(database: Database) -> Registry:
    registry = Registry(database)
    registry.add_device("GX-1", "diesel_generator", None, NOW)
    return registry


def customers(database: Database) -> list[tuple[str, str, str]]:
    c = customer.c
    with database.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(c.name, c.email, c.lang).order_by(c.id))]


def add_person(registry: Registry, name: str, email: str, of: str) -> int:
    return registry.add_person(name, "customer", email, phone="", lang="en", customer=of, now=NOW)


def test_a_customer_s_people_leave_the_customer_as_it_is(registry: Registry) -> None:
    registry.add_rental("GX-1", "Metro JV", "site@metro.example", lang="zh", now=NOW)
    add_person(registry, "Li", "li@metro.example", "Metro JV")
    assert customers(registry.database) == [("Metro JV", "site@metro.example", "zh")]


def test_a_rental_says_where_a_customer_s_notices_go(registry: Registry) -> None:
    # A person may come first: the customer then is reached as the person is.
    add_person(registry, "Li", "li@metro.example", "Metro JV")
    assert customers(registry.database) == [("Metro JV", "li@metro.example", "en")]
    registry.add_rental("GX-1", "Metro JV", "site@metro.example", lang="zh", now=NOW)
    assert customers(registry.database) == [("Metro JV", "site@metro.example", "zh")]


@pytest.mark.parametrize(
    ("name", "phone", "of", "why"),
    [
        ("Li", "1" * 41, "Metro JV", "phone: 1 to 40 printable characters"),
        ("Li", "", "M" * 201, "customer: 1 to 200 printable characters"),
        ("L\ni", "", "Metro JV", "name: 1 to 200 printable characters"),
    ],
)
def test_texts_are_bounded_before_a_database_has_to(
    registry: Registry, name: str, phone: str, of: str, why: str
) -> None:
    with pytest.raises(Refused, match=why):
        registry.add_person(name, "customer", "li@metro.example", phone=phone, lang="en", customer=of, now=NOW)
    with registry.database.connect() as connection:
        assert connection.execute(sa.select(person)).all() == []
    assert customers(registry.database) == []


def test_a_name_stands_for_one_valid_token(database: Database) -> None:
    with database.begin() as connection:
        create_token(connection, Role.OPS, "script", NOW)
    with database.begin() as connection, pytest.raises(Refused, match="there is a valid token named 'script' already"):
        create_token(connection, Role.MANAGER, "script", NOW)
    with database.begin() as connection:
        assert revoke_token(connection, "script", NOW)
    with database.begin() as connection:
        create_token(connection, Role.MANAGER, "script", NOW)
        assert revoke_token(connection, "script", NOW)
    with database.connect() as connection:
        roles = connection.scalars(sa.select(token.c.role).order_by(token.c.id)).all()
    assert roles == ["ops", "manager"]


def test_a_rental_from_now_on_leaves_one_that_is_planned_alone(registry: Registry) -> None:
    registry.add_rental("GX-1", "Metro JV", "site@metro.example", lang="en", now=NOW)
    hire = Hire(registry.database, "test")
    hire.end_rental(1, NOW + 1000, NOW)
    hire.add_rental("GX-1", NOW + 5000, None, NOW, customer_id=1)
    for moment in (NOW, NOW + 2000, NOW + 4999):
        with pytest.raises(Conflict, match="on hire in this period already: rental 2"):
            registry.add_rental("GX-1", "Metro JV", "site@metro.example", lang="en", now=moment)
    with pytest.raises(Conflict, match="rental 2"):
        hire.end_rental(1, NOW + 6000, NOW)
    with registry.database.connect() as connection:
        periods = connection.execute(sa.select(rental.c.starts_at, rental.c.ends_at).order_by(rental.c.id)).all()
    assert [tuple(period) for period in periods] == [(NOW, NOW + 1000), (NOW + 5000, None)]


@pytest.mark.parametrize("place", [(91.0, 0.0), (0.0, 181.0), (float("nan"), 0.0)])
def test_a_site_lies_on_earth(registry: Registry, place: tuple[float, float]) -> None:
    with pytest.raises(Refused, match="lat_deg lies between -90 and 90"):
        registry.add_site("Nowhere", remote=False, timezone="UTC", place=place, now=NOW)


def test_of_a_site_only_what_is_named_is_changed(registry: Registry) -> None:
    site_id = registry.add_site("Dock 9", remote=False, timezone="UTC", now=NOW)
    with pytest.raises(Refused, match="id: of a site only"):
        registry.change_site(site_id, {"id": 10}, NOW)
    with pytest.raises(Refused, match="both or none"):
        registry.change_site(site_id, {"lat_deg": 1.0}, NOW)
    with pytest.raises(LookupError):
        registry.change_site(99, {"remote": True}, NOW)
    registry.change_site(site_id, {"remote": True}, NOW)
    with registry.database.connect() as connection:
        assert tuple(connection.execute(sa.select(site)).one())[1:4] == ("Dock 9", True, "UTC")


def test_errors_of_the_database_hold_no_values(database: Database) -> None:
    values = {"name": "Harbour East, gate code 4711", "remote": False, "timezone": "Asia/Shanghai"}
    with database.begin() as connection:
        connection.execute(sa.insert(site).values(**values))
    with pytest.raises(sa.exc.IntegrityError) as caught, database.begin() as connection:
        connection.execute(sa.insert(site).values(**values))
    assert "UNIQUE constraint failed" in str(caught.value)
    assert "4711" not in str(caught.value)


def test_postgresql_is_opened_without_values_in_errors() -> None:
    # Not connected to: what was asked for is all that there is to see.
    opened = open_database("postgresql://nobody@127.0.0.1:1/none")
    assert opened.engine.hide_parameters
    opened.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://root:hunter2@host/x"])
def test_other_databases_are_refused_without_their_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"allowed are sqlite:///PATH and postgresql://…") as caught:
        open_database(url)
    assert "hunter2" not in str(caught.value)


def test_the_newest_boot_is_that_of_the_box_on_the_machine_now(registry: Registry) -> None:
    with registry.database.begin() as connection:
        columns = "device_id, generation, boot, next_seq, received, gaps"
        for generation, boot in ((0, 900), (1, 3), (1, 12)):
            connection.execute(
                sa.text(f"INSERT INTO seen ({columns}) VALUES ('GX-1', :generation, :boot, 1, 1, '[]')"),  # noqa: S608
                {"generation": generation, "boot": boot},
            )
        assert connection.execute(sa.select(device.c.generation)).scalar() == 0
        assert [newest_boot(connection, "GX-1", generation) for generation in (0, 1, 2)] == [900, 12, 0]

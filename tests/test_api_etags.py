"""Lost updates: what two people change at the same time, the second one hears of (If-Match, 412)."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.shapes import rfc3339
from tests.api_world import DAY, HOUR, World, furnish, world

NOW = 1_795_000_000_000
API = "/api/v1"
HOURS = {"hours": [{"weekday": 0, "from_minute": 480, "until_minute": 960}]}
WINDOW = {"device_id": "gen-yard", "what": "maintenance", "ends_at": rfc3339(NOW + DAY)}
FROST = {"code": "frost", "title_en": "Frost", "title_zh": "霜冻"}


@pytest.fixture
def ops(tmp_path: Path) -> Iterator[httpx.Client]:
    with world(tmp_path, at=NOW) as company:
        furnish(company, readings=False)
        with company.client("ops") as client:
            yield client


def change(client: httpx.Client, address: str, body: object, tag: str) -> httpx.Response:
    return client.post(API + address, json=body, headers={"If-Match": tag})


@pytest.mark.parametrize(
    ("address", "first", "second"),
    [
        ("/people/1", ("/hours", HOURS), ("/hours", {"hours": []})),
        ("/people/1", ("/certificates", {"certificates": [{"profile": "water_pump"}]}), ("/hours", HOURS)),
        ("/people/1", ("/contacts", {"contacts": [{"channel": "email", "address": "t@example.com"}]}),
         ("/contacts", {"contacts": []})),
        ("/people/1", ("/home", {"timezone": "UTC"}), ("/certificates", {"certificates": []})),
        ("/people/1", ("/absences", {"from_at": rfc3339(NOW), "until_at": rfc3339(NOW + DAY)}), ("/disable", None)),
        ("/people/1", ("/hours", HOURS), ("/home", {"timezone": "UTC"})),
        ("/rentals/1", ("/end", {"at": rfc3339(NOW + DAY)}), ("/end", {"at": rfc3339(NOW + HOUR)})),
        ("/rentals/1", ("/end", {"at": rfc3339(NOW + DAY)}), ("/exchange", {"device_id": "gen-yard"})),
        ("/choices", ("/cause", FROST), ("/cause", FROST | {"title_en": "Ice"})),
        ("/choices", ("/cause", FROST), ("/cause/frost/retire", None)),
    ],
)  # fmt: skip
def test_what_was_decided_on_an_older_reading_is_refused(
    ops: httpx.Client, address: str, first: tuple[str, object], second: tuple[str, object]
) -> None:
    read = ops.get(API + address).headers["etag"]
    mine = change(ops, address + first[0], first[1], read)
    assert mine.is_success, mine.text
    now = ops.get(API + address)
    assert mine.headers["etag"] == now.headers["etag"] != read
    late = change(ops, address + second[0], second[1], read)
    assert (late.status_code, late.headers["etag"]) == (412, now.headers["etag"])
    assert ops.get(API + address).json() == now.json()
    again = change(ops, address + second[0], second[1], now.headers["etag"])
    assert again.is_success, again.text


def test_a_window_that_has_changed_is_not_cancelled_unread(ops: httpx.Client) -> None:
    declared = ops.post(f"{API}/maintenance-windows", json=WINDOW)
    address = f"/maintenance-windows/{declared.json()['id']}"
    assert ops.get(API + address).headers["etag"] == declared.headers["etag"]
    assert change(ops, f"{address}/cancel", None, '"another"').status_code == 412
    assert ops.get(API + address).json()["cancelled_at"] is None
    assert change(ops, f"{address}/cancel", None, declared.headers["etag"]).status_code == 200
    assert change(ops, f"{address}/end-now", None, declared.headers["etag"]).status_code == 412
    assert ops.get(f"{API}/maintenance-windows/99").status_code == 404


def test_the_lists_have_the_same_tag_whether_they_are_ours_yet_or_not(ops: httpx.Client) -> None:
    shipped = ops.get(f"{API}/choices").headers["etag"]
    (first, *_) = ops.get(f"{API}/choices").json()["cause"]
    given = {name: first[name] for name in ("code", "title_en", "title_zh")}
    assert change(ops, "/choices/cause", given, shipped).headers["etag"] == shipped


def test_a_rental_and_a_window_are_there_for_those_who_may_see_them(tmp_path: Path) -> None:
    with world(tmp_path, at=NOW) as company:
        furnish(company, readings=False)
        with company.client("customer") as customer, company.client("technician") as technician:
            assert customer.get(f"{API}/rentals/2").status_code == 403
            assert technician.get(f"{API}/rentals/2").json()["device_id"] == "gen-b"
            assert technician.get(f"{API}/rentals/99").status_code == 404


def test_a_machine_with_two_rentals_at_once_is_there_once(tmp_path: Path) -> None:
    """The record forbids it (migrations); should it stand there all the same, nothing fails or counts twice."""
    with world(tmp_path, at=NOW) as company:
        furnish(company, readings=False)
        before = health(company)
        company.hire("gen-a", 2, NOW - HOUR, NOW + HOUR)
        with company.client("ops") as client:
            assert client.get(f"{API}/devices/gen-a").json()["rental"]["customer_name"] == "Customer B"
            listed = [one["device_id"] for one in client.get(f"{API}/devices").json()["items"]]
        assert sorted(set(listed)) == sorted(listed)
        assert health(company) == before
        with company.client("customer") as a, company.client("customer b") as b:
            assert (a.get(f"{API}/devices/gen-a").status_code, b.get(f"{API}/devices/gen-a").status_code) == (404, 200)


def health(company: World) -> object:
    with company.client("ops") as client:
        return client.get(f"{API}/fleet/health").json()["devices"]

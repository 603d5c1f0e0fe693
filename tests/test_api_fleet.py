"""The fleet's ledger over HTTP: availability over any period as of any moment, and the intervals behind each figure."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from monitor.store import schema
from tests.api_world import DAY, HOUR, World, furnish, world

FIGURES = ("good_s", "bad_s", "unknown_s", "lower", "upper", "target", "met")


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("fleet"), at=1_795_000_000_000) as company:
        furnish(company, readings=False)
        yield company


def get(company: World, path: str, who: str = "ops", **query: object) -> Any:
    with company.client(who) as client:
        return client.get(f"/api/v1/{path}", params={name.strip("_"): value for name, value in query.items()})  # type: ignore[misc]


def rfc(at: int) -> str:
    return datetime.fromtimestamp(at / 1000).astimezone().isoformat()


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@pytest.mark.parametrize("of", ["fleet", "on_hire"])
@pytest.mark.parametrize("by", ["profile", "site", "customer"])
def test_E1_each_figure_is_what_the_listed_intervals_add_up_to(company: World, of: str, by: str) -> None:  # noqa: N802
    start_at, end_at = company.began - 9 * DAY, company.began - HOUR
    answer = get(company, "fleet/availability", of=of, by=by, from_=rfc(start_at), to=rfc(end_at)).json()
    spent: dict[Any, dict[str, float]] = {}
    machines = [row["device_id"] for row in get(company, "devices").json()["items"]]
    for device_id in machines:
        listed = get(company, f"devices/{device_id}/intervals", from_=rfc(start_at), to=rfc(end_at)).json()["items"]
        for one in listed:
            if of == "on_hire" and one["rental_id"] is None:
                continue
            key = one[by if by == "profile" else f"{by}_id"]
            until = end_at if one["to_at"] is None else min(end_at, ms(one["to_at"]))
            times = spent.setdefault(key, {"good": 0.0, "bad": 0.0, "unknown": 0.0})
            times[one["condition"]] += (until - max(start_at, ms(one["from_at"]))) / 1000
    assert {row["key"]: {c: row[f"{c}_s"] for c in ("good", "bad", "unknown")} for row in answer["groups"]} == spent
    whole = {c: sum(times[c] for times in spent.values()) for c in ("good", "bad", "unknown")}
    assert {c: answer["total"][f"{c}_s"] for c in whole} == whole
    assert answer["total"]["lower"] == pytest.approx(whole["good"] / sum(whole.values()))
    lowest = [row["lower"] for row in answer["groups"]]
    assert lowest == sorted(lowest)


def test_a_figure_is_what_was_known_then(company: World) -> None:
    company.keep_books()
    known_at, asked = company.began, {"to": rfc(company.began), "by": "profile"}
    before = get(company, "fleet/availability", **asked).json()
    company.at = company.began + HOUR
    with company.database.begin() as connection:
        connection.execute(sa.insert(schema.fault).values(
            device_id="gen-yard", kind="limit", subject="oil_pressure_bar", severity="urgent", confidence=1.0,
            occurred_at=company.began - 2 * HOUR, opened_at=company.began - 2 * HOUR, evidence={},
        ))  # fmt: skip
    after = get(company, "fleet/availability", **asked).json()
    then = get(company, "fleet/availability", as_of=rfc(known_at), **asked).json()
    assert after["total"]["bad_s"] - before["total"]["bad_s"] in (0, 7200)
    assert (then["total"], then["groups"]) == (before["total"], before["groups"])
    company.at = company.began


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ({"by": "colour"}, "by"),
        ({"of": "yard"}, "of"),
        ({"from_": "2026-11-24T00:00:00Z", "to": "2026-11-01T00:00:00Z"}, "from"),
        ({"as_of": "yesterday"}, "as_of"),
    ],
)
def test_what_cannot_be_asked_is_said(company: World, query: dict[str, str], wrong: str) -> None:
    answer = get(company, "fleet/availability", **query)
    assert (answer.status_code, wrong in answer.text) == (422, True)


def test_a_customer_is_not_shown_the_company(company: World) -> None:
    assert get(company, "fleet/availability", "customer").status_code == 403
    assert get(company, "devices/gen-a/intervals", "customer").status_code == 403
    assert get(company, "devices/nothing/intervals").status_code == 404


def test_E1_a_month_that_spends_more_than_its_budget_says_so(company: World) -> None:  # noqa: N802
    budget = get(company, "fleet/health").json()["budget"]
    assert set(budget) == {"on_hire", "fleet"}
    fleet = budget["fleet"]
    # One of five machines was never heard: twice what a month can lose.
    assert fleet["burn_rate"] == pytest.approx(2.0, abs=0.1)
    assert (fleet["misses"], fleet["target"]) == (True, 0.9)
    assert budget["on_hire"]["misses"] is False


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[World]:
    """A company without a machine."""
    with world(tmp_path, at=1_795_000_000_000) as company:
        company.tokens["ops"] = company.token("ops", "desk")  # type: ignore[arg-type]
        yield company


def test_what_came_after_as_of_was_not_known_and_counts_in_nothing(bare: World) -> None:
    """A fault that ended since still ran then; time after that moment had not been."""
    bare.machine("gen-asked")
    fault = bare.insert(
        schema.fault, device_id="gen-asked", kind="limit", subject="oil_pressure_bar", severity="urgent",
        confidence=1.0, occurred_at=bare.began - HOUR, opened_at=bare.began - HOUR, evidence={},
    )  # fmt: skip
    bare.keep_books()
    known_at = bare.began
    bare.at = bare.began + 3 * HOUR
    with bare.database.begin() as connection:
        ended = sa.update(schema.fault).where(schema.fault.c.id == fault).values(cleared_at=known_at - HOUR // 2)
        connection.execute(ended)
    asked = {"from_": rfc(known_at - HOUR // 4), "to": rfc(known_at + 2 * HOUR), "as_of": rfc(known_at)}
    (then,) = get(bare, "devices/gen-asked/intervals", **asked).json()["items"]
    assert (then["condition"], then["to_at"], then["end_recorded_at"]) == ("bad", None, None)
    (since,) = get(bare, "devices/gen-asked/intervals", **asked | {"as_of": rfc(bare.at)}).json()["items"]
    assert (since["condition"], ms(since["from_at"])) == ("good", known_at - HOUR // 2)
    total = get(bare, "fleet/availability", **asked).json()
    assert ms(total["to"]) == known_at
    assert sum(total["total"][name] for name in ("good_s", "bad_s", "unknown_s")) == 900
    bare.at = bare.began
    assert get(bare, "fleet/availability", from_=rfc(known_at), as_of=rfc(known_at)).status_code == 422


def test_intervals_come_in_pages_and_none_is_left_out(bare: World) -> None:
    bare.machine("gen-paged")
    for n in range(7):
        at = bare.began - (20 - n) * HOUR
        bare.insert(
            schema.fault, device_id="gen-paged", kind="limit", subject="oil_pressure_bar", severity="urgent",
            confidence=1.0, occurred_at=at, opened_at=at, cleared_at=at + HOUR // 2, evidence={},
        )  # fmt: skip
    whole = get(bare, "devices/gen-paged/intervals", limit=500).json()
    assert (len(whole["items"]), whole["next"]) == (15, None)
    listed: list[object] = []
    cursor: dict[str, str] = {}
    for _ in range(4):
        page = get(bare, "devices/gen-paged/intervals", limit=4, **cursor).json()
        listed += page["items"]
        cursor = {"cursor": page["next"]}
    assert (listed, page["next"]) == (whole["items"], None)
    assert get(bare, "devices/gen-paged/intervals", cursor="abc").status_code == 422


def test_no_machines_have_no_figure(bare: World) -> None:
    answer = get(bare, "fleet/availability", by="site").json()
    assert (answer["total"]["lower"], answer["total"]["met"], answer["groups"]) == (None, None, [])

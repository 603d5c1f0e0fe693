"""The monthly report: a golden quarter against slow and obvious arithmetic, the same again from the same moment, and
what people get of it."""

import csv
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pypdf
import pytest
import sqlalchemy as sa

from api.reports import COLUMNS, Spark, negotiated
from monitor.desk.tickets import Incomplete, NotPossible, Outcome, Verb
from monitor.engine import reporting
from monitor.fleet.report import (
    CODES,
    SPECS,
    Breach,
    Facts,
    Point,
    Report,
    Row,
    Tally,
    as_json,
    from_json,
    months,
    report,
)
from monitor.store import report as store
from monitor.store import schema
from monitor.store.access import Role
from monitor.store.hire import Hire
from monitor.store.people import Certified, People
from monitor.store.sheets import Intake, Register
from tests.api_world import World, furnish, world
from tests.e2e.postgres import postgresql
from tests.office import T0, Office, profiles
from tests.quarter import DAY, ENDS, HOUR, MINUTE, MORNING, Quarter

EVER = 1 << 60
QUARTER_MS = 92 * DAY
SHANGHAI = "Asia/Shanghai"
MIDNIGHTS = [ENDS - days * DAY for days in (92, 61, 31, 0)]
"""Of 1 October, 1 November, 1 December and New Year, in Shanghai."""
NAMES = ["2025-10", "2025-11", "2025-12"]


# --- the slow and obvious way ----------------------------------------------------------------------------------------


class Oracle:
    """Reckons the figures from the raw rows, moment by moment, with nothing of the product's."""

    def __init__(self, company: Quarter, as_of: int) -> None:
        self.as_of = as_of

        def every(table: sa.Table) -> list[dict[str, Any]]:
            with company.database.connect() as connection:
                return [dict(row._mapping) for row in connection.execute(sa.select(table))]

        self.device, self.fault, self.rental = map(every, (schema.device, schema.fault, schema.rental))
        self.ticket, self.step, self.pause = map(every, (schema.ticket, schema.step, schema.pause))
        self.commitment, self.audit, self.inspection = map(every, (schema.commitment, schema.audit, schema.inspection))
        self.hand_over, self.work_order, self.spot_check_draw = map(
            every, (schema.hand_over, schema.work_order, schema.spot_check_draw)
        )
        self.satisfaction = every(schema.satisfaction)

    def was(self, at: int | None) -> int:
        """A moment that was known of; what had not come was ahead for ever."""
        return EVER if at is None or at > self.as_of else at

    def tallies(self, code: str) -> list[tuple[int, int]]:
        """(cases, kept) of October, November and December."""
        spans = list(pairwise(MIDNIGHTS))
        if code.startswith("E1"):
            return [self.time(a, b, hired=code == "E1.on_hire") for a, b in spans]
        found = {"R": self.clocks, "E2": self.gate, "E3": self.gate, "E5": self.files, "E4": self.served,
                 "E6.spot_checks": self.drawn, "E6.damage": self.damage, "P1": self.jobs,
                 "P2": self.answers}  # fmt: skip
        return [found.get(code, self.clocks)(code, a, b) for a, b in spans]

    # availability

    def machine(self, device: dict[str, Any]) -> Iterator[tuple[int, int, str, bool, int | None]]:
        """(from, to, condition, hired, fault) of every stretch of a machine's time in which nothing changes."""
        mine = [one for one in self.fault if one["device_id"] == device["device_id"] and one["opened_at"] <= self.as_of
                and not self.was_nothing(one["ticket_id"])]  # fmt: skip
        bad = [(min(one["occurred_at"], one["opened_at"]), self.was(one["cleared_at"]), one) for one in mine
               if one["severity"] in ("emergency", "urgent")]  # fmt: skip
        silent = [(min(one["occurred_at"], one["opened_at"]), self.was(one["cleared_at"])) for one in mine
                  if one["kind"] == "silent"]  # fmt: skip
        hires = [(one["starts_at"], self.was(one["ends_at"])) for one in self.rental
                 if one["device_id"] == device["device_id"] and one["starts_at"] <= self.as_of]  # fmt: skip
        begins, ends = device["added_at"], min(self.was(device["retired_at"]), self.as_of)
        edges = {begins, ends, *MIDNIGHTS}
        for span in [*bad, *silent, *hires]:
            edges |= {span[0], span[1]}
        cuts = sorted(edge for edge in edges if begins <= edge <= ends)
        for a, b in pairwise(cuts):
            wrong = [one for since, until, one in bad if since <= a < until]
            # The gravest, and of those the oldest.
            wrong.sort(key=lambda one: (one["severity"] != "emergency", min(one["occurred_at"], one["opened_at"]),
                                        one["id"]))  # fmt: skip
            still = any(since <= a < until for since, until in silent)
            condition = "bad" if wrong else "unknown" if still else "good"
            yield a, b, condition, any(s <= a < u for s, u in hires), wrong[0]["id"] if wrong else None

    def was_nothing(self, ticket_id: int | None) -> bool:
        """Its ticket had been ended by then as a false alarm. (Nobody here says that it was a duplicate.)"""
        said = [one["event"] for one in self.step if one["ticket_id"] == ticket_id and one["recorded_at"] <= self.as_of
                and one["event"] in ("cancel", "close", "reopen")]  # fmt: skip
        judged = next((one["outcome"] for one in self.ticket if one["id"] == ticket_id), None)
        return bool(said) and said[-1] != "reopen" and judged == "nuisance"

    def time(self, start: int, end: int, *, hired: bool) -> tuple[int, int]:
        total = good = 0
        for device in self.device:
            for a, b, condition, on_hire, _ in self.machine(device):
                if start <= a < end and (on_hire or not hired):
                    total += b - a
                    good += b - a if condition == "good" else 0
        return total, good

    def damage(self, _: str, start: int, end: int) -> tuple[int, int]:
        first: dict[int, int] = {}
        for device in self.device:
            for a, _b, _condition, _on_hire, fault in self.machine(device):
                if fault is not None:
                    first.setdefault(fault, a)
        number = sum(start <= at < end for at in first.values())
        return number, number

    def answers(self, _: str, start: int, end: int) -> tuple[int, int]:
        standing: dict[tuple[int, int], int] = {}
        for one in self.satisfaction:
            if self.was_nothing(one["ticket_id"]):
                continue
            if start <= one["asked_at"] < end and one["answered_at"] is not None and one["answered_at"] <= self.as_of:
                # Later rows took the place of earlier ones.
                standing[one["ticket_id"], one["customer_id"]] = one["score"]
        return len(standing), sum(standing.values())

    # clocks

    def clocks(self, code: str, start: int, end: int) -> tuple[int, int]:
        row, kind = {
            "R7": ("R7", "dispatch"), "R8.diagnosis": ("R8", "remote_diagnosis"), "R8.visit": ("R8", "dispatch"),
            "R9": ("R9", "repair_start"),
        }[code]  # fmt: skip
        said = [
            self.verdict(one) for one in self.commitment
            if (one["standard_id"], one["kind"]) == (row, kind) and start <= one["started_at"] < end
        ]  # fmt: skip
        return sum(one in ("kept", "missed") for one in said), said.count("kept")

    def steps(self, ticket_id: int, turn: int) -> list[dict[str, Any]]:
        recorded = {one["id"]: one["recorded_at"] for one in self.step}
        return [
            one for one in self.step
            if one["ticket_id"] == ticket_id and one["turn"] == turn and one["recorded_at"] <= self.as_of
            and one["event"] != "correct" and recorded.get(one["corrected_by"], EVER) > self.as_of
        ]  # fmt: skip

    def verdict(self, clock: dict[str, Any]) -> str:
        steps = self.steps(clock["ticket_id"], clock["turn"])
        there = ("accepted", "on_the_way", "on_site", "repairing")
        met = ended = None
        for one in steps:
            stops = {
                "dispatch": one["to_status"] in there and one["from_status"] not in there and one["event"] != "resume",
                "remote_diagnosis": one["event"] == "diagnose" or (one["event"] == "verify" and one["note"]),
                "repair_start": (one["to_status"] == "repairing" and one["from_status"] != "repairing"
                                 and one["event"] != "resume")
                or (one["event"] == "resolve" and one["from_status"] in there),
            }[clock["kind"]]  # fmt: skip
            over = one["to_status"] in ("closed", "cancelled") or (
                one["event"] == "resolve" and one["from_status"] not in there
            )
            ended = (ended or one["happened_at"]) if over else None
            if stops and met is None:
                met = max(one["happened_at"], clock["started_at"])
            if clock["kind"] == "dispatch" and one["event"] == "decline" and one["from_status"] in there[:2]:
                met = None
        due, waits = clock["started_at"] + round(clock["length_s"] * 1000), False
        for pause in sorted((one for one in self.pause if one["ticket_id"] == clock["ticket_id"]
                             and one["recorded_at"] <= self.as_of and one["stops_clocks"]),
                            key=lambda one: one["from_at"]):  # fmt: skip
            left = [one for one in self.step if one["ticket_id"] == clock["ticket_id"]
                    and one["from_status"] == "waiting" and one["recorded_at"] <= self.as_of
                    and one["happened_at"] == pause["to_at"]]  # fmt: skip
            if pause["from_at"] < due:
                waits = waits or not left
                due += pause["to_at"] - pause["from_at"] if left else 0
        if met is not None:
            return "kept" if met <= due else "missed"
        if ended is not None and (ended < due or waits):
            return "void"
        return "open" if waits or due > self.as_of else "missed"

    # hand-overs, files, service, spot checks, certificates

    def on_file(self, inspection: dict[str, Any]) -> bool:
        return inspection["recorded_at"] <= self.as_of and self.was(inspection["voided_at"]) == EVER

    def papers(self, rental: dict[str, Any]) -> tuple[int, bool, bool, bool, bool]:
        """When it went out; whether through the gate, inspected, on file, and inspected when it came back."""
        went = [one for one in self.hand_over if one["rental_id"] == rental["id"] and one["at"] <= self.as_of]
        out_at = went[0]["at"] if went else rental["starts_at"]
        used = [one for one in self.inspection if went and one["id"] == went[0]["inspection_id"] and self.on_file(one)]
        own = [one for one in self.inspection if one["rental_id"] == rental["id"] and self.on_file(one)]
        out = [one for one in own if one["kind"] == "hand_over"]
        gate = any(one["passed"] for one in used)
        inspected = gate or any(one["passed"] and one["at"] <= out_at for one in out)
        filed = bool(used or out or rental["taken_over"])
        return out_at, gate, inspected, filed, any(one["kind"] == "return" for one in own)

    def gate(self, code: str, start: int, end: int) -> tuple[int, int]:
        found = [self.papers(one) for one in self.rental if not one["taken_over"]]
        told = [one for one in found if start <= one[0] < end]
        return len(told), sum(one[2] if code == "E2" else one[1] for one in told)

    def files(self, _: str, start: int, end: int) -> tuple[int, int]:
        told = [self.papers(one) for one in self.rental if start <= self.was(one["ends_at"]) < end]
        return len(told), sum(one[3] and one[4] for one in told)

    def served(self, _: str, _start: int, end: int) -> tuple[int, int]:
        cases = kept = 0
        for device in self.device:
            if device["added_at"] > end - QUARTER_MS or (
                device["retired_at"] is not None and device["retired_at"] <= end
            ):
                continue
            done = [one["done_at"] for one in self.work_order if one["device_id"] == device["device_id"]
                    and one["kind"] == "maintenance" and one["status"] == "done" and one["done_at"] <= end
                    and one["recorded_at"] <= self.as_of]  # fmt: skip
            cases += 1
            kept += max([device["added_at"], *done]) >= end - QUARTER_MS
        return cases, kept

    def drawn(self, _: str, start: int, end: int) -> tuple[int, int]:
        draws = sorted(one["at"] for one in self.spot_check_draw)
        row = next(one for one in self.spot_check_draw if start <= one["at"] < end)
        until = next((at for at in draws if at > row["at"]), self.as_of + 1)
        done = {one["device_id"] for one in self.inspection
                if one["kind"] == "spot_check" and row["at"] <= one["at"] < until and self.on_file(one)}  # fmt: skip
        return len(row["machines"]), len(done & set(row["machines"]))

    def jobs(self, _: str, start: int, end: int) -> tuple[int, int]:
        lists = [one["after"]["now"] for one in self.audit if one["what"] == "certified" and one["at"] <= self.as_of]
        cases = kept = 0
        for ticket in self.ticket:
            for turn in range(ticket["turn"] + 1):
                for one in self.steps(ticket["id"], turn):
                    if one["event"] in ("accept", "dispatch") and start <= one["happened_at"] < end:
                        cases += 1
                        kept += any(c["since_at"] <= one["happened_at"] < (c["until_at"] or EVER) for c in lists[-1])
        return cases, kept


# --- the golden quarter ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quarter() -> Iterator[Quarter]:
    company = Quarter()
    company.desk.reporting.tick(T0)
    company.happen()
    yield company
    company.close()


def built(company: Quarter, month: str, as_of: int) -> Report:
    with company.database.connect() as connection:
        return reporting.build(connection, month, as_of, company.desk)


def rows(told: Report) -> dict[str, Row]:
    return {row.code: row for row in told.rows}


def agree(company: Quarter, as_of: int) -> None:
    """Every figure of the quarter, in each month's own report and in the trend of the last one, is the oracle's."""
    oracle = Oracle(company, as_of)
    last = rows(built(company, NAMES[-1], as_of))
    for place, name in enumerate(NAMES):
        told = rows(built(company, name, as_of))
        for code in CODES:
            n, kept = oracle.tallies(code)[place]
            shown = (n // DAY, kept // DAY) if code.startswith("E1") else (n, kept)
            figure = (float(n) if code == "E6.damage" else kept / n) if n else None
            assert (told[code].n, told[code].kept, told[code].figure) == (*shown, figure), (name, code)
            assert last[code].trend[place - 3] == Point(name, figure, shown[0]), (name, code)


def test_a_quarter_of_200_machines(quarter: Quarter) -> None:
    agree(quarter, MORNING)
    begun = rows(built(quarter, "2025-10", MORNING))
    assert [begun[code].taken_over for code in ("E2", "E3", "E5")] == [200, 200, 0], "all were on hire on the first day"
    told = built(quarter, "2025-12", MORNING)
    assert [row.code for row in told.rows] == [spec.code for spec in SPECS]
    assert {row.code for row in told.rows if row.n >= 10} >= {
        "R7",
        "R9",
        "E1.fleet",
        "E2",
        "E4",
        "E5",
        "E6.damage",
        "P1",
        "P2",
    }
    for row in told.rows:
        if row.n_of == "machine_days":
            assert row.figure is not None
            assert row.upper is not None
            assert row.figure < row.upper < 1
        elif row.measure == "share":
            assert len(row.breaches) + row.breaches_left_out == row.n - row.kept


def test_breaches_say_which_and_why(quarter: Quarter) -> None:
    oracle, told = Oracle(quarter, MORNING), rows(built(quarter, "2025-12", MORNING))
    missed = {one["ticket_id"] for one in oracle.commitment if one["standard_id"] == "R7"
              and MIDNIGHTS[2] <= one["started_at"] < ENDS and oracle.verdict(one) == "missed"}  # fmt: skip
    assert {one.ticket_id for one in told["R7"].breaches} == missed
    assert missed
    every = [why.what for row in told.values() for one in row.breaches for why in one.why]
    assert {"verify", "wait"} <= set(every) or {"decline", "wait"} <= set(every)
    assert {"no_inspection", "not_through_gate"} & set(every)
    worst = told["E1.fleet"].breaches
    assert [one.ms for one in worst] == sorted((one.ms for one in worst), reverse=True)  # type: ignore[type-var]
    assert all(one.why[0].what.startswith("fault:") for one in worst)


def test_cases_behind_a_figure(quarter: Quarter) -> None:
    told = rows(built(quarter, "2025-12", MORNING))
    asked = reporting.asked_of("2025-12", MORNING, SHANGHAI)
    for code in CODES:
        if code.startswith("E1"):
            continue
        found: list[store.Case] = []
        with quarter.database.connect() as connection:
            while True:
                after = found[-1].key if found else None
                page = store.cases(connection, asked, code, quarter.desk.calendar, after=after, limit=7)
                if not page:
                    break
                found += page
        said = [case.verdict for case in found]
        assert (said.count("kept") + said.count("missed"), said.count("kept"), said.count("open")) == (
            told[code].n, told[code].kept, told[code].open), code  # fmt: skip
        assert len({case.key for case in found}) == len(found)


def test_the_same_as_of_is_the_same_report_whatever_comes_after(quarter: Quarter) -> None:
    desk, before = quarter.desk, {name: as_json(built(quarter, name, MORNING)) for name in NAMES}
    desk.reporting.tick(MORNING + MINUTE - 1)
    assert quarter.rows(schema.monthly_report) == []
    desk.reporting.tick(MORNING + MINUTE)
    for later in (MORNING + MINUTE + 1, MORNING + DAY):
        desk.reporting.tick(later)
    (row,) = quarter.rows(schema.monthly_report)
    assert (row.month, row.as_of, row.built_at) == ("2025-12", MORNING, MORNING + MINUTE)
    assert row.body.encode() == before["2025-12"]
    assert [one.recipient for one in quarter.rows(schema.notice, kind="monthly_report")] == ["mei@example.com"]

    afterwards(quarter)

    assert {name: as_json(built(quarter, name, MORNING)) for name in NAMES} == before
    now = quarter.now + 1
    was, told = rows(from_json(before["2025-12"])), rows(built(quarter, "2025-12", now))
    changed = {code for code in CODES if was[code].trend != told[code].trend}
    assert changed >= {"R7", "E1.fleet", "E1.on_hire", "E2", "E4", "E5", "E6.spot_checks", "E6.damage", "P1",
                       "P2"}  # fmt: skip
    agree(quarter, now)


def afterwards(company: Quarter) -> None:
    """What comes to be known when the report is out: a late fault, steps taken back and taken late, papers."""
    company.now = MORNING + 3 * DAY
    lately = [one for one in company.rows(schema.ticket) if MIDNIGHTS[2] <= one.opened_at < ENDS]
    arranged = [one for one in lately if one.status in ("accepted", "on_the_way", "on_site", "resolved")]
    for ticket in arranged:
        # Some cannot be taken back any more.
        with suppress(NotPossible, Incomplete):
            company.desk.act(ticket.id, Verb.CORRECT, "test", company.now)
    kept = next(one for one in company.rows(schema.commitment, standard_id="R7") if one.met_at is not None
                and one.met_at <= one.due_at and MIDNIGHTS[2] <= one.started_at < ENDS)  # fmt: skip
    in_time = next(one for one in company.rows(schema.step, ticket_id=kept.ticket_id) if one.event == "accept")
    wrong = company.put(
        schema.step, ticket_id=in_time.ticket_id, event="correct", from_status="accepted", to_status="verified",
        actor="test", turn=in_time.turn, happened_at=company.now, recorded_at=company.now,
    )  # fmt: skip
    company.change(schema.step, in_time.id, corrected_by=wrong)
    for device in [one for one in company.machines if one not in company.gone][:2]:
        company.put(schema.fault, device_id=device, kind="limit", subject="late", severity="emergency", evidence={},
                    occurred_at=ENDS - 20 * DAY, opened_at=company.now, cleared_at=company.now)  # fmt: skip
    spot = [one for one in company.rows(schema.inspection, kind="spot_check") if one.at >= MIDNIGHTS[2]]
    used = [one for one in company.rows(schema.hand_over) if one.at >= MIDNIGHTS[2]]
    for inspection_id in [*(one.id for one in spot), used[0].inspection_id]:
        company.change(schema.inspection, inspection_id, voided_at=company.now, voided_by="t", void_reason="wrong")
    for one in company.machines[:100]:
        company.put(
            schema.work_order, kind="maintenance", device_id=one, plan="service", title_en="S", title_zh="S",
            reason="calendar", due_at=ENDS, opened_at=ENDS - 9 * DAY, opened_by="t", status="done", checklist=[],
            done_at=ENDS - 9 * DAY, done_by="t", recorded_at=company.now,
        )  # fmt: skip
    over = [one for one in company.rows(schema.rental)
            if one.ends_at is not None and one.ends_at >= MIDNIGHTS[2] and one.starts_at < MIDNIGHTS[1]]  # fmt: skip
    company.change(schema.rental, over[0].id, ends_at=MIDNIGHTS[2] - DAY)
    resolved = [one for one in company.rows(schema.ticket, status="resolved") if one.opened_at >= MIDNIGHTS[2]]
    company.desk.act(resolved[0].id, Verb.CLOSE, "test", company.now, outcome=Outcome.NUISANCE)
    People(company.database, "test").certify(1, [Certified("diesel_generator", ENDS - 15 * DAY, None)], company.now)
    for asked in company.rows(schema.satisfaction, score=None)[-5:]:
        company._answers(asked.ticket_id, satisfied=False)
    with company.database.begin() as connection:
        company.desk.reckon_clocks(connection, in_time.ticket_id, "test", company.now)
    company.desk.books.keep(company.now)


def test_what_was_taken_over_is_no_breach_of_the_gate_and_is_named() -> None:
    """Of two imported rentals that began before their machines were ours, one was over by then."""
    office = Office((("", 2),), on_hire=False)
    try:
        hire, now = Hire(office.database, "test"), T0 + 14 * DAY
        hire.add_customer("Metro JV", "site@metro.example", "en", now)
        lines = (
            b"device_id,customer,starts_at,ends_at\nGX-1,Metro JV,2025-09-01,2025-10-20\nGX-2,Metro JV,2025-09-01,\n"
        )
        taken = Intake(office.database, ZoneInfo(SHANGHAI), profiles()).take(Register.RENTALS, lines, now)
        assert taken.wrong == []
        over, running = office.rows(schema.rental)
        assert (over.handed_over_at, running.handed_over_at) == (None, running.starts_at)
        office.desk.books.keep(now)
        hire.end_rental(running.id, None, now + DAY)
        office.desk.books.keep(now + DAY)
        with office.database.connect() as connection:
            began, ended = (rows(reporting.build(connection, month, now + 30 * DAY, office.desk))
                            for month in ("2025-09", "2025-10"))  # fmt: skip
            asked = reporting.asked_of("2025-09", now + 30 * DAY, SHANGHAI)
            listed = store.cases(connection, asked, "E2", office.desk.calendar, after=None, limit=9)
    finally:
        office.close()
    assert [(began[code].n, began[code].taken_over, began[code].met) for code in ("E2", "E3")] == [(0, 2, None)] * 2
    assert listed == []
    # Nobody was asked for a hand-over inspection; to be looked at when it came back was ours to do.
    assert (ended["E5"].n, ended["E5"].kept, ended["E5"].taken_over) == (1, 0, 1)
    assert [why.what for one in ended["E5"].breaches for why in one.why] == ["lacks:return"]
    # On hire it counts from when its machine was in the fleet.
    first = (datetime(2025, 10, 20, tzinfo=ZoneInfo(SHANGHAI)).timestamp() * 1000 - T0) / DAY
    assert (began["E1.on_hire"].n, ended["E1.on_hire"].n) == (0, int(first + 15))


def test_on_postgresql_it_is_the_same() -> None:
    with postgresql() as url:
        company = Quarter(machines=8, busy=0.08, url=url)
        try:
            company.happen()
            agree(company, MORNING)
            told = rows(built(company, NAMES[-1], MORNING))
            assert {"R7", "R9", "E1.fleet"} <= {code for code, one in told.items() if one.n}, "it was about something"
        finally:
            company.close()


# --- the pure part ---------------------------------------------------------------------------------------------------

OVER = months("2025-12", MORNING, SHANGHAI)


def of(code: str, *tallies: Tally, breaches: tuple[Breach, ...] = ()) -> Row:
    """The row of a report whose last months these are."""
    before = [Tally()] * (13 - len(tallies))
    facts = Facts({code: [*before, *tallies]}, {code: breaches})
    return rows(report(OVER, MORNING, SHANGHAI, facts))[code]


@pytest.mark.parametrize(
    ("code", "tallies", "figure", "met", "change"),
    [
        ("R7", [Tally()], None, None, None),
        ("R7", [Tally(2, 2)], 1.0, True, None),
        ("R7", [Tally(4, 4), Tally(4, 3, 2)], 0.75, False, -0.25),
        ("R7", [Tally(4, 3), Tally()], None, None, None),
        ("E1.fleet", [Tally(10 * DAY, 9 * DAY, may=9 * DAY)], 0.9, True, None),
        ("E1.fleet", [Tally(10 * DAY, 9 * DAY - 1, may=10 * DAY)], 0.9 - 1 / (10 * DAY), False, None),
        ("E6.damage", [Tally(3, 3), Tally(5, 5)], 5.0, None, 2.0),
        ("K1", [], None, None, None),
    ],
)
def test_figures(
    code: str, tallies: list[Tally], figure: float | None, met: bool | None, change: float | None
) -> None:  # fmt: skip
    row = of(code, *tallies)
    assert row.figure == pytest.approx(figure)
    assert row.change == pytest.approx(change)
    assert row.met is met
    assert len(row.trend) == (13 if code != "K1" else 0)


def test_what_changed() -> None:
    facts = Facts({"R7": [Tally(2, 2)] * 12 + [Tally(2, 1)], "R9": [Tally(2, 1)] * 12 + [Tally(2, 2)],
                   "E2": [Tally(2, 1)] * 13})  # fmt: skip
    told = report(OVER, MORNING, SHANGHAI, facts)
    assert (told.newly_missed, told.newly_met) == (("R7",), ("R9",))


def test_months_of_a_report() -> None:
    assert (OVER.names[0], OVER.names[-1], len(OVER.names)) == ("2024-12", "2025-12", 13)
    assert (OVER.from_at, OVER.to_at) == (MIDNIGHTS[2], ENDS)
    running = months("2026-01", MORNING, SHANGHAI)
    assert (running.from_at, running.to_at) == (ENDS, MORNING)
    with pytest.raises(ValueError, match="has not begun"):
        months("2026-02", MORNING, SHANGHAI)


def test_a_trend_is_drawn_within_its_frame() -> None:
    points = tuple(Point(str(n), figure, 1) for n, figure in enumerate([None, 0.5, 0.9, None, 1.0, 0.2]))
    spark = Spark.of(points, 0.9)
    assert len(spark.lines) == 2
    places = [tuple(map(float, pair.split(","))) for line in spark.lines for pair in line.split()]
    assert all(0 <= x <= Spark.WIDTH and 0 <= y <= Spark.HEIGHT for x, y in places)
    assert spark.last == (117.0, 27.0)
    assert Spark.of((), None) == Spark((), None, None, 0.0, 1.0)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "json"), ("*/*", "json"), ("text/html,application/xhtml+xml,*/*;q=0.8", "html"), ("text/csv", "csv"),
        ("application/pdf, application/json;q=0.5", "pdf"), ("image/png", None), ("text/csv;q=0", None),
        ("text/csv;q=x, application/json;q=0.1", "json"),
    ],
)  # fmt: skip
def test_what_is_wanted(accept: str, kind: str | None) -> None:
    assert negotiated(accept) == kind


# --- what people get -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Its clock stands on 23 November 2025; the faults are of that day."""
    with world(tmp_path_factory.mktemp("report"), at=1_763_877_900_000) as found:
        furnish(found)
        found.keep_books()
        found.at = found.now() + 6 * HOUR
        yield found


@pytest.fixture
def manager(company: World) -> Iterator[httpx.Client]:
    with company.client(Role.MANAGER) as client:
        yield client


def test_as_json(company: World, manager: httpx.Client) -> None:
    found = manager.get(f"/api/v1/reports/2025-11?as_of={company.now()}")
    again = manager.get(f"/api/v1/reports/2025-11?as_of={company.now()}")
    assert found.content == again.content
    told = {row["code"]: row for row in found.json()["rows"]}
    assert found.json()["to_at"] == found.json()["as_of"], "the month is not over"
    assert set(told) == {spec.code for spec in SPECS}
    assert {code for code, row in told.items() if row["measure"] == "none"} == set(told) - set(CODES)
    assert (told["R7"]["n"], told["R7"]["kept"], told["R7"]["met"]) == (1, 0, False)
    for row in told.values():
        if row["link"]:
            assert manager.get(row["link"]).status_code == 200, row["link"]
    (case,) = manager.get(told["R7"]["link"]).json()["items"]
    assert (case["verdict"], case["ticket_id"]) == ("missed", told["R7"]["breaches"][0]["ticket_id"])


def test_availability_is_that_of_its_link(company: World, manager: httpx.Client) -> None:
    told = {row["code"]: row for row in manager.get(f"/api/v1/reports/2025-11?as_of={company.now()}").json()["rows"]}
    for code in ("E1.fleet", "E1.on_hire"):
        total = manager.get(told[code]["link"]).json()["total"]
        assert (told[code]["figure"], told[code]["upper"]) == (total["lower"], total["upper"])


def test_as_csv(company: World, manager: httpx.Client) -> None:
    address = f"/api/v1/reports/2025-11.csv?as_of={company.now()}"
    text = manager.get(address).content.decode("utf-8-sig")
    lines = list(csv.DictReader(io.StringIO(text)))
    told = manager.get(f"/api/v1/reports/2025-11?as_of={company.now()}").json()["rows"]
    assert set(lines[0]) == set(COLUMNS)
    for row in told:
        (line,) = [one for one in lines if one["row"] == row["code"] and one["line"] == "row"]
        if row["measure"] == "none":
            assert line["figure"] == "no data"
            continue
        assert (line["figure"], line["n"]) == ("" if row["figure"] is None else repr(row["figure"]), str(row["n"]))
        assert [one["month"] for one in lines if one["row"] == row["code"] and one["line"] == "trend"] == [
            one["month"] for one in row["trend"]
        ]
        assert sum(one["row"] == row["code"] and one["line"] == "breach" for one in lines) == len(row["breaches"])


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ["Monthly report 2025-11", "Technician arranged within 1 h", "target missed", "No data", "K13"]),
        ("zh", ["月报 2025-11", "1 小时内安排维修人员", "未达标", "无数据", "K13"]),
    ],
)
def test_as_page_and_paper(company: World, manager: httpx.Client, lang: str, words: list[str]) -> None:
    query = f"as_of={company.now()}&lang={lang}"
    page = manager.get(f"/reports/2025-11?{query}")
    assert page.status_code == 200
    assert [word for word in words if word not in page.text] == []
    assert "<svg" in page.text
    assert "style=" not in page.text.split("<main", 1)[1]
    paper = manager.get(f"/api/v1/reports/2025-11.pdf?{query}")
    text = "".join(one.extract_text() for one in pypdf.PdfReader(io.BytesIO(paper.content)).pages)
    packed = "".join(text.split())
    assert [word for word in words if "".join(word.split()) not in packed] == []
    assert paper.content == manager.get(f"/api/v1/reports/2025-11.pdf?{query}").content


def test_as_the_header_wants_it(company: World, manager: httpx.Client) -> None:
    address = f"/api/v1/reports/2025-11?as_of={company.now()}"
    for accept, kind in (
        ("text/html", "text/html"),
        ("text/csv", "text/csv"),
        ("application/json", "application/json"),
    ):
        assert manager.get(address, headers={"Accept": accept}).headers["content-type"].startswith(kind)
    assert manager.get(address, headers={"Accept": "image/png"}).status_code == 406
    assert manager.get("/api/v1/reports/2025-11.html").text.count("<h1>") == 1


@pytest.mark.parametrize("address", ["2026-01", "2025-13", "nonsense", "2025-11/rows/E1.fleet", "2025-11/rows/K1"])
def test_what_there_is_not(manager: httpx.Client, address: str) -> None:
    assert manager.get(f"/api/v1/reports/{address}").status_code == 404


def test_what_was_sent_is_listed_and_stays(company: World, manager: httpx.Client) -> None:
    kept = report(months("2025-10", company.now(), "Europe/Berlin"), company.now(), "Europe/Berlin", Facts({}))
    with company.database.begin() as connection:
        store.insert(connection, "2025-10", company.now(), as_json(kept), company.now(), sent=True)
    (one,) = manager.get("/api/v1/reports").json()["items"]
    assert one["month"] == "2025-10"
    assert manager.get(one["link"]).json()["rows"][0] == manager.get("/api/v1/reports/2025-10").json()["rows"][0]
    assert "2025-10" in manager.get("/reports").text


def test_a_paper_names_no_machine_of_others_as_formula() -> None:
    from api.reports import _cell

    assert [_cell(value) for value in ("=1+1", "-x", -0.5, True, None, "R7")] == ["'=1+1", "'-x", -0.5, "yes", "", "R7"]


def test_a_report_is_its_json() -> None:
    told = report(OVER, MORNING, SHANGHAI, Facts({"R7": [Tally(2, 1)] * 13}, {"R7": [Breach("/tickets/1", 1)]}))
    assert from_json(as_json(told)) == told
    assert json.loads(as_json(told))["rows"][6]["code"] == "R7"

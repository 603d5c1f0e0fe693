"""What a ticket knows and how: its finding, the readings that it keeps, how complete these are, what else it may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import structlog
from pydantic import JsonValue
from sqlalchemy import Connection

from api.labels import Labels
from api.shapes import (
    AlternativeShape,
    CompletenessShape,
    CopyShape,
    EvidenceShape,
    GapShape,
    HappenedShape,
    MetricShape,
    ReadingsShape,
    plain,
    told,
)
from monitor.desk.explain import Alternative, Case, alternatives, certainty
from monitor.desk.record import Completeness, Record, between, completeness, joined
from monitor.devices import Profile
from monitor.readings import Ints
from monitor.store import evidence as store
from monitor.store import queries

log = structlog.get_logger()

INTERVAL_S = 10.0
"""How often a machine reports whose model is not known."""
MACHINES_SHOWN = 12


@dataclass(frozen=True)
class Evidence:
    """What one ticket keeps: the copies as rows, and what they hold, machine by machine."""

    ticket: queries.AnyRow
    profile: Profile | None
    copies: Sequence[store.Row]
    parts: dict[int, Record]
    """What each copy holds, by its id."""
    records: dict[str, Record]
    """All that is kept of each machine."""

    @property
    def device_id(self) -> str:
        """The machine that the ticket is about; of a site's, the one whose readings are shown first."""
        return self.ticket.device_id or next(iter(self.records), "")

    @property
    def record(self) -> Record | None:
        return self.records.get(self.device_id)

    @property
    def facts(self) -> dict[str, JsonValue]:
        return plain(self.ticket.evidence)

    @property
    def case(self) -> Case:
        row = self.ticket
        return Case(row.kind, row.subject, row.occurred_at, self.facts, self.profile, self.record)

    @property
    def interval_s(self) -> float:
        return self.profile.report_interval_s if self.profile else INTERVAL_S

    def of_lead(self, *phases: str) -> list[tuple[store.Row, Record]]:
        """The made copies of these phases of the fault that the ticket is named by, each with what it holds."""
        mine = [row for row in self.copies if row.device_id == self.device_id]
        name = (self.ticket.kind, self.ticket.subject)
        named = [row for row in mine if (row.kind, row.subject) == name] or mine
        lead = min((row.fault_id for row in named), default=None)
        return [
            (row, self.parts[row.id])
            for row in named
            if row.fault_id == lead and row.phase in phases and row.id in self.parts
        ]

    def span(self, *phases: str) -> tuple[int, int] | None:
        """From when to when these copies of the fault that names the ticket reach."""
        found = [row for row, _ in self.of_lead(*phases)]
        return (min(row.start_at for row in found), max(row.end_at for row in found)) if found else None

    def completeness(self) -> tuple[int, int, Completeness] | None:
        """How complete the readings around the opening are, and from when to when."""
        opening, after = self.of_lead("opening"), self.of_lead("after")
        if not opening or self.record is None:
            return None
        row, part = opening[0]
        follows = bool(after) and after[0][1].full_from <= row.end_at
        start_at, end_at = part.full_from, after[0][0].end_at if follows else row.end_at
        full = replace(between(self.record, start_at, end_at), full_from=start_at)
        return start_at, end_at, completeness(full, self.interval_s)


def load(connection: Connection, ticket: queries.AnyRow, profiles: Mapping[str, Profile]) -> Evidence:
    """All that a ticket keeps. A copy that cannot be read is logged and left out; its row still says it was made."""
    copies = store.copies(connection, ticket.id)
    # The ticket's own machine first; of a whole site's as many as are kept for a ticket, wherever they came from.
    machines = dict.fromkeys([*filter(None, [ticket.device_id]), *(row.device_id for row in copies)])
    shown = list(machines)[:MACHINES_SHOWN]
    bodies = store.bodies(connection, [row.id for row in copies if row.device_id in shown])
    parts: dict[int, Record] = {}
    for row in copies:
        if row.id in bodies:
            try:
                parts[row.id] = store.unpacked(bodies[row.id])
            except store.UnknownBody as error:
                log.error("evidence_unreadable", ticket=ticket.id, copy=row.id, error=str(error))
    records = {
        device_id: record
        for device_id in shown
        if (record := joined([parts[row.id] for row in copies if row.device_id == device_id and row.id in parts]))
        is not None
    }
    # A ticket of a whole site names no machine, and so no model.
    model = ticket.profile or next((row.profile for row in copies), "")
    return Evidence(ticket, profiles.get(model), copies, parts, records)


def shape(found: Evidence, labels: Labels, *, with_readings: bool) -> EvidenceShape:
    """The evidence as the API tells it."""
    facts = {key: value for key, value in found.facts.items() if key not in ("rule", "confidence")}
    rule, _, version = str(found.facts.get("rule") or "").partition("/")
    # Several weak signs together are surer than any of them.
    sure = found.facts.get("combined_confidence", found.facts.get("confidence"))
    confidence = float(sure) if isinstance(sure, int | float) else None
    word = certainty(confidence) if confidence is not None else None
    units = {sensor.name: sensor.unit for sensor in found.profile.sensors} if found.profile else {}
    readings = [_readings(name, record, units) for name, record in found.records.items()] if with_readings else []
    mine = next((one for one in readings if one.device_id == found.device_id), None)
    ours: dict[str, Any] = {
        "rule": rule or None,
        "version": version or None,
        "sentence": labels.sentence(found.case),
        "confidence": confidence,
        "certainty": word,
        "certainty_text": labels.certainty(word) if word else "",
        "alternatives": [_alternative(one, labels, found) for one in alternatives(found.case)],
        "completeness": _completeness(found),
        "readings": mine,
        "others": [one for one in readings if one is not mine],
        "copies": [_copy(row, labels) for row in found.copies],
    }
    # What a machine or a newer detector calls by one of our own names does not take its place.
    return EvidenceShape(**{**told(facts), **ours})


def _alternative(one: Alternative, labels: Labels, found: Evidence) -> AlternativeShape:
    return AlternativeShape(
        code=one.code,
        text=labels.alternative(one.code),
        speaks_for=[labels.clue(clue, found.profile) for clue in one.speaks_for],
        speaks_against=[labels.clue(clue, found.profile) for clue in one.against],
    )


def _completeness(found: Evidence) -> CompletenessShape | None:
    known = found.completeness()
    if known is None:
        return None
    start_at, end_at, complete = known
    return CompletenessShape(
        start_at=start_at, end_at=end_at, received=complete.received, missing=complete.missing, share=complete.share,
        gaps=[GapShape(start_at=gap.start_at, end_at=gap.end_at, missing=gap.missing) for gap in complete.gaps],
    )  # fmt: skip


def _copy(row: store.Row, labels: Labels) -> CopyShape:
    return CopyShape(
        phase=row.phase, device_id=row.device_id, start_at=row.start_at, end_at=row.end_at, status=row.status,
        due_at=row.due_at, made_at=row.made_at, complete=row.complete, reason=row.reason,
        reason_text=labels.copy_reason(row.reason),
    )  # fmt: skip


def _readings(device_id: str, record: Record, units: dict[str, str]) -> ReadingsShape:
    names = dict.fromkeys([*record.metrics, *(stretch.metric for stretch in record.reduced)])
    metrics = {name: MetricShape(unit=units.get(name) or None, points=_points(record, name)) for name in names}
    return ReadingsShape(
        device_id=device_id, start_at=record.start_at, end_at=record.end_at, metrics=metrics, states=record.states(),
        events=[HappenedShape(at=one.at, event=one.event, detail=one.detail) for one in record.events],
    )  # fmt: skip


def _points(record: Record, metric: str) -> list[list[str | float]]:
    """One metric in the order of time, reduced stretches and single readings together."""
    at, value = record.course(metric)
    points: list[tuple[int, list[str | float]]] = [
        (moment, [written, number])
        for moment, written, number in zip(at.tolist(), _written(at), value.tolist(), strict=True)
    ]
    for one in record.reduced:
        if one.metric == metric:
            columns = (one.at.tolist(), _written(one.at), one.low.tolist(), one.high.tolist(), one.mean.tolist())
            single = one.bucket_ms == 0
            points += [
                (moment, [written, mean] if single else [written, low, high, mean])
                for moment, written, low, high, mean in zip(*columns, strict=True)
            ]
    return [point for _, point in sorted(points, key=lambda pair: pair[0])]


def _written(at: Ints) -> list[str]:
    """Moments in RFC 3339, all at once."""
    return [f"{moment}Z" for moment in np.datetime_as_string(at.astype("datetime64[ms]"), unit="ms").tolist()]

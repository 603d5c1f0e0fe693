"""What the API answers: the shapes, as JSON and as OpenAPI tell them. Pages read the same objects."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SkipValidation,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from monitor.desk.tickets import WAIT_REASONS, Outcome, Resolution
from monitor.fleet.gate import Stands, stands

T = TypeVar("T")


def rfc3339(moment: int) -> str:
    """Epoch milliseconds as RFC 3339 in UTC, with milliseconds; as a bare number where no calendar shows them."""
    try:
        return datetime.fromtimestamp(moment / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return str(moment)


EARLIEST, LATEST = 0, 253_402_300_799_999
FIRST_GIVEN, LAST_GIVEN = 946_684_800_000, 4_102_444_799_999
"""What people write down lies in the years 2000 to 2099: those that the working calendar covers."""
PLANNED_MS = 3653 * 86_400_000
"""So far from now a plan may lie, either way: ten years."""


def epoch_ms(value: object) -> int:
    """A moment as a caller writes it: RFC 3339 with its offset, or epoch milliseconds."""
    text = str(value).strip()
    if text.isascii() and text.isdigit() and len(text) <= 15:
        moment = int(text)
    else:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError("must be RFC 3339, such as 2026-11-23T14:06:00Z, or epoch milliseconds") from error
        if parsed.tzinfo is None:
            raise ValueError("must name its offset, such as Z or +08:00")
        moment = round(parsed.timestamp() * 1000)
    if not EARLIEST <= moment <= LATEST:
        raise ValueError("lies outside the years 1970 to 9999")
    return moment


_MOMENT_SCHEMA = {"type": "string", "format": "date-time", "examples": ["2026-11-23T14:06:00.000Z"]}

Moment = Annotated[int, PlainSerializer(rfc3339, return_type=str, when_used="json"), WithJsonSchema(_MOMENT_SCHEMA)]
"""Epoch milliseconds inside, RFC 3339 UTC on the wire."""


def given_ms(value: object) -> int:
    """As `epoch_ms`, for what is kept: a slip of the pen must not stand in the record for thousands of years."""
    moment = epoch_ms(value)
    if not FIRST_GIVEN <= moment <= LAST_GIVEN:
        raise ValueError("lies outside the years 2000 to 2099")
    return moment


def planned_ms(value: object) -> int:
    """As `given_ms`, for what the desk reckons with: within ten years of now."""
    moment = given_ms(value)
    if abs(moment - time.time() * 1000) > PLANNED_MS:
        raise ValueError("lies more than ten years from now")
    return moment


_GIVEN_SCHEMA = {
    "type": "string",
    "description": "RFC 3339, or epoch milliseconds",
    "examples": ["2026-11-23T14:06:00.000Z"],
}

GivenMoment = Annotated[int, BeforeValidator(given_ms), WithJsonSchema(_GIVEN_SCHEMA)]
"""When something was, or was written down."""
PlannedMoment = Annotated[int, BeforeValidator(planned_ms), WithJsonSchema(_GIVEN_SCHEMA)]
"""When something is to begin or to end, or just happened."""


def told(facts: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Facts of a fault with their times as the API writes times; inside they are epoch milliseconds."""
    return {key: _told(key, value) for key, value in facts.items()}


def _told(key: str, value: JsonValue) -> JsonValue:
    if isinstance(value, list) and key.endswith("_between"):
        return [_told("_at", one) for one in value]
    moment = key.endswith("_at") and isinstance(value, int) and EARLIEST <= value <= LATEST
    return rfc3339(value) if moment else value  # type: ignore[arg-type]


FactsShape = Annotated[
    dict[str, JsonValue], PlainSerializer(told, return_type=dict[str, JsonValue], when_used="json")
]  # fmt: skip

_BARE_PLUS = re.compile(r"(\d[T ]\d\d:\S+) (\d\d:?\d\d)")


def epoch_ms_of_query(value: object) -> int:
    """As `epoch_ms`; in a query a `+` that was not percent-encoded arrives as a space."""
    return epoch_ms(_BARE_PLUS.sub(r"\1+\2", str(value).strip()))


AskedMoment = Annotated[int, BeforeValidator(epoch_ms_of_query), WithJsonSchema(_GIVEN_SCHEMA)]
"""The edge of a question: no more than that, and so it may lie anywhere."""

_NOT_IN_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def has_controls(text: str, *, lines: bool = False) -> bool:
    """Whether there is something in it that no text has: control characters (line breaks and tabs only where it may
    have `lines`), or half a character. PostgreSQL keeps no U+0000, and nothing keeps the latter."""
    return (_NOT_IN_LINES if lines else _NOT_IN_A_LINE).search(text) is not None


class Given(BaseModel):
    """What a request brings: nothing but what is asked for, and no text with control characters in it."""

    model_config = ConfigDict(extra="forbid")

    in_lines: ClassVar[frozenset[str]] = frozenset()
    """Fields whose text may have line breaks and tabs."""

    @field_validator("*")
    @classmethod
    def _refuse_controls(cls, value: object, field: ValidationInfo) -> object:
        lines = field.field_name in cls.in_lines
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and has_controls(text, lines=lines):
                but = " but line breaks and tabs" if lines else ", nor line breaks"
                raise ValueError(f"no control characters (such as U+0000){but} are allowed in it")
        return value


Condition = Literal["good", "bad", "unknown"]


class Shape(BaseModel):
    """Made from a row by its column names."""

    model_config = ConfigDict(from_attributes=True)


class Page(BaseModel, Generic[T]):
    items: list[T]
    next: str | None = Field(description="Cursor of the next page; null on the last one.")


# --- tickets -------------------------------------------------------------------------------------------------------


class CommitmentShape(Shape):
    """A promise of the service standard with its clock."""

    standard_id: str = Field(description="Row of the service standard, such as R7.")
    kind: str = Field(description="dispatch, remote_diagnosis or repair_start")
    started_at: Moment
    due_at: Moment
    warn_before_s: float = Field(description="So long before it is due the clock warns.")
    met_at: Moment | None
    breached_at: Moment | None = Field(description="Equals due_at; a clock that was met late stays breached.")
    voided_at: Moment | None
    paused_since: Moment | None = Field(
        None, description="The customer keeps us waiting since then; due_at is as if that were over at once."
    )
    turn: int = Field(0, description="0, or the how manieth reopening promised it anew.")

    @property
    def running(self) -> bool:
        return self.met_at is None and self.voided_at is None


class TicketShape(Shape):
    id: int
    device_id: str | None = Field(description="null where a whole site is concerned")
    kind: str
    subject: str = Field(description="The sensor or code; empty where there is none.")
    severity: str
    status: str
    opened_at: Moment = Field(description="When the service first knew.")
    occurred_at: Moment = Field(description="When it happened.")
    cleared_at: Moment | None = Field(description="When the fault cleared by itself or was seen to be gone.")
    resolved_at: Moment | None = None
    closed_at: Moment | None
    origin: str = Field("detected", description="How we came to know: detected, phone, customer, label or office.")
    merged_into: int | None = Field(None, description="The ticket that took its faults over.")
    revision: int = Field(0, description="Raised with every change; the ETag of a ticket.")
    recurrences: int = Field(description="How often the most restless of its faults came back.")
    profile: str | None
    site_id: int | None
    site_name: str | None
    remote: bool
    customer_name: str | None
    technician_id: int | None
    technician_name: str | None
    visit_at: Moment | None = Field(None, description="When the customer was promised that the technician comes.")
    commitments: list[CommitmentShape] = []
    facts: dict[str, JsonValue] = Field({}, exclude=True, repr=False)
    """The evidence, for the page's words; the API gives it with one ticket only, to those it is for."""

    @property
    def next_clock(self) -> CommitmentShape | None:
        """The running clock that is due first."""
        return next((clock for clock in self.commitments if clock.running), None)


class PartShape(Shape):
    """A span of a clock: how long it ran in it, or why it stood still."""

    from_at: Moment
    to_at: Moment
    ran_s: float
    reason: str = Field("", description="Why it stood still; empty: it ran.")
    actor: str = ""


class ExplainedClock(CommitmentShape):
    """A clock with how its due time came about."""

    stop: str = Field(description="The turn that meets it.")
    length_s: float | None
    length_days: int | None
    calendar: str = Field(description="always: 24 x 7; working: the company's working time in `timezone`.")
    timezone: str
    warns: list[str]
    parts: list[PartShape] = Field(description="How due_at came about: the spans add up to the length.")


class PauseShape(Shape):
    """A ticket waits, or waited."""

    reason: str
    actor: str
    stops_clocks: bool = Field(description="Whether the reason is on the customer's side.")
    from_at: Moment
    until_at: Moment | None
    to_at: Moment | None


class ResolutionShape(BaseModel):
    """What a ticket was."""

    cause: str | None
    action: str | None
    borne_by: str | None
    parts: list[str]
    outcome: str | None = Field(description="real, nuisance (a false alarm) or wrong_cause")


class LinkShape(Shape):
    """Another ticket that this one belongs with."""

    other_id: int
    kind: str = Field(description="related, returned (the other is this fault's earlier ticket) or merged")
    at: Moment


class FaultShape(Shape):
    id: int
    kind: str
    subject: str
    severity: str
    opened_at: Moment
    occurred_at: Moment
    cleared_at: Moment | None
    ticket_id: int | None = Field(description="null while it does not deserve one.")
    confidence: float = Field(1.0, description="How sure the rule is, 0 to 1.")
    held_until: Moment | None = Field(
        None, description="A weak sign, held: it has its ticket then, if it lasts that long."
    )
    evidence: FactsShape | None = Field(description="Facts at opening; not for customers.")


class StepShape(Shape):
    event: str
    from_status: str
    to_status: str
    happened_at: Moment
    recorded_at: Moment
    actor: str
    actor_name: str | None
    technician_id: int | None
    technician_name: str | None
    note: str
    reason: str = ""
    other_id: int | None = None
    corrected: bool = Field(False, description="Taken back as a mistake: it counts for nothing.")


class AmendmentShape(Shape):
    """A breach that was annulled: the step had happened in time and was recorded after the clock ran out, or the clock
    is due later than was thought."""

    standard_id: str
    kind: str
    breached_at: Moment
    met_at: Moment | None = Field(description="When it was met; null: it is due later.")
    due_at: Moment = Field(description="When it is due, or was.")
    recorded_at: Moment
    actor: str


class NoticeShape(Shape):
    id: int
    kind: str
    ticket_id: int | None
    channel: str
    recipient: str
    lang: str
    subject: str
    severity: str = Field(description="How grave what it tells is: an emergency overrides quiet hours.")
    person_id: int | None = Field(description="Who hears it by their contacts; null where it is addressed directly.")
    gathered_in: int | None = Field(description="The notice whose message carries this one; null: it goes by itself.")
    status: str = Field(description="queued, sent, failed (given up) or withdrawn")
    tries: int
    queued_at: Moment
    sent_at: Moment | None
    last_error: str


# --- what a ticket knows, and how ----------------------------------------------------------------------------------

_POINT = {
    "type": "array",
    "description": "[at, value] of one reading, or [at, min, max, mean] of a bucket that begins at `at`.",
    "prefixItems": [{"type": "string", "format": "date-time"}, {"type": "number"}],
    "items": {"type": "number"},
    "minItems": 2,
    "maxItems": 4,
}
Points = Annotated[list[Any], SkipValidation, WithJsonSchema({"type": "array", "items": _POINT})]


class GapShape(BaseModel):
    start_at: Moment = Field(serialization_alias="from")
    end_at: Moment = Field(serialization_alias="to")
    missing: int = Field(description="Messages that never came; 0 where the machine itself paused.")


class CompletenessShape(BaseModel):
    """Of the readings around the opening that are kept at full rate."""

    start_at: Moment = Field(serialization_alias="from")
    end_at: Moment = Field(serialization_alias="to")
    received: int
    missing: int = Field(description="By the messages' own numbers; at the ends by the model's reporting interval.")
    share: float | None = Field(description="received of received and missing; null where nothing was due.")
    gaps: list[GapShape] = Field(description="At most 200, the longest.")


class MetricShape(BaseModel):
    unit: str | None
    points: Points


class HappenedShape(BaseModel):
    at: Moment
    event: str
    detail: dict[str, str | int | float | bool]


class ReadingsShape(BaseModel):
    """What one machine showed before, during and after; by its own clock."""

    device_id: str
    start_at: Moment = Field(serialization_alias="from")
    end_at: Moment = Field(serialization_alias="to")
    metrics: dict[str, MetricShape]
    states: Annotated[list[tuple[Moment, str]], Field(description="[at, state] at the beginning and at each change.")]
    events: list[HappenedShape]


class CopyShape(BaseModel):
    """A copy of readings that the ticket keeps for itself: it outlives the retention of telemetry."""

    phase: Literal["opening", "after", "course", "clearing"]
    device_id: str
    start_at: Moment = Field(serialization_alias="from")
    end_at: Moment = Field(serialization_alias="to")
    status: Literal["due", "made", "given_up"]
    due_at: Moment
    made_at: Moment | None
    complete: bool = Field(description="Whether it holds all that it should: full rate around opening and clearing.")
    reason: str = Field(description="Why it waits, was given up, or is not complete; empty where nothing is wrong.")
    reason_text: str


class AlternativeShape(BaseModel):
    """Another cause that the same evidence allows."""

    code: str
    text: str
    speaks_for: list[str]
    speaks_against: list[str]


class EvidenceShape(BaseModel):
    """The facts of the finding, as the kind of fault has them, with how sure they are and the readings behind them."""

    model_config = ConfigDict(extra="allow")

    rule: str | None = Field(description="The detector that found it; null where a person reported it.")
    version: str | None = Field(description="The version of that rule.")
    sentence: str = Field(description="Why this is a fault, in a sentence.")
    reason: JsonValue = Field(None, description="Why, where the kind does not say it alone, such as `timeout`.")
    value: JsonValue = Field(None, description="What was measured.")
    limit: JsonValue = Field(None, description="The limit that was crossed.")
    expected: JsonValue = Field(None, description="What a healthy machine would have shown.")
    band: JsonValue = Field(None, description="[low, high] within which that would have been ordinary.")
    since_at: JsonValue = Field(None, description="Since when it was so, by the machine's clock.")
    confidence: float | None = Field(description="How sure the rule is, 0 to 1.")
    certainty: Literal["certain", "likely", "possible"] | None
    certainty_text: str
    alternatives: list[AlternativeShape] = Field(description="Other causes, the likeliest first.")
    completeness: CompletenessShape | None = Field(description="null while nothing is copied.")
    readings: ReadingsShape | None = Field(
        description="null while nothing is copied, with `readings=false`, and in answers to steps."
    )
    others: list[ReadingsShape] = Field(description="Readings of further machines, where a whole site is concerned.")
    copies: list[CopyShape] = Field(description="What is kept, what is still to come, and what never will.")


# --- what machines are asked ---------------------------------------------------------------------------------------


class CommandShape(Shape):
    """Something that a machine was asked to do."""

    id: str
    device_id: str
    ticket_id: int | None
    command: str
    status: Literal["waiting", "sent", "answered", "failed", "given_up"] = Field(
        description="failed: it answered that it could not."
    )
    asked_by: str
    asked_at: Moment
    sends: int = Field(description="How often the broker took it; the machine carries it out once.")
    sent_at: Moment | None = Field(description="The last time.")
    answered_at: Moment | None = Field(description="An answer after it was given up is an answer all the same.")
    result: dict[str, JsonValue] | None = Field(description="What the machine answered, cut to 64 values.")
    given_up_at: Moment | None
    reason: str = Field(description="Why it was given up: no_answer, not_sent, cut_off, box_replaced or ticket_ended.")


class CheckShape(BaseModel):
    name: str
    title: str
    says: str
    text: str
    well: bool


class TipShape(BaseModel):
    code: str
    text: str


class SelfTestShape(BaseModel):
    """The remote diagnosis: what the machine answered, and what follows from it."""

    status: Literal["waiting", "sent", "answered", "failed", "given_up"] = Field(
        description="Of the newest question; an earlier answer is shown until that is answered."
    )
    asked_at: Moment
    sends: int
    reason: str
    reason_text: str
    answered_at: Moment | None = Field(description="When the answer that is shown came; null while there is none.")
    checks: list[CheckShape]
    codes: list[str]
    facts: dict[str, JsonValue] = Field(description="Whatever else it answered, by its path.")
    technician: list[TipShape] = Field(description="What to take along and look at; empty for customers.")
    customer: TipShape | None = Field(description="What the customer is asked to do meanwhile.")


class ReasonShape(BaseModel):
    """One thing that speaks for or against somebody, or puts a promise at risk, with its figures."""

    code: str
    at: Moment | None
    km: float | None
    s: float | None
    count: int | None
    text: str


class OtherTechnicianShape(BaseModel):
    """Somebody else who would make it."""

    person_id: int
    name: str
    earliest_at: Moment
    margin_s: float
    text: str


class ExchangeShape(BaseModel):
    """A machine of the same model that could be brought instead."""

    device_id: str
    site_id: int
    distance_km: float | None
    travel_s: float | None
    text: str


class RiskShape(BaseModel):
    """What becomes of a promise, as things stand, and what would help."""

    standard_id: str
    kind: str
    due_at: Moment
    outlook: str = Field(description="at_risk, unknown (a position is missing) or missed")
    person_id: int | None = Field(description="With whom it was reckoned.")
    earliest_at: Moment | None
    margin_s: float | None = Field(description="To spare; negative: too late.")
    reasons: list[ReasonShape] = Field(description="What costs the most time first.")
    others: list[OtherTechnicianShape]
    exchanges: list[ExchangeShape]


class AskedShape(Shape):
    """Somebody who was asked to take the ticket, in the search that runs or was the last."""

    person_id: int
    name: str
    level: int = Field(description="0: whom an operator named; from 1 the levels of the escalation.")
    due_at: Moment
    until_at: Moment | None = Field(description="When it goes on without an answer; null: it does not.")
    declined_at: Moment | None


class TicketDetail(TicketShape):
    headline: str = Field(description="What happened, in words.")
    allowed: list[str] = Field(description="The verbs that are possible now.")
    evidence: EvidenceShape | None = Field(description="How we know, and the readings; null for customers.")
    faults: list[FaultShape]
    steps: list[StepShape]
    amendments: list[AmendmentShape]
    links: list[LinkShape] = Field(description="Other tickets that it belongs with.")
    waiting: PauseShape | None = Field(description="Why it waits; null where it does not.")
    resolution: ResolutionShape | None = Field(description="What it was; null while nobody has said.")
    reported_by: str = Field("", description="Who told us, where a person did; not for customers.")
    notices: list[NoticeShape] | None = Field(description="Who was told; null but for ops and admin.")
    self_test: SelfTestShape | None = Field(None, description="The remote diagnosis; null where none was asked for.")
    risk: list[RiskShape] = Field([], description="Promises that will hardly be kept; empty for customers.")
    asked: list[AskedShape] = Field([], description="Who was asked to take it; empty for customers.")


# --- machines ------------------------------------------------------------------------------------------------------


class HireShape(BaseModel):
    """The rental that runs now."""

    id: int
    customer_id: int
    customer_name: str
    starts_at: Moment
    ends_at: Moment | None


class DeviceShape(Shape):
    device_id: str
    profile: str
    condition: Condition = Field(description="bad: an open fault of severity urgent or emergency; unknown: silent")
    site_id: int | None
    site_name: str | None
    remote: bool
    connection: Literal["online", "lost", "offline"] | None
    connection_reason: str
    firmware: str
    model: str
    last_heard_at: Moment | None
    added_at: Moment
    rental: HireShape | None

    @property
    def place(self) -> str:
        return self.site_name or ""


class ReadingShape(BaseModel):
    at: Moment
    state: str
    values: dict[str, float]


class DataShape(BaseModel):
    received: int = Field(description="Distinct messages taken in.")
    missing: int = Field(description="Numbers that never came.")


class DeviceDetail(DeviceShape):
    latest: ReadingShape | None = Field(description="The newest reading by the machine's own clock.")
    faults: list[FaultShape] = Field(description="Open faults.")
    data: DataShape | None = Field(description="How complete its record is; null for customers.")
    retired_at: Moment | None = Field(description="Since when it is out of the fleet.")


class PointShape(BaseModel):
    at: Moment
    min: float
    max: float
    mean: float


class SeriesShape(BaseModel):
    device_id: str
    metric: str
    unit: str | None = Field(description="null where the model does not name one.")
    bucket_s: float = Field(description="Width of a point; 0 where each point is one sample.")
    items: list[PointShape] = Field(description="At most 2,000; where nothing came, there is no point.")
    next: None = Field(None, description="Always null: the whole range is given at once.")


class LimitsShape(BaseModel):
    low: float | None = None
    high: float | None = None
    hold_s: float
    clear_margin: float


class SensorShape(BaseModel):
    name: str
    unit: str | None = None
    nominal: float | None = Field(None, description="A healthy running machine at half load.")
    limits: LimitsShape | None = None
    states: list[str] = Field([], description="In which the limits mean anything; empty: in every state.")


class ProfileShape(BaseModel):
    name: str
    title: str
    title_zh: str
    start_timeout_s: float
    report_interval_s: float
    start_attempts: int = Field(description="So many without running are a startup failure, whatever the time left.")
    service_interval_days: int
    service_interval_h: float | None
    sensors: list[SensorShape]


# --- the fleet -----------------------------------------------------------------------------------------------------


class Counts(BaseModel):
    total: int
    good: int
    bad: int
    unknown: int
    on_hire: int
    good_on_hire: int


class ShareShape(Shape):
    now: float | None
    window_days: int
    lower: float | None = Field(description="Time of which nobody knows counted as bad.")
    upper: float | None = Field(description="The same time counted as good.")
    target: float
    met: bool | None


class Shares(BaseModel):
    on_hire: ShareShape
    fleet: ShareShape


class PaceShape(Shape):
    """How a month goes against its target: the error budget, and how fast it is spent."""

    month: str
    target: float
    lower: float | None = Field(description="The share of the month so far that was surely good.")
    budget_ms: int = Field(description="Machine time that may be not good in the whole month.")
    spent_ms: int = Field(description="Machine time that was bad or unknown so far.")
    left_share: float | None = Field(description="What is left of the budget; below 0 it is overdrawn.")
    burn_rate: float | None = Field(description="1 spends exactly the budget by the end of the month.")
    misses: bool | None = Field(description="At this pace the month misses its target.")
    course: list[float] = Field(description="What was left at the end of each day of the month, up to now.")


class Budgets(BaseModel):
    on_hire: PaceShape
    fleet: PaceShape


class SpentShape(BaseModel):
    """Machine time by condition, and the shares of it."""

    good_s: float
    bad_s: float
    unknown_s: float
    lower: float | None = Field(description="Surely good: unknown time counted as bad.")
    upper: float | None = Field(description="Possibly good: unknown time counted as good.")
    target: float
    met: bool | None


class GroupShape(SpentShape):
    key: str | int | None = Field(description="The profile, or the number of the site or customer; null: none.")
    name: str


class AvailabilityShape(BaseModel):
    of: str
    by: str
    from_: Moment = Field(alias="from")
    to: Moment
    as_of: Moment
    total: SpentShape
    groups: list[GroupShape] = Field(description="The worst first.")


class IntervalShape(Shape):
    """One machine, one condition, one place."""

    id: int
    device_id: str
    from_at: Moment
    to_at: Moment | None = Field(description="null: it runs.")
    condition: str
    place: str
    profile: str
    fault_id: int | None
    site_id: int | None
    rental_id: int | None
    customer_id: int | None
    recorded_at: Moment
    end_recorded_at: Moment | None
    superseded_at: Moment | None = Field(description="Since when it is known not to be so.")


class TicketCounts(Shape):
    open: int
    emergency: int
    due_within_15_min: int
    breached: int


class MaintenanceCounts(BaseModel):
    due_7_days: int | None = None
    overdue: int | None = None


class ModelCounts(Counts):
    profile: str


class SiteCounts(Counts):
    site_id: int | None
    site_name: str | None


class FleetHealth(BaseModel):
    as_of: Moment
    devices: Counts
    availability: Shares = Field(description="E1; a share of no machines is null.")
    budget: Budgets | None = Field(None, description="The month's; null for customers.")
    tickets: TicketCounts
    maintenance: MaintenanceCounts = Field(description="null while there is no maintenance record.")
    rota_kept: bool | None = Field(
        description="Whether it was said who may work on what and when they are there. Without that nobody is asked in "
        "turn for a ticket: all technicians are alerted. null for customers."
    )
    by_model: list[ModelCounts]
    by_site: list[SiteCounts]


# --- registers -----------------------------------------------------------------------------------------------------


class RentalShape(Shape):
    id: int
    device_id: str
    customer_id: int
    customer_name: str
    contract_id: int | None = None
    replaces_id: int | None = Field(None, description="The rental of the machine that this one was exchanged for.")
    starts_at: Moment
    ends_at: Moment | None
    handed_over_at: Moment | None = Field(
        None, description="When the machine went out through the gate; a rental that was taken over began with it."
    )
    returned_at: Moment | None = Field(None, description="When the machine came back.")
    stands: Stands = Field(description="How it stands now; over: and not back yet, never: and never went out.")

    @classmethod
    def of(cls, row: Any, now: int) -> "RentalShape":
        """A rental as it stands now."""
        how = stands(row.starts_at, row.ends_at, row.handed_over_at, row.returned_at, now)
        return cls.model_validate({**row._mapping, "stands": how})


class SiteShape(Shape):
    id: int
    name: str
    remote: bool
    timezone: str
    lat_deg: float | None = None
    lon_deg: float | None = None
    access_notes: str = Field("", description="How to get in: gate, whom to ask for, where the machine stands.")


class PersonShape(Shape):
    id: int
    name: str
    role: str
    email: str
    phone: str
    lang: str
    customer_id: int | None
    added_at: Moment
    disabled_at: Moment | None
    erased_at: Moment | None = Field(description="Since when nothing is known of them: their name is a number.")


class RejectedShape(Shape):
    id: int
    received_at: Moment
    device_id: str
    topic: str
    reason: str
    detail: str
    payload: str = Field(description="The first 500 bytes as text; what is not UTF-8 is replaced.")
    payload_bytes: int


# --- what is sent --------------------------------------------------------------------------------------------------


class Act(Given):
    """What a person did with a ticket. Everything may be left out."""

    in_lines = frozenset({"note"})

    technician_id: int | None = Field(None, ge=1, lt=2**63, description="Who is sent; needed by dispatch.")
    happened_at: PlannedMoment | None = Field(None, description="When it happened, where that was not just now.")
    note: str = Field("", max_length=2000)
    reason: str = Field("", max_length=40, description=f"Of pause: {', '.join(WAIT_REASONS)}; of cancel: a code of "
                        "the list false_alarm (GET choices).")  # fmt: skip
    until_at: PlannedMoment | None = Field(None, description="Of pause: until when it waits.")
    visit_at: PlannedMoment | None = Field(
        None, description="Of dispatch and accept: when the customer was promised that somebody comes."
    )
    other_id: int | None = Field(None, ge=1, lt=2**63, description="Of merge and link: the other ticket.")
    cause: str = Field("", max_length=40, description="Of resolve: a code of the list cause (GET choices).")
    action: str = Field("", max_length=40, description="Of resolve: a code of the list action.")
    borne_by: str = Field("", max_length=40, description="Of resolve: a code of the list borne_by.")
    parts: list[Annotated[str, StringConstraints(min_length=1, max_length=120)]] | None = Field(
        None, max_length=50, description="Of resolve, which needs it: what was put in, by name; [] where nothing was."
    )
    outcome: Outcome | None = Field(None, description="Of resolve and close: what it turned out to have been.")

    @property
    def resolution(self) -> Resolution | None:
        """What it was, if that is said whole: that no part was needed is said by an empty list."""
        if not (self.cause and self.action and self.borne_by) or self.parts is None:
            return None
        return Resolution(self.cause, self.action, self.borne_by, tuple(self.parts), self.outcome or Outcome.REAL)


class ReportBody(Given):
    """What somebody says of a machine."""

    in_lines = frozenset({"text"})

    device_id: str = Field(min_length=1, max_length=64)
    text: str = Field(min_length=1, max_length=2000, description="What is wrong, in their words.")
    origin: Literal["phone", "office"] = Field("office", description="How it came to us.")
    reported_by: str = Field("", max_length=200, description="Who said it.")
    stopped: bool = Field(False, description="It does not run, or does not start: on hire an emergency (R9).")
    occurred_at: GivenMoment | None = Field(None, description="When it began, where that is known.")


def plain(value: Any) -> dict[str, JsonValue]:
    """Evidence as JSON knows it."""
    return value if isinstance(value, dict) else {}

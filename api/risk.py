"""Whether a ticket's promises will be kept, and if not why and what would help, in words."""

from sqlalchemy import Connection

from api.context import Api
from api.shapes import ExchangeShape, OtherTechnicianShape, ReasonShape, RiskShape
from monitor.desk.dispatch import Reason
from monitor.desk.feasibility import Forecast, Outlook
from monitor.desk.notices import moment
from monitor.desk.reasons import Written, exchange_in_words, in_words, other_in_words
from monitor.desk.tickets import Status
from monitor.store import people
from monitor.store.queries import AnyRow


def reasons_told(
    reasons: tuple[Reason, ...], lang: str, timezone: str, written: Written = moment
) -> list[ReasonShape]:  # fmt: skip
    """`written`: how moments are, where pages have less room than messages."""
    return [
        ReasonShape(
            code=one.code, at=one.at, km=one.km, s=one.s, count=one.count, text=in_words(one, lang, timezone, written)
        )
        for one in reasons
    ]  # fmt: skip


def risks(connection: Connection, api: Api, row: AnyRow, lang: str) -> list[RiskShape]:
    """What of a ticket's promises will hardly be kept, as things stand now."""
    if not Status(row.status).is_open or not people.keeps_rota(connection):
        return []
    now = api.clock()
    crew = api.desk.dispatching.crew(connection, now)
    found = api.desk.dispatching.foresee(connection, row, crew, now)
    names = people.names(connection, {other.person_id for one in found for other in one.others})
    return [_risk(one, names, lang, api.timezone) for one in found if one.outlook is not Outlook.IN_TIME]


def _risk(one: Forecast, names: dict[int, str], lang: str, timezone: str) -> RiskShape:
    others = [
        OtherTechnicianShape(
            person_id=other.person_id, name=names.get(other.person_id, ""), earliest_at=other.earliest_at,
            margin_s=other.margin_s, text=other_in_words(other, names.get(other.person_id, ""), lang),
        )
        for other in one.others
    ]  # fmt: skip
    exchanges = [
        ExchangeShape(
            device_id=machine.device_id, site_id=machine.site_id, distance_km=machine.distance_km,
            travel_s=machine.travel_s, text=exchange_in_words(machine, lang),
        )
        for machine in one.exchanges
    ]  # fmt: skip
    return RiskShape(
        standard_id=one.clock.standard_id, kind=one.clock.kind, due_at=one.clock.due_at, outlook=one.outlook,
        person_id=one.person_id, earliest_at=one.earliest_at, margin_s=one.margin_s,
        reasons=reasons_told(one.reasons, lang, timezone), others=others, exchanges=exchanges,
    )  # fmt: skip

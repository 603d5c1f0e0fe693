"""Time zones for people to choose from, by region, in their language."""

from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple
from zoneinfo import ZoneInfo

from babel.core import Locale, get_global

from api.labels import N_
from api.words import LOCALES, MINUS

REGIONS = {
    "Africa": N_("Africa"), "America": N_("America"), "Antarctica": N_("Antarctica"), "Arctic": N_("Arctic"),
    "Asia": N_("Asia"), "Atlantic": N_("Atlantic"), "Australia": N_("Australia"), "Europe": N_("Europe"),
    "Indian": N_("Indian Ocean"), "Pacific": N_("Pacific"),
}  # fmt: skip


class Choice(NamedTuple):
    """A zone as it is offered: its name, its city, and how far it is from UTC now."""

    zone: str
    city: str
    offset: str


def zones(lang: str, now: int) -> dict[str, list[Choice]]:
    """Every zone that somebody lives in, by region (English, to be translated) and city."""
    when = datetime.fromtimestamp(now / 1000, UTC)
    found: dict[str, list[Choice]] = {}
    for region, zone, city in _cities(lang):
        found.setdefault(REGIONS[region], []).append(Choice(zone, city, _offset(zone, when)))
    return found


def _offset(zone: str, when: datetime) -> str:
    away = when.astimezone(ZoneInfo(zone)).utcoffset()
    minutes = round(away.total_seconds() / 60) if away else 0
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{MINUS if minutes < 0 else '+'}{hours}" + (f":{rest:02}" if rest else "")


@lru_cache(maxsize=4)
def _cities(lang: str) -> tuple[tuple[str, str, str], ...]:
    """(region, zone, city) in the order of the zones' names. The list is that of the tz database itself, by country,
    so that everybody finds a city of theirs."""
    lines = files("tzdata").joinpath("zoneinfo/zone.tab").read_text("utf-8").splitlines()
    names = sorted(line.split("\t")[2] for line in lines if line and not line.startswith("#"))
    found = [(name.partition("/")[0], name, _city(name, lang)) for name in names]
    return tuple(one for one in found if one[0] in REGIONS)


def _city(zone: str, lang: str) -> str:
    # What cities are called may stand under a name that the zone had before.
    known = Locale.parse(LOCALES[lang]).time_zones
    before = [old for old, new in get_global("zone_aliases").items() if new == zone]
    said = next((known[name]["city"] for name in (zone, *before) if "city" in known.get(name, {})), None)
    return said or zone.rpartition("/")[2].replace("_", " ")

"""Why somebody should go, cannot go, or will be late, and what would help, in words. Pure.

The words stand in `texts/{lang}.toml`, under `reason` and `help`.
"""

from collections.abc import Callable

from monitor.desk.dispatch import Reason
from monitor.desk.feasibility import ExchangeMachine, OtherTechnician
from monitor.desk.notices import moment, say

Written = Callable[[int, str, str], str]
"""A moment, a time zone and a language become words."""


def in_words(reason: Reason, lang: str, timezone: str, written: Written = moment) -> str:
    """One reason with its figures: "12.4 km away, 25 min". `written`: how its moment is, for who has less room."""
    return say(
        lang,
        f"reason.{reason.code}",
        at=written(reason.at, timezone, lang) if reason.at is not None else "",
        km=_km(reason.km),
        min=_minutes(reason.s),
        count="" if reason.count is None else str(reason.count),
    )


def other_in_words(other: OtherTechnician, name: str, lang: str) -> str:
    return say(lang, "help.technician", name=name, min=_minutes(other.margin_s))


def exchange_in_words(machine: ExchangeMachine, lang: str) -> str:
    return say(lang, "help.exchange", device_id=machine.device_id, km=_km(machine.distance_km))


def _km(km: float | None) -> str:
    return "" if km is None else f"{km:.1f}"


def _minutes(seconds: float | None) -> str:
    """Whole minutes, rounded down: nobody is promised more than there is."""
    return "" if seconds is None else str(int(seconds // 60))

"""The pages' language: which one, its words, and how it writes times, shares and figures.

English stands in the templates and in code; other languages in `locale/{lang}/messages.po`.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import jinja2
from babel import dates, numbers
from babel.core import UnknownLocaleError, negotiate_locale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import NullTranslations, Translations
from fastapi import Request

MINUS, NOTHING = "\u2212", "\u2013"
NO_DATE = (OverflowError, ValueError, OSError)
"""What the calendar raises for a moment that it does not have."""
HERE = Path(__file__).parent
LANGS = ("zh", "en")
LANG_COOKIE = "fettle_lang"
LOCALES = {"zh": "zh_Hans_CN", "en": "en_GB"}
HTML_LANG = {"zh": "zh-Hans", "en": "en"}


def wanted_lang(request: Request, default: str) -> str:
    """`?lang=`, else what was chosen before, else what the reader is known to speak, else the browser's first wish that
    we speak, else the company's."""
    known = getattr(request.state, "reader_lang", "")
    for given in (request.query_params.get("lang"), request.cookies.get(LANG_COOKIE), known):
        if given in LANGS:
            return given
    wishes = [part.partition(";")[0].strip() for part in request.headers.get("accept-language", "").split(",")]
    try:
        found = negotiate_locale([wish for wish in wishes[:20] if wish], LANGS, sep="-")
    except (ValueError, UnknownLocaleError):
        found = None
    return found if found in LANGS else default


@dataclass(frozen=True)
class Words:
    """One language, in one time zone."""

    lang: str
    zone: ZoneInfo

    @property
    def translations(self) -> NullTranslations:
        return _translations(self.lang)

    @property
    def locale(self) -> str:
        return LOCALES[self.lang]

    def say(self, message: str, **known: object) -> str:
        """A message of the catalogue, with its gaps filled in."""
        return self.translations.gettext(message) % known if known else self.translations.gettext(message)

    def moment(self, at: int | None) -> str:
        """Day and time, without the year: what the pages show lies within weeks."""
        if at is None:
            return ""
        pattern = {"zh": "M月d日 HH:mm", "en": "d MMM, HH:mm"}[self.lang]
        return self._shown(at, lambda when: dates.format_datetime(when, pattern, tzinfo=self.zone, locale=self.locale))

    def stamp(self, at: int | None) -> str:
        """Year, day and time in figures, as papers have it: they lie in folders for years."""
        return "" if at is None else self._shown(at, lambda when: f"{when:%Y-%m-%d %H:%M}")

    def hour(self, at: int) -> str:
        return self._shown(at, lambda when: dates.format_time(when, "HH:mm", tzinfo=self.zone, locale=self.locale))

    def clock_time(self, at: int) -> str:
        return self._shown(at, lambda when: dates.format_time(when, "HH:mm:ss", tzinfo=self.zone, locale=self.locale))

    def day(self, at: int) -> str:
        return self._shown(at, lambda when: dates.format_skeleton("MMMd", when, locale=self.locale))

    def today(self, at: int) -> str:
        return self._shown(at, lambda when: dates.format_skeleton("MMMEd", when, locale=self.locale))

    def zone_name(self, at: int) -> str:
        """What the zone is called at that moment, as people there write it: "CET", "中国时间"; else its distance from
        UTC."""

        def name(when: datetime) -> str:
            short = when.tzname() or ""
            if self.lang == "en" and short.isalpha():
                return short
            return dates.get_timezone_gmt(when, locale=self.locale).replace("GMT", "UTC", 1)

        return self._shown(at, name)

    def _shown(self, at: int, show: Callable[[datetime], str]) -> str:
        """A moment as it is shown here, by this zone's clock; one that no calendar has as `iso` has it."""
        try:
            local = _time(at).astimezone(self.zone)
        except NO_DATE:
            return iso(at)
        return show(local)

    def percent(self, share: float | None) -> str:
        """One decimal, rounded down: 89.96 % is not the 90 % that was promised."""
        if share is None:
            return NOTHING
        floored = int(share * 1000 + 1e-9) / 1000
        return numbers.format_percent(floored, "0.#%" if self.lang == "zh" else "0.#\u202f%", locale=self.locale)

    def figure(self, value: float | None) -> str:
        """A measured value in four significant digits."""
        return NOTHING if value is None else numbers.format_decimal(float(f"{value:.4g}"), locale=self.locale)

    def count(self, value: int) -> str:
        return numbers.format_decimal(value, locale=self.locale)

    @cached_property
    def environment(self) -> jinja2.Environment:
        """Templates that speak this language. Everything put into them is escaped."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.i18n"],
        )
        environment.install_gettext_translations(self.translations, newstyle=True)  # type: ignore[attr-defined]
        names = ("moment", "stamp", "hour", "clock_time", "day", "today", "zone_name", "percent", "figure", "count")
        filters: dict[str, Callable[..., str]] = {name: getattr(self, name) for name in names}
        environment.filters.update(filters, span=span, iso=iso)
        environment.globals["html_lang"] = HTML_LANG[self.lang]
        environment.globals["lang"] = self.lang
        environment.globals["zone"] = str(self.zone)
        return environment


@cache
def _translations(lang: str) -> NullTranslations:
    path = HERE / "locale" / lang / "messages.po"
    if not path.exists():
        return NullTranslations()
    compiled = io.BytesIO()
    with path.open("rb") as source:
        write_mo(compiled, read_po(source, locale=lang))
    compiled.seek(0)
    return Translations(compiled)


@lru_cache(maxsize=32)
def words_in(lang: str, zone: str) -> Words:
    """The words of a language with the times of a zone: with its templates, so kept for the zones in use.

    Raises ZoneInfoNotFoundError or ValueError where there is no such zone.
    """
    return Words(lang, ZoneInfo(zone))


def words_of(request: Request, lang: str, company_zone: str) -> Words:
    """The same for whoever asks: in their own zone where they have named one that there is, else in the company's."""
    try:
        return words_in(lang, getattr(request.state, "reader_zone", "") or company_zone)
    except (ZoneInfoNotFoundError, ValueError):
        return words_in(lang, company_zone)


def span(ms: int) -> str:
    """Time left as a clock shows it, in hours, minutes and seconds; after the due time with a minus."""
    seconds = abs(ms) // 1000
    return f"{MINUS if ms < 0 else ''}{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def iso(at: int) -> str:
    """In UTC; a moment that no calendar has as the bare number of its milliseconds: a page is shown all the same."""
    try:
        return _time(at).isoformat(timespec="seconds")
    except NO_DATE:
        return str(at)


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at / 1000, UTC)

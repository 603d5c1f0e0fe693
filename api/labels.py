"""Words for the codes that the record keeps: statuses, kinds, verbs, evidence. All of them stand in the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from api.shapes import TicketShape
from api.words import Words
from monitor.desk.notices import headline, sensor_title
from monitor.devices import Profile


def N_(message: str) -> str:  # noqa: N802 the usual name by which extraction finds messages
    """Marks a message for the catalogue where it is written down."""
    return message


CONDITIONS = {"good": N_("good"), "bad": N_("bad"), "unknown": N_("unknown")}

STATUSES = {
    "open": N_("open"),
    "verified": N_("verified"),
    "dispatched": N_("technician asked"),
    "accepted": N_("accepted"),
    "on_the_way": N_("on the way"),
    "on_site": N_("on site"),
    "repairing": N_("repairing"),
    "waiting": N_("waiting"),
    "resolved": N_("resolved"),
    "closed": N_("closed"),
    "cancelled": N_("cancelled"),
}

SEVERITIES = {
    "emergency": N_("emergency"),
    "urgent": N_("urgent"),
    "routine": N_("routine"),
    "note": N_("note"),
}

CLOCKS = {
    "dispatch": N_("Technician to be arranged"),
    "remote_diagnosis": N_("Remote diagnosis"),
    "repair_start": N_("Repair to begin"),
}

# What comes next where no clock says it.
NEXT_STEPS = {
    "open": N_("To be verified"),
    "verified": N_("Technician to be arranged"),
    "dispatched": N_("Technician to accept"),
    "accepted": N_("Technician to go there"),
    "on_the_way": N_("Technician to arrive"),
    "on_site": N_("Repair to begin"),
    "repairing": N_("Repair to end"),
    "waiting": N_("Waiting"),
    "resolved": N_("To be closed"),
}

VERBS = {
    "verify": N_("Verify"),
    "dispatch": N_("Send technician"),
    "accept": N_("Accept"),
    "decline": N_("Cannot go"),
    "depart": N_("On the way"),
    "arrive": N_("Arrived"),
    "start-repair": N_("Start repair"),
    "resolve": N_("Resolved"),
    "close": N_("Close"),
    "cancel": N_("Cancel ticket"),
}

CONNECTIONS = {"online": N_("online"), "lost": N_("connection lost"), "offline": N_("switched off")}

MACHINE_STATES = {
    "off": N_("off"),
    "cranking": N_("cranking"),
    "running": N_("running"),
    "stopping": N_("stopping"),
    "fault": N_("fault"),
    "unknown": N_("unknown"),
}

NOTICE_KINDS = {
    "dispatch_alert": N_("dispatch alert"),
    "breach_warning": N_("warning before a breach"),
    "breach": N_("breach"),
    "fault_noticed": N_("fault notice to the customer"),
    "fault_resolved": N_("all-clear to the customer"),
}

NOTICE_STATUSES = {
    "queued": N_("queued"),
    "sent": N_("sent"),
    "failed": N_("failed"),
    "withdrawn": N_("withdrawn"),
}

EVIDENCE = {
    "reason": N_("Reason"),
    "value": N_("Value"),
    "limit": N_("Limit"),
    "hold_s": N_("For (s)"),
    "attempts": N_("Attempts"),
    "boots": N_("Boots"),
    "cranked": N_("Cranked"),
    "battery_crank_low": N_("Battery, lowest under crank"),
    "battery_last": N_("Battery, last"),
    "fuel_last": N_("Fuel, last"),
    "code": N_("Code"),
    "spn": "SPN",
    "fmi": "FMI",
    "text": N_("Text"),
    "lamp": N_("Lamp"),
    "lag_s": N_("Clock off by (s)"),
    "score": N_("Deviation"),
    "threshold": N_("Allowed deviation"),
    "since_at": N_("Since"),
    "requested_at": N_("Start requested"),
    "last_heard_at": N_("Last heard"),
}

REASONS = {
    "timeout": N_("cranked, and was not running in time"),
    "never_attempted": N_("start requested, never cranked"),
    "no_signal": N_("no signal since the start"),
    "start_failed": N_("the machine says so"),
    "fault_state": N_("went into fault while starting"),
    "attempts": N_("too many attempts"),
    "boot_loop": N_("its controller boots again and again"),
    "lost": N_("connection lost"),
    "missed_reports": N_("three reports did not come"),
    "clock_ahead": N_("clock ahead"),
    "clock_behind": N_("clock behind"),
    "sensor_removed": N_("the model no longer has this sensor"),
}

TABLES = (
    CONDITIONS, STATUSES, SEVERITIES, CLOCKS, NEXT_STEPS, VERBS, CONNECTIONS, MACHINE_STATES, NOTICE_KINDS,
    NOTICE_STATUSES, EVIDENCE, REASONS,
)  # fmt: skip


@dataclass(frozen=True)
class Labels:
    """The words of one language, for templates."""

    words: Words
    profiles: Mapping[str, Profile]

    def headline(self, ticket: TicketShape) -> str:
        return headline(ticket.kind, ticket.subject, ticket.facts, self._profile(ticket.profile), self.words.lang)

    def fault(self, kind: str, subject: str, evidence: dict[str, JsonValue] | None, profile: str) -> str:
        return headline(kind, subject, evidence, self._profile(profile), self.words.lang)

    def sensor(self, name: str, profile: str) -> str:
        return sensor_title(name, self._profile(profile), self.words.lang)

    def model(self, profile: str | None) -> str:
        found = self._profile(profile)
        if found is None:
            return profile or ""
        return found.title_zh if self.words.lang == "zh" and found.title_zh else found.title

    def next_step(self, status: str, clock: str | None) -> str:
        text = CLOCKS.get(clock, "") if clock else ""
        return self.words.say(text or NEXT_STEPS.get(status, "")) if text or status in NEXT_STEPS else ""

    def condition(self, code: str) -> str:
        return self._of(CONDITIONS, code)

    def status(self, code: str) -> str:
        return self._of(STATUSES, code)

    def severity(self, code: str) -> str:
        return self._of(SEVERITIES, code)

    def clock(self, code: str) -> str:
        return self._of(CLOCKS, code)

    def verb(self, code: str) -> str:
        return self._of(VERBS, code)

    def connection(self, code: str | None) -> str:
        return self._of(CONNECTIONS, code) if code else self.words.say("never heard")

    def machine_state(self, code: str) -> str:
        return self._of(MACHINE_STATES, code)

    def notice_kind(self, code: str) -> str:
        return self._of(NOTICE_KINDS, code)

    def notice_status(self, code: str) -> str:
        return self._of(NOTICE_STATUSES, code)

    def refusal(self, verb: str, status: str, allowed: Sequence[str]) -> str:
        """Why a step was not taken, and what can be done instead."""
        if verb in allowed and verb in ("dispatch", "accept"):
            return self.words.say("Choose the technician who goes.")
        said = self.words.say("This step is not possible now. The ticket stands at: %(status)s.",
                              status=self.status(status))  # fmt: skip
        if not allowed:
            return said + self._gap + self.words.say("No further step is open to you.")
        verbs = self._comma.join(map(self.verb, allowed))
        return said + self._gap + self.words.say("Possible now: %(verbs)s.", verbs=verbs)

    @property
    def _gap(self) -> str:
        return "" if self.words.lang == "zh" else " "

    @property
    def _comma(self) -> str:
        return "、" if self.words.lang == "zh" else ", "

    def evidence(self, facts: Mapping[str, JsonValue], subject: str, profile: str | None) -> list[tuple[str, str]]:
        """The facts of a fault as pairs of a word and what it says, in the order in which people ask."""
        found = [
            (self.words.say(word), self._fact(key, facts[key], subject, profile))
            for key, word in EVIDENCE.items()
            if facts.get(key) is not None
        ]
        return found + self._signs(facts.get("signs"), profile)

    def _fact(self, key: str, value: JsonValue, subject: str, profile: str | None) -> str:
        if key == "reason":
            return self._of(REASONS, str(value))
        if key.endswith("_at") and isinstance(value, int):
            return self.words.moment(value)
        if isinstance(value, bool):
            return self.words.say("yes") if value else self.words.say("no")
        if isinstance(value, int | float):
            unit = self._unit(key, subject, profile)
            return f"{self.words.figure(value)} {unit}".strip()
        return str(value)[:200]

    def _unit(self, key: str, subject: str, profile: str | None) -> str:
        found = self._profile(profile)
        if found is None:
            return ""
        names = {"battery": found.battery_sensor, "fuel": found.fuel_sensor, "value": subject, "limit": subject}
        name = names.get(key.partition("_")[0], "")
        return next((sensor.unit for sensor in found.sensors if sensor.name == name), "") if name else ""

    def _signs(self, signs: JsonValue, profile: str | None) -> list[tuple[str, str]]:
        """Channel by channel how a machine differs from itself when healthy; the strongest are enough."""
        known = [sign for sign in signs if isinstance(sign, dict)] if isinstance(signs, list) else []
        return [
            (self.sensor(str(sign.get("sensor", "")), profile or ""), self._sign(sign)) for sign in known[:5]
        ]  # fmt: skip

    def _sign(self, sign: Mapping[str, JsonValue]) -> str:
        value, expected = sign.get("value"), sign.get("expected")
        if not isinstance(value, int | float) or not isinstance(expected, int | float):
            return ""
        return self.words.say(
            "%(value)s, expected %(expected)s", value=self.words.figure(value), expected=self.words.figure(expected)
        )

    def _of(self, table: Mapping[str, str], code: str) -> str:
        """The word for a code; the code itself where a newer part of the program has more of them than we know."""
        return self.words.say(table[code]) if code in table else code

    def _profile(self, name: str | None) -> Profile | None:
        return self.profiles.get(name) if name else None

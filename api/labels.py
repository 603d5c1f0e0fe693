"""Words for the codes that the record keeps: statuses, kinds, verbs, evidence. All of them stand in the catalogue."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from fastapi import Request
from pydantic import JsonValue

from api.context import api_of
from api.shapes import StepShape, TicketShape
from api.words import NOTHING, Words, words_of
from monitor.desk.explain import Case, Clue
from monitor.desk.notices import headline, sensor_title
from monitor.devices import FaultKind, Profile
from monitor.store.access import Role


def N_(message: str) -> str:  # noqa: N802 the usual name by which extraction finds messages
    """Marks a message for the catalogue where it is written down."""
    return message


ROLES = {
    Role.OPS: N_("operations"), Role.TECHNICIAN: N_("technician"), Role.CUSTOMER: N_("customer"),
    Role.SERVICE: N_("service"), Role.MANAGER: N_("manager"), Role.ADMIN: N_("administrator"),
}  # fmt: skip
CHANNELS = {
    "email": N_("e-mail"), "sms": N_("text message"), "webhook": N_("webhook"), "dingtalk": N_("DingTalk"),
    "wecom": N_("WeCom"), "feishu": N_("Feishu"),
}  # fmt: skip
CONDITIONS = {"good": N_("good"), "bad": N_("bad"), "unknown": N_("unknown")}

# The same as customers read it.
CONDITIONS_TOLD = {
    "good": N_("in order"),
    "bad": N_("has a fault; we take care of it"),
    "unknown": N_("we get no signal from it, and look into that"),
}

STATUSES_TOLD = {
    "open": N_("We know of it."),
    "verified": N_("We know of it."),
    "dispatched": N_("A technician has been asked."),
    "accepted": N_("A technician will come."),
    "on_the_way": N_("The technician is on the way."),
    "on_site": N_("The technician is there."),
    "repairing": N_("It is being repaired."),
    "waiting": N_("It has to wait for the moment."),
    "resolved": N_("It is repaired."),
}

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

# The stages of a ticket's life as the board has them: two of the technician's steps make one column.
STAGES = {
    "open": N_("To be verified"),
    "verified": N_("Verified"),
    "sent": N_("Asked or accepted"),
    "there": N_("On the way, on site"),
    "repairing": N_("Repairing"),
    "waiting": N_("Waiting"),
    "resolved": N_("Resolved"),
}

SEVERITIES = {
    "emergency": N_("emergency"),
    "urgent": N_("urgent"),
    "routine": N_("routine"),
    "note": N_("note"),
}

# What is wrong, where there is room for a few words and no figures are at hand.
KINDS = {
    "startup_failure": N_("Does not start"),
    "limit": N_("A value beyond its limits"),
    "fault_code": N_("Fault code"),
    "weak_battery": N_("Weak battery"),
    "silent": N_("No signal"),
    "sensor": N_("A sensor cannot be trusted"),
    "trend": N_("A value drifts towards its limit"),
    "anomaly": N_("Runs unlike itself"),
    "peer": N_("Unlike others of its model"),
    "wrong_clock": N_("Its clock is wrong"),
    "reported": N_("Reported by a person"),
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
    "pause": N_("Wait"),
    "resume": N_("Go on"),
    "reopen": N_("Reopen"),
    "link": N_("Link with another ticket"),
    "correct": N_("Take back the last step"),
    "report": N_("Reported by a person"),
    "ask": N_("Asked"),
    "decline_ask": N_("Cannot go"),
    "raise": N_("Became graver, or turned out to be something else"),
    "merge": N_("Merge into another ticket"),
    "diagnose": N_("Self-test answered"),
    "diagnose_failed": N_("The machine could not test itself"),
    "no_answer": N_("Self-test: no answer"),
}

# The same in a ticket's course, where they differ: a button says what to do, the course what was done.
DONE = {
    "verify": N_("Verified"),
    "dispatch": N_("Assigned"),
    "accept": N_("Accepted"),
    "decline": N_("Could not go"),
    "start-repair": N_("Repair begun"),
    "close": N_("Closed"),
    "cancel": N_("Cancelled"),
    "pause": N_("Set to wait"),
    "resume": N_("Went on"),
    "reopen": N_("Opened again"),
    "link": N_("Linked"),
    "correct": N_("Last step taken back"),
    "decline_ask": N_("Said no"),
    "merge": N_("Merged"),
}

# The same as whoever takes them says them, on their phone.
TAPS = {
    "accept": N_("I take it"),
    "depart": N_("I am on my way"),
    "arrive": N_("I have arrived"),
    "start-repair": N_("Repair begins"),
    "resolve": N_("It is repaired"),
    "decline": N_("I cannot"),
    "pause": N_("It has to wait"),
    "resume": N_("I go on"),
}

# Why somebody cannot take a job, or cannot go on with it.
CANNOT = {
    "other_job": N_("I have another job"),
    "too_far": N_("I cannot be there in time"),
    "not_trained": N_("I do not know this machine"),
    "no_tools": N_("I have not the tools or the parts"),
    "not_fit": N_("I am ill, or have no vehicle"),
    "other": N_("Another reason"),
}

# By when a promise is to be kept, beside the clock.
DUE_BY = {
    "dispatch": N_("Technician to be arranged by %(when)s"),
    "remote_diagnosis": N_("Remote diagnosis due by %(when)s"),
    "repair_start": N_("Repair to begin by %(when)s"),
}

ORIGINS = {
    "phone": N_("by telephone"),
    "office": N_("noticed by ourselves"),
    "customer": N_("by the customer's page"),
    "label": N_("by the label on the machine"),
}

# Who took a step, where it was nobody whose name we know.
ACTORS = {
    "desk": N_("by itself"),
    "demo": N_("by itself"),
    "triage": N_("by itself"),
    "cli": N_("at the command line"),
    "token": N_("through the API"),
    "customer": N_("the customer"),
}

WAITS = {
    "no_access": N_("No access (customer)"),
    "customer_asked": N_("The customer asked us to wait"),
    "parts": N_("Waits for parts"),
    "weather": N_("Weather"),
    "other": N_("Another reason"),
}

OUTCOMES = {
    "real": N_("a real fault"),
    "nuisance": N_("a false alarm"),
    "wrong_cause": N_("a fault, but another one"),
}

LINKS = {
    "related": N_("related"),
    "returned": N_("the same fault, come back"),
    "merged": N_("merged"),
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
    "technician_arranged": N_("technician announced to the customer"),
    "technician_on_site": N_("arrival told to the customer"),
    "how_was_it": N_("question to the customer: how was it?"),
    "routine_opened": N_("routine ticket, for the day's list"),
    "unreachable": N_("somebody could not be told"),
    "contact_bounced": N_("address not reachable"),
    "digest": N_("several notices in one message"),
    "taken": N_("told that it is taken"),
    "reminder": N_("reminder to go on"),
    "expired": N_("told that the acceptance expired"),
    "untaken": N_("told that nobody has taken it"),
    "at_risk": N_("promise at risk"),
    "handover": N_("shift hand-over"),
    "maintenance_overdue": N_("maintenance overdue"),
    "availability_at_risk": N_("availability at risk"),
    "work_assigned": N_("work order given to somebody"),
    "monthly_report": N_("monthly report"),
    "sign_in_link": N_("sign-in link"),
    "sign_in_changed": N_("told that their sign-in was changed"),
    "test": N_("test"),
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
    "expected": N_("Expected"),
    "band": N_("Ordinary range"),
    "slope_per_h": N_("Change per hour"),
    "reaches_at": N_("Reaches its limit"),
    "reaches_between": N_("Between"),
    "peers": N_("Machines compared with"),
    "flat_s": N_("Stands still for (s)"),
    "flat_samples": N_("Stands still for (readings)"),
    "usual_flat_s": N_("Usually at most (s)"),
    "usual_flat_samples": N_("Usually at most (readings)"),
    "noise": N_("Usual movement"),
    "change_per_s": N_("Possible change per second"),
    "deserved": N_("Why a ticket"),
    "lost": N_("Machines lost"),
    "live": N_("Machines that ought to be heard"),
    "combined_confidence": N_("Sure together"),
}

TO_GO_BY = ("text", "code", "spn", "fmi", "attempts", "battery_crank_low", "battery_last", "fuel_last", "lag_s")
"""Facts that help whoever goes there."""

REASONS = {
    "timeout": N_("cranked, and was not running in time"),
    "never_attempted": N_("start requested, never cranked"),
    "no_signal": N_("no signal since the start"),
    "start_failed": N_("the machine says so"),
    "fault_state": N_("went into fault while starting"),
    "shut_down": N_("stopped by itself while running"),
    "attempts": N_("too many attempts"),
    "boot_loop": N_("its controller boots again and again"),
    "lost": N_("connection lost"),
    "missed_reports": N_("three reports did not come"),
    "clock_ahead": N_("clock ahead"),
    "clock_behind": N_("clock behind"),
    "sensor_removed": N_("the model no longer has this sensor"),
    "stuck": N_("it stands still while the others go on"),
    "jump": N_("it jumped faster than is possible"),
    "spikes": N_("it jumps again and again"),
    "impossible": N_("it shows what cannot be"),
    "level": N_("it stands where it hardly ever stood"),
    "hour": N_("it is unlike what it usually is at this hour"),
    "lasting": N_("for some time it has been unlike what it usually is at these hours"),
}

# Why there is a ticket, where the fault alone was not certain enough.
DESERVED = {
    "certain": N_("it is certain enough"),
    "persisted": N_("it lasted"),
    "combined": N_("several weak signs together"),
    "consequence": N_("it belongs to a graver fault"),
    "recurrence": N_("it came again"),
    "site": N_("its whole site is silent"),
}

OUTLOOKS = {
    "missed": N_("missed"),
    "at_risk": N_("at risk"),
    "running": N_("in time so far"),
    "paused": N_("paused"),
    "unknown": N_("not foreseeable"),
}

CERTAINTIES = {"certain": N_("certain"), "likely": N_("likely"), "possible": N_("possible")}

ALTERNATIVES = {
    "sensor_fault": N_("The sensor or its cable is at fault, and the machine is well"),
    "high_load": N_("The machine is worked harder than usual"),
    "new_operation": N_("The machine is used in another way than before"),
    "fuel_used_up": N_("The fuel was simply used up"),
    "fuel_lost": N_("Fuel leaked out or was taken"),
    "not_charging": N_("The battery is not charged: alternator, belt or wiring"),
    "battery_worn": N_("The battery is worn out, or something drains it at rest"),
    "weak_battery": N_("Weak battery or bad connections"),
    "no_fuel": N_("No fuel"),
    "starter": N_("Starter, its relay or the emergency stop"),
    "engine_fuel_supply": N_("It turns and does not fire: fuel supply, air in it, preheating"),
    "controller": N_("The controller or its power supply"),
    "no_connection": N_("It may run: only the connection is gone"),
    "aborted_by_hand": N_("Somebody broke the start off"),
    "protection": N_("Its own protection stopped it: heat, oil pressure, overload"),
    "stalled": N_("It stalled: fuel supply, a sudden load, something stuck"),
    "stopped_by_hand": N_("Somebody pressed the emergency stop"),
    "radio": N_("Poor reception, or the radio module"),
    "power_off": N_("Somebody switched the power off"),
    "battery_empty": N_("The battery ran empty"),
    "sim_or_network": N_("The SIM card or the network"),
    "load_or_season": N_("Other load or another season, no wear"),
    "sensor_drift": N_("The sensor itself drifts"),
    "other_surroundings": N_("Its place differs: heat, dust, altitude"),
    "wiring": N_("A plug or a cable"),
    "real_change": N_("The machine has really changed that much"),
    "passing_code": N_("A passing code without a lasting fault"),
    "no_time_source": N_("The clock has no time source: no network, no GPS"),
    "clock_battery": N_("The clock's battery: it begins anew after each power cut"),
    "timezone_set": N_("The wrong time zone is set"),
}

CLUES = {
    "sudden": N_("%(sensor)s jumped by %(value)s from one reading to the next"),
    "gradual": N_("%(sensor)s went there over %(value)s min"),
    "moved": N_("%(sensor)s moved at the same time"),
    "still": N_("no other sensor moved"),
    "load_high": N_("%(sensor)s stood at %(value)s"),
    "load_ordinary": N_("%(sensor)s was ordinary: %(value)s"),
    "state_changed": N_("it had changed its state %(value)s min before"),
    "was_running": N_("it was running"),
    "was_not_running": N_("it was not running"),
    "crank_weak": N_("%(sensor)s fell to %(value)s under crank"),
    "crank_well": N_("%(sensor)s held %(value)s under crank"),
    "battery_weak": N_("%(sensor)s was only %(value)s"),
    "battery_well": N_("%(sensor)s was %(value)s"),
    "fuel_low": N_("%(sensor)s was only %(value)s"),
    "fuel_there": N_("%(sensor)s was %(value)s"),
    "cranked": N_("the engine turned"),
    "not_cranked": N_("the engine did not turn"),
    "one_attempt": N_("it was tried only once"),
    "many_attempts": N_("it was tried %(value)s times"),
    "boot_loop": N_("its controller booted again and again"),
    "never_attempted": N_("the start was requested and nothing happened"),
    "no_signal": N_("nothing was heard after the start"),
    "start_failed": N_("the machine itself says that the start failed"),
    "lost": N_("the connection broke without a goodbye"),
    "gaps_before": N_("%(value)s gaps in the minutes before"),
    "no_gaps_before": N_("no gap in the minutes before"),
    "whole_site": N_("the whole site went silent together"),
    "many_signs": N_("%(value)s sensors differ together"),
    "one_sign": N_("only one sensor differs"),
    "no_lamp": N_("the code lights no lamp"),
    "clock_reset": N_("it is off by months or years"),
    "whole_hours": N_("it is off by whole hours: %(value)s"),
}

ROUGH = ("gradual", "state_changed")
"""Clues whose value is a time in minutes."""

COPY_REASONS = {
    "unavailable": N_("the telemetry store is away"),
    "expired": N_("the readings were older than what is kept"),
    "partly_expired": N_("a part was older than what is kept"),
    "ticket_full": N_("the ticket keeps enough readings already"),
    "enough_machines": N_("enough machines of this site are kept"),
    "reduced": N_("more readings than a ticket keeps at full rate: the earlier ones are reduced"),
    "left_out": N_("more sensors or events than a ticket keeps"),
}

PHASES = {
    "opening": N_("until the opening"),
    "after": N_("the minutes after"),
    "course": N_("a week of its course"),
    "clearing": N_("until after the end"),
}

# The machine's file (E5): what an entry is about, and what happened.
FILE_KINDS = {
    "machine": N_("The machine itself"),
    "move": N_("Where it stands"),
    "firmware": N_("Firmware"),
    "credential": N_("Its cards"),
    "rental": N_("Hire"),
    "inspection": N_("Inspections"),
    "fault": N_("Faults"),
    "ticket": N_("Tickets"),
    "part": N_("Parts"),
    "report": N_("What people reported"),
    "maintenance": N_("Maintenance"),
    "meter": N_("Hour meter"),
    "window": N_("Declared windows"),
    "self_test": N_("Self-tests"),
    "spot_check": N_("Spot checks"),
}

FILED = {
    "machine.added": N_("Added to the fleet"),
    "machine.first_heard": N_("Heard for the first time"),
    "machine.retired": N_("Retired"),
    "move.stands": N_("Stands at"),
    "firmware.runs": N_("Firmware"),
    "credential.issued": N_("Card issued"),
    "credential.ended": N_("Card refused from here on"),
    "credential.revoked": N_("All of its cards refused"),
    "rental.began": N_("Hire began"),
    "rental.ended": N_("Hire ended"),
    "rental.handed_over": N_("Handed over to the customer"),
    "rental.returned": N_("Came back from the customer"),
    "inspection.hand_over": N_("Inspected before hand-over"),
    "inspection.return": N_("Inspected on return"),
    "inspection.spot_check": N_("Inspected in use"),
    "inspection.voided": N_("Inspection voided"),
    "fault.opened": N_("Fault began"),
    "fault.cleared": N_("Fault cleared"),
    "ticket.opened": N_("Ticket opened"),
    "ticket.resolution": N_("What it was"),
    "part.fitted": N_("Parts fitted"),
    "report.reported": N_("Problem reported"),
    "maintenance.ordered": N_("Maintenance asked for"),
    "maintenance.done": N_("Maintenance done"),
    "maintenance.cancelled": N_("Maintenance cancelled"),
    "spot_check.drawn": N_("Drawn for a spot check"),
    "spot_check.done": N_("Spot check done"),
    "spot_check.cancelled": N_("Spot check cancelled"),
    "meter.read": N_("Hour meter read"),
    "window.maintenance": N_("Maintenance declared"),
    "window.transport": N_("Transport declared"),
    "self_test.diagnose": N_("Self-test asked for"),
}

# Safety inspections and the hand-over gate (E2, E3, E6).
INSPECTION_KINDS = {
    "hand_over": N_("Inspection for hand-over"),
    "return": N_("Inspection at return"),
    "spot_check": N_("Spot check in use"),
}

INSPECTION_VERDICTS = {
    "pass": N_("in order"),
    "fail": N_("not in order"),
    "not_applicable": N_("does not apply"),
    "left_out": N_("left out"),
}

INSPECTION_REASONS = {
    "found": N_("found by the inspector"),
    "missing": N_("not looked at"),
    "too_low": N_("below what is allowed"),
    "too_high": N_("above what is allowed"),
    "not_a_number": N_("no figure"),
    "must_apply": N_("applies to every machine of this model"),
    "no_reason": N_("does not apply, and no reason was given"),
    "no_reference": N_("no photo can be found by it"),
}

COURSES = {
    "same": N_("as before"),
    "changed": N_("changed"),
    "damage": N_("damage"),
    "faulty_before": N_("not in order before"),
    "mended": N_("in order again"),
    "not_compared": N_("looked at only once"),
}

OBSTACLES = {
    "handed_over": N_("The machine was handed over already: %(handed_over_at)s."),
    "rental_over": N_("The rental is over since %(ends_at)s."),
    "too_early": N_("The rental begins only %(starts_at)s."),
    "retired": N_("The machine is retired."),
    "cut_off": N_("The machine's cards were ended: it cannot connect."),
    "on_hire": N_("The machine is with a customer, or on hire, by rental %(rental_id)s: it has to come back first."),
    "in_window": N_("The machine is in a declared window (%(what)s) until %(ends_at)s."),
    "no_inspection": N_("There is no inspection for hand-over since %(since_at)s."),
    "inspection_old": N_("The inspection of %(inspected_at)s is too old."),
    "inspection_failed": N_("Inspection %(inspection_id)s found something not in order."),
    "maintenance_overdue": N_("Maintenance is overdue since %(overdue_at)s: %(title)s."),
    "critical_fault": N_("A fault is open: %(fault)s."),
    "no_self_test": N_("The machine has answered no self-test lately: ask it for one."),
    "self_test_failed": N_("The machine could not test itself: %(answered_at)s."),
    "not_heard": N_("The machine was not heard in the last minutes."),
}

WINDOW_KINDS = {"maintenance": N_("maintenance"), "transport": N_("transport")}

# Maintenance (E4).
UPKEEP_STATES = {
    "not_due": N_("not due"),
    "due_soon": N_("due soon"),
    "due": N_("due now"),
    "overdue": N_("overdue"),
}

TRIGGERS = {
    "calendar": N_("by the calendar"),
    "hours": N_("by running hours"),
    "starts": N_("by starts"),
    "condition": N_("a trend in its readings"),
    "by_hand": N_("asked for by hand"),
    "imported": N_("taken over from a file"),
    "draw": N_("drawn for a spot check"),
}

SURE = {
    "known": N_("certain"),
    "by_use": N_("reckoned from its use of late"),
    "calendar_only": N_("too little is known of its use"),
}

ORDER_STATUSES = {"open": N_("open"), "done": N_("done"), "cancelled": N_("cancelled")}

UPKEEP_RESULTS = {"ok": N_("in order"), "not_ok": N_("not in order"), "not_applicable": N_("does not apply")}

# What is set up (api/settings.py): what is missing, and what follows from it.
GAPS = {
    "no_technician": N_("There is no technician: nobody can be sent."),
    "nobody_in_charge": N_("There is nobody of operations, nor a manager or administrator: nobody hears of breaches."),
    "contacts_bounced": N_("Contacts that do not work: %(number)s. Those people hear nothing by them."),
    "nobody_certified": N_("Nobody is certified for %(model)s: nobody is proposed for its machines (%(number)s)."),
    "no_certificates": N_("No certificates are kept: every technician may be sent to every machine."),
    "certificates_lapse": N_("Certificates that end within %(days)s days, or have ended: %(number)s."),
    "no_rota": N_("No rota is kept: all technicians are alerted at once."),
    "no_rotation": N_("Nobody is on call outside working hours: there is no rotation."),
    "on_call_gap": N_("From %(from_at)s on nobody is on call."),
    "sites_nowhere": N_(
        "Sites of which it is not known where they are: %(number)s. Nobody can say how long the way there takes."
    ),
    "model_unknown": N_("Model %(model)s has no file: its machines (%(number)s) are not judged."),
    "no_channels": N_("No process delivers notices: nobody is told anything."),
}

# The clocks of the service standard, as promises.
CLAUSES = {
    "dispatch": N_("A technician is arranged within %(time)s."),
    "remote_diagnosis": N_("A remote diagnosis is given within %(time)s."),
    "repair_start": N_("The repair has begun within %(time)s."),
}

# Why a message was rejected (docs/wire-contract.md), and what to do about it.
REJECTED = {
    "bad_json": N_("not JSON, or not UTF-8"),
    "bad_type": N_("a field of another type than the contract has"),
    "missing_field": N_("a field is missing"),
    "bad_value": N_("a value that cannot be"),
    "out_of_range": N_("a number outside its range"),
    "bad_name": N_("a name that cannot be"),
    "too_many_values": N_("too many values in one reading"),
    "too_large": N_("too large"),
    "too_deep": N_("nested too deep"),
    "unreadable": N_("we failed at reading it"),
    "too_many_bad": N_("too many bad elements in one message"),
    "bad_topic": N_("a topic that is not in the contract"),
    "unknown_device": N_("from a machine that is not known, or whose access has ended"),
    "clock_ahead": N_("its clock is ahead"),
    "too_old": N_("older than what is kept"),
    "boot_reused": N_("a number that was used already"),
    "store_refused": N_("the store of readings refused it"),
}
REJECTED_ADVICE = {
    "bad_json": N_(
        "Its firmware builds the text itself, or cuts it off. Look at the excerpt, and send it to who wrote "
        "the firmware."
    ),
    "bad_type": N_("The firmware and the wire contract differ: compare the field with the contract."),
    "missing_field": N_("The firmware leaves out what the contract asks for: compare its version with the contract."),
    "bad_value": N_("NaN, Infinity, an unknown word, or a text too long: a sensor without a value must be left out."),
    "out_of_range": N_("boot, seq, at, spn and fmi are whole numbers from 0 to 2^53: look for an overflow."),
    "bad_name": N_("Names in values have 1 to 64 characters that can be printed."),
    "too_many_values": N_("At most 256 values go into one reading: send several."),
    "too_large": N_("At most 200 KB go into one message: send smaller batches."),
    "too_deep": N_("At most 16 levels of nesting are read: flatten it."),
    "unreadable": N_("This is ours to mend: please report the message."),
    "too_many_bad": N_("More than 20 elements of one array were bad: the first ones are listed by themselves."),
    "bad_topic": N_("The box has the topic of another machine or an old card: renew its card (fettle device renew)."),
    "unknown_device": N_(
        "Its card is of an earlier generation, or it was never added: add it, or renew its card "
        "(fettle device renew), and put the new one into the box."
    ),
    "clock_ahead": N_("Its clock runs more than 5 minutes ahead: the box must ask for the time before it sends."),
    "too_old": N_("The box sends what is past keeping: its clock is wrong, or its backlog too long."),
    "boot_reused": N_(
        "The box counts boot or seq from the start again: they must survive a restart. Was the box "
        "replaced, renew its card (fettle device renew)."
    ),
    "store_refused": N_("The store of readings would not take it: its message says why."),
}

# What stands in the way of a hand-over: the next right step.
STEPS_TO_HAND_OVER = {
    "on_hire": N_("See the other rental"),
    "in_window": N_("See the machine"),
    "no_inspection": N_("Inspect it"),
    "inspection_old": N_("Inspect it again"),
    "inspection_failed": N_("Inspect it again"),
    "maintenance_overdue": N_("See its maintenance"),
    "critical_fault": N_("See the fault"),
    "no_self_test": N_("Ask for a self-test"),
    "self_test_failed": N_("Ask for a self-test"),
    "not_heard": N_("See the machine"),
}

# Reliability: where failures come from. A component is a sensor, or one of these.
PARETOS = {"model": N_("By model"), "component": N_("By component"), "cause": N_("By cause")}

TABLES = (
    GAPS, CLAUSES, REJECTED, REJECTED_ADVICE, STEPS_TO_HAND_OVER, PARETOS,
    UPKEEP_STATES, TRIGGERS, SURE, ORDER_STATUSES, UPKEEP_RESULTS, TAPS, CANNOT, DUE_BY,
    KINDS, OUTLOOKS, DESERVED, CERTAINTIES, ALTERNATIVES, CLUES, COPY_REASONS, PHASES, CONDITIONS, STATUSES,
    SEVERITIES, CLOCKS, NEXT_STEPS, VERBS, DONE, ORIGINS, ACTORS, WAITS, OUTCOMES, LINKS, CONNECTIONS, MACHINE_STATES,
    NOTICE_KINDS, NOTICE_STATUSES, EVIDENCE, REASONS, STAGES, CONDITIONS_TOLD, STATUSES_TOLD, FILE_KINDS, FILED,
    INSPECTION_KINDS, INSPECTION_VERDICTS, INSPECTION_REASONS, COURSES, OBSTACLES, WINDOW_KINDS,
)  # fmt: skip


class Titled(Protocol):
    """What has a title in both languages."""

    title_en: str
    title_zh: str


class Used(Protocol):
    """A forecast from how a machine is used."""

    sure: str
    use_h_per_day: float | None
    left_h: float | None
    left_starts: int | None


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

    def unit(self, sensor: str, profile: str | None) -> str:
        return _unit_of(sensor, self._profile(profile))

    def model(self, profile: str | None) -> str:
        found = self._profile(profile)
        if found is None:
            return profile or ""
        return found.title_zh if self.words.lang == "zh" and found.title_zh else found.title

    def title(self, one: Titled) -> str:
        """What has a title in both languages."""
        return one.title_zh if self.words.lang == "zh" else one.title_en

    def date(self, at: int) -> str:
        """A day with its year: what is planned may lie far ahead."""
        return self.words.stamp(at)[:10]

    def upkeep_state(self, code: str) -> str:
        return self._of(UPKEEP_STATES, code)

    def trigger(self, code: str) -> str:
        return self._of(TRIGGERS, code)

    def order_status(self, code: str) -> str:
        return self._of(ORDER_STATUSES, code)

    def upkeep_result(self, code: str) -> str:
        return self._of(UPKEEP_RESULTS, code)

    def upkeep_use(self, one: Used) -> str:
        """How sure a forecast is, and what it rests on."""
        say, said = self.words.say, [self._of(SURE, one.sure)]
        if one.use_h_per_day is not None:
            said.append(say("%(hours)s h a day", hours=self.words.figure(one.use_h_per_day)))
        if one.left_h is not None:
            said.append(say("%(hours)s h left", hours=self.words.figure(one.left_h)))
        if one.left_starts is not None:
            said.append(say("%(number)s starts left", number=one.left_starts))
        return " · ".join(said)

    def next_step(self, status: str, clock: str | None) -> str:
        text = CLOCKS.get(clock, "") if clock else ""
        return self.words.say(text or NEXT_STEPS.get(status, "")) if text or status in NEXT_STEPS else ""

    def condition(self, code: str) -> str:
        return self._of(CONDITIONS, code)

    def status(self, code: str) -> str:
        return self._of(STATUSES, code)

    def condition_told(self, code: str) -> str:
        return self._of(CONDITIONS_TOLD, code)

    def status_told(self, code: str) -> str:
        return self._of(STATUSES_TOLD, code)

    def severity(self, code: str) -> str:
        return self._of(SEVERITIES, code)

    def clock(self, code: str) -> str:
        return self._of(CLOCKS, code)

    def verb(self, code: str) -> str:
        return self._of(VERBS, code)

    def kind(self, code: str) -> str:
        return self._of(KINDS, code)

    def tap(self, code: str) -> str:
        """A step as whoever takes it says it."""
        return self._of(TAPS, code)

    def cannot(self, code: str) -> str:
        return self._of(CANNOT, code)

    def due_by(self, code: str, when: str) -> str:
        """What must be done by when."""
        return self.words.say(DUE_BY[code], when=when) if code in DUE_BY else self.colon(self.clock(code), when)

    def done(self, code: str) -> str:
        """A step in a ticket's course."""
        return self._of(DONE if code in DONE else VERBS, code)

    def step_told(self, step: StepShape) -> str:
        """A step in a few words: what, by whom, when."""
        what = self.colon(self.done(step.event), step.technician_name or "")
        by = (step.actor_name or self.actor(step.actor), self.words.moment(step.recorded_at))
        return f"{what} ({self.listed(filter(None, by))})"

    def actor(self, code: str) -> str:
        """Who took a step; empty where the step itself says so."""
        kind = code.partition(":")[0]
        return self.words.say(ACTORS[kind]) if kind in ACTORS else ""

    def outlook(self, code: str) -> str:
        return self._of(OUTLOOKS, code)

    def connection(self, code: str | None) -> str:
        return self._of(CONNECTIONS, code) if code else self.words.say("never heard")

    def machine_state(self, code: str) -> str:
        return self._of(MACHINE_STATES, code)

    def notice_kind(self, code: str) -> str:
        return self._of(NOTICE_KINDS, code)

    def notice_status(self, code: str) -> str:
        return self._of(NOTICE_STATUSES, code)

    def refusal(self, status: str, allowed: Sequence[str]) -> str:
        """Why a step was not taken, and what can be done instead."""
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

    def figures(self, facts: Mapping[str, JsonValue], subject: str, profile: str | None) -> list[tuple[str, str]]:
        """Of the facts those that the sentence does not say, and that whoever goes there wants to know."""
        return [
            (self.words.say(EVIDENCE[key]), self._fact(key, facts[key], subject, profile))
            for key in TO_GO_BY if facts.get(key) not in (None, "")
        ]  # fmt: skip

    def _fact(self, key: str, value: JsonValue, subject: str, profile: str | None) -> str:
        if key in ("reason", "deserved"):
            return self._of(REASONS if key == "reason" else DESERVED, str(value))
        if isinstance(value, list):
            each = "_at" if key.endswith("_between") else key
            return f" {NOTHING} ".join(self._fact(each, one, subject, profile) for one in value[:2])
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
        names = {"battery": found.battery_sensor, "fuel": found.fuel_sensor}
        names |= dict.fromkeys(("value", "limit", "expected", "band", "noise"), subject)
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

    def self_test(self, facts: Mapping[str, JsonValue], profile: str) -> list[tuple[str, str]]:
        """What a machine answered beyond its checks, path by path, as far as we know words for it."""
        known = {"state": self.words.say("State"), "firmware": self.words.say("Firmware")}
        return [
            (known.get(path) or self.sensor(path, profile), self._answered(path, value, profile))
            for path, value in facts.items() if value is not None
        ]  # fmt: skip

    def _answered(self, path: str, value: JsonValue, profile: str) -> str:
        if path == "state":
            return self.machine_state(str(value))
        if isinstance(value, bool):
            return self.words.say("yes") if value else self.words.say("no")
        if isinstance(value, int | float):
            return f"{self.words.figure(value)} {self.unit(path, profile)}".strip()
        return str(value)

    def colon(self, what: str, about: str) -> str:
        return f"{what}{self._colon}{about}" if about else what

    wait_reasons = tuple(WAITS)

    def wait_reason(self, code: str) -> str:
        return self._of(WAITS, code)

    def origin(self, code: str) -> str:
        return self._of(ORIGINS, code)

    def file_kind(self, code: str) -> str:
        return self._of(FILE_KINDS, code)

    def filed(self, kind: str, what: str) -> str:
        """What an entry of a machine's file says; the steps of tickets have their own words."""
        return self._of(FILED, f"{kind}.{what}") if f"{kind}.{what}" in FILED else self.done(what)

    def outcome(self, code: str) -> str:
        return self._of(OUTCOMES, code)

    def link(self, code: str) -> str:
        return self._of(LINKS, code)

    def step_reason(self, verb: str, reason: str, chosen: Callable[[str], str]) -> str:
        """Why somebody took a step, or how a report came: ours, but of a false alarm from the operators' list."""
        table = {"pause": WAITS, "report": ORIGINS}.get(verb)
        return "" if not reason else self._of(table, reason) if table else chosen(reason)

    # --- inspections and the gate ---

    def inspection(self, code: str) -> str:
        return self._of(INSPECTION_KINDS, code)

    def verdict(self, code: str) -> str:
        return self._of(INSPECTION_VERDICTS, code)

    def fails_for(self, code: str) -> str:
        return self._of(INSPECTION_REASONS, code)

    def course(self, code: str) -> str:
        return self._of(COURSES, code)

    def item(self, title: str, title_zh: str) -> str:
        """An item of a checklist, which has its own words."""
        return title_zh if self.words.lang == "zh" and title_zh else title

    def allowed(self, low: float | None, high: float | None, unit: str) -> str:
        """The limits of a measured value."""
        figure = self.words.figure
        if low is not None and high is not None:
            return f"{figure(low)} {NOTHING} {figure(high)} {unit}".strip()
        return f"≥ {figure(low)} {unit}".strip() if low is not None else f"≤ {figure(high)} {unit}".strip()

    def obstacle(self, code: str, facts: Mapping[str, int | str], profile: str) -> str:
        """What stands in the way of a hand-over, in a sentence."""
        told: dict[str, int | str] = {
            key: self.words.moment(value) if key.endswith("_at") and isinstance(value, int) else value
            for key, value in facts.items()
        }
        told["what"] = self._of(WINDOW_KINDS, str(facts.get("what", "")))
        told["title"] = self.item(str(facts.get("title_en", "")), str(facts.get("title_zh", "")))
        if "kind" in facts:
            told["fault"] = self.fault(str(facts.get("kind", "")), str(facts.get("subject", "")), None, profile)
        return self.words.say(OBSTACLES[code], **told) if code in OBSTACLES else code

    # --- what is set up ---

    def gap(self, code: str, facts: Mapping[str, int | str]) -> str:
        """What is missing, and what follows."""
        told = {key: self.words.moment(value) if key.endswith("_at") and isinstance(value, int) else value
                for key, value in facts.items()}  # fmt: skip
        known = {**told, "model": self.model(str(facts.get("profile", "")))}
        return self.words.say(GAPS[code], **known) if code in GAPS else code

    def clause(self, kind: str, length_s: float | None, length_days: int | None) -> str:
        """A clock of the service standard as a promise."""
        time = self.length(length_s) if length_s is not None else self.words.say(
            "%(number)s working days", number=length_days
        )  # fmt: skip
        return self.words.say(CLAUSES[kind], time=time) if kind in CLAUSES else f"{kind}: {time}"

    def length(self, seconds: float) -> str:
        """A length of time in the largest unit that it is a whole number of, up to days."""
        for unit_s, unit in ((86_400, N_("%(number)s d")), (3600, N_("%(number)s h")), (60, N_("%(number)s min"))):
            if seconds >= unit_s and seconds % unit_s == 0 and not (unit_s == 86_400 and seconds < 2 * unit_s):
                return self.words.say(unit, number=round(seconds / unit_s))
        return self.words.say("%(number)s s", number=self.words.figure(seconds))

    def listed(self, names: Iterable[str]) -> str:
        """Some things one after the other."""
        return ("\u3001" if self.words.lang == "zh" else ", ").join(names)

    @property
    def rejected_reasons(self) -> Sequence[str]:
        """Every reason that there is, in the order of the contract."""
        return tuple(REJECTED)

    def rejected(self, reason: str) -> str:
        return self._of(REJECTED, reason)

    def rejected_advice(self, reason: str) -> str:
        return self._of(REJECTED_ADVICE, reason) if reason in REJECTED_ADVICE else ""

    def step_to_hand_over(self, code: str) -> str:
        return self._of(STEPS_TO_HAND_OVER, code) if code in STEPS_TO_HAND_OVER else ""

    def pareto(self, by: str) -> str:
        return self._of(PARETOS, by)

    # --- how we know ---

    def certainty(self, code: str) -> str:
        return self._of(CERTAINTIES, code)

    def alternative(self, code: str) -> str:
        return self._of(ALTERNATIVES, code)

    def copy_reason(self, code: str) -> str:
        return self._of(COPY_REASONS, code)

    def phase(self, code: str) -> str:
        return self._of(PHASES, code)

    def clue(self, clue: Clue, profile: Profile | None) -> str:
        """What speaks for or against a cause; values carry the unit of their sensor."""
        unit = _unit_of(clue.sensor, profile) if clue.code not in ROUGH else ""
        return self.words.say(
            CLUES.get(clue.code, "%(sensor)s"),
            sensor=sensor_title(clue.sensor, profile, self.words.lang) if clue.sensor else clue.code,
            value=f"{self.words.figure(_short(clue.value, 2 if clue.code in ROUGH else 3))} {unit}".strip(),
        )

    def sentence(self, case: Case) -> str:
        """Why this is a fault, in a sentence. Where a fact is missing, the headline."""
        lang = self.words.lang
        made = self._sentence(case, sensor_title(case.subject, case.profile, lang) if case.subject else "")
        return made or headline(case.kind, case.subject, case.evidence, case.profile, lang)

    def _sentence(self, case: Case, sensor: str) -> str:
        say, unit = self.words.say, _unit_of(case.subject, case.profile)

        def figure(key: str, of: str = unit) -> str:
            value = case.number(key)
            return "" if value is None else f"{self.words.figure(_short(value))} {of}".strip()

        value, limit, expected = figure("value"), figure("limit"), figure("expected")
        if case.kind == FaultKind.LIMIT and value and limit:
            text = (
                N_("%(sensor)s was below %(limit)s for %(hold)s s; when the ticket opened it was %(value)s.")
                if case.evidence.get("side") == "below"
                else N_("%(sensor)s was above %(limit)s for %(hold)s s; when the ticket opened it was %(value)s.")
            )
            return say(text, sensor=sensor, limit=limit, value=value, hold=figure("hold_s", "") or "0")
        if case.kind == FaultKind.WEAK_BATTERY and value and limit:
            return say("%(sensor)s had sunk to %(value)s while the machine stood; a battery that starts it surely "
                       "shows %(limit)s or more.", sensor=sensor, value=value, limit=limit)  # fmt: skip
        if case.kind == FaultKind.TREND and figure("slope_per_h") and case.number("reaches_at"):
            at = self.words.moment(int(case.number("reaches_at") or 0))
            return say("%(sensor)s changes by %(slope)s an hour and will reach %(limit)s about %(at)s.",
                       sensor=sensor, slope=figure("slope_per_h"), limit=limit or NOTHING, at=at)  # fmt: skip
        if value and expected:
            return say("%(sensor)s was %(value)s where %(expected)s was to be expected.",
                       sensor=sensor, value=value, expected=expected)  # fmt: skip
        return self._sentence_of_reason(case, sensor)

    def _sentence_of_reason(self, case: Case, sensor: str) -> str:
        """For the kinds that stand on a reason, or on several signs, rather than on one value."""
        say, stop = self.words.say, "。" if self.words.lang == "zh" else "."
        reason = case.evidence.get("reason")
        why = self._of(REASONS, str(reason))[:200] if reason else ""
        signs = self._signs_told(case)
        if case.kind == FaultKind.ANOMALY and signs:
            return say("The machine differs from itself when healthy: %(signs)s.", signs=signs)
        if case.kind == FaultKind.SILENT and why:
            since = self.words.moment(int(case.number("last_heard_at") or case.occurred_at))
            return say("Nothing was heard since %(at)s: %(why)s.", at=since, why=why)
        if case.kind == FaultKind.SENSOR and why:
            return f"{sensor}{self._colon}{why}{stop}"
        if case.kind == FaultKind.STARTUP_FAILURE and why:
            return say("It did not start: %(why)s.", why=why)
        return ""

    def _signs_told(self, case: Case) -> str:
        signs = case.evidence.get("signs")
        known = [sign for sign in signs if isinstance(sign, dict)] if isinstance(signs, list) else []
        said = [(sensor_title(str(one.get("sensor", "")), case.profile, self.words.lang), self._sign(one))
                for one in known[:2]]  # fmt: skip
        return self._comma.join(f"{name} {text}" for name, text in said if text)

    @property
    def _colon(self) -> str:
        return "\uff1a" if self.words.lang == "zh" else ": "

    def _of(self, table: Mapping[str, str], code: str) -> str:
        """The word for a code; the code itself where a newer part of the program has more of them than we know."""
        return self.words.say(table[code]) if code in table else code

    def _profile(self, name: str | None) -> Profile | None:
        return self.profiles.get(name) if name else None


def labels_of(request: Request, lang: str) -> Labels:
    """The words of a language, in the reader's zone."""
    api = api_of(request)
    return Labels(words_of(request, lang, api.timezone), api.profiles)


def _unit_of(sensor: str, profile: Profile | None) -> str:
    sensors = profile.sensors if profile else ()
    return next((one.unit for one in sensors if one.name == sensor), "")


def _short(value: float | None, digits: int = 3) -> float | None:
    """A few digits are enough in a sentence."""
    return None if value is None else float(f"{value:.{digits}g}") if abs(value) < 100 else round(value, 1)

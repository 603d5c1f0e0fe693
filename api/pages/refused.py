"""What the desk and the store refuse, and what the API finds wrong with a field, in the reader's language.

Their own words are English, for programs and the command line. Each that a form can meet stands here as a pattern with
the message that people read; one that does not is shown in English, marked as such.
"""

import re
from dataclasses import dataclass

from api.labels import N_
from api.words import Words

FIELD = re.compile(r"^([a-z_]+(?:\.[A-Za-z0-9_-]+)*): (.*)$", re.DOTALL)


@dataclass(frozen=True)
class Refused:
    """A refusal as people read it. `field`: what of the form it is about, as the API has it, '' where it is about none;
    `known`: the words are the reader's language."""

    words: str
    field: str = ""
    known: bool = True


@dataclass(frozen=True)
class Rule:
    pattern: re.Pattern[str]
    message: str
    field: str = ""
    """Where the refusal does not begin with it; with a named group of the pattern in it, it says it better."""


def rule(pattern: str, message: str, field: str = "") -> Rule:
    """`message` has the pattern's named groups as its gaps."""
    return Rule(re.compile(pattern, re.DOTALL), message, field)


NEEDED = N_("This is needed.")
NO_SUCH_CHOICE = N_("Choose one of those that are offered.")
NO_CERTIFICATE = N_("This person has no valid certificate for %(model)s (P1).")
RETIRED = N_("Machine %(machine)s is retired.")
IN_ORDER = N_("The end must lie after the beginning.")
TOGETHER = N_("Latitude and longitude go together: give both or none.")
RESOLUTION_LACKS = N_("Something is missing. Say what it was, what was done, and which parts.")
NO_ZONE = N_("There is no such time zone.")

RULES = (
    # What the API finds wrong with a field (pydantic's words).
    rule(r"Field required|(String|List) should have at least 1 (character|item).*|Input should be a valid .*", NEEDED),
    rule(r"String should have at most (?P<most>\d+) characters?", N_("At most %(most)s characters.")),
    rule(r"List should have at most (?P<most>\d+) items?.*", N_("At most %(most)s.")),
    rule(r"Input should be greater than or equal to (?P<least>\S+)", N_("It must be at least %(least)s.")),
    rule(r"Input should be less than or equal to (?P<most>\S+)", N_("It must be at most %(most)s.")),
    rule(r"Input should be less than \S+", N_("The number is too large.")),
    rule(r"Input should be '.*|String should match pattern.*", NO_SUCH_CHOICE),
    rule(r"no control characters .*", N_("No control characters are allowed in it.")),
    rule(r"lies outside the years 2000 to 2099", N_("It lies outside the years 2000 to 2099.")),
    rule(r"lies more than ten years from now", N_("It lies more than ten years from now.")),
    rule(r"must be the name of a file, or an http\(s\) address", N_("Give the name of a file, or an address.")),
    # People, sites, customers.
    rule(r"(person|customer) (?P<number>\d+) was erased", N_("Number %(number)s was erased, and stays so.")),
    rule(r"(site|person|rotation|customer) (?P<name>'.*') exists already", N_("%(name)s exists already."), "name"),
    rule(r"customer (?P<number>\d+) has this name already", N_("Customer %(number)s has this name already."), "name"),
    rule(r"contract \d+ has the number (?P<number>.+) already",
         N_("There is a contract %(number)s already."), "number"),
    rule(r"e-mail '.*': one plain .*", N_("Give one plain address, such as name@example.com."), "email"),
    rule(r"1 to (?P<most>\d+) printable characters are allowed.*", N_("Give 1 to %(most)s printable characters.")),
    rule(r"at most (?P<most>\d+) (printable )?characters are allowed", N_("At most %(most)s printable characters.")),
    rule(r"lat_deg and lon_deg.*", TOGETHER, "lat_deg"),
    rule(r"both or none are known", TOGETHER, "lat_deg"),
    rule(r"timezone '.*' is not known.*|'.*' is not a time zone .*", NO_ZONE, "timezone"),
    rule(r"--customer NAME .*", N_("Somebody of the role customer, and nobody else, is with a customer."), "customer"),
    rule(r"customer '.*' is not known.*", N_("There is no such customer."), "customer"),
    rule(r"the end must lie after the beginning|must lie after starts_at|from_at \d+ must lie before .*", IN_ORDER,
         "until_at"),
    rule(r"each model once|each address once", N_("Each only once.")),
    rule(r"profile '.*': known are .*", N_("There is no such model here; known are those of the settings."), "model"),
    rule(r"(certificates|hours|absences|contacts): at most (?P<most>\d+) are kept.*",
         N_("At most %(most)s are kept.")),
    rule(r"at most (?P<most>\d+) are kept.*", N_("At most %(most)s are kept.")),
    rule(r"person \d+: nobody of the company .*",
         N_("This is nobody of the company who could be on call."), "person_id"),
    rule(r"rotation \d+ has nobody who could take a turn", N_("Name who takes turns."), "person"),
    rule(r"hours \d+ to \d+ must be two minutes .*", N_("A spell begins and ends at two different times.")),
    rule(r"the address must be an e-mail.*", N_("Give one plain address, such as name@example.com.")),
    rule(r"the address must be a number in the international form.*",
         N_("Give a number in the international form, such as +8613800000000.")),
    rule(r"there is no channel .*|channel: 1 to .*", N_("There is no such channel."), "channel"),
    rule(r"the address must be .*", N_("Give the name of a room that is set up.")),
    rule(r"person \d+ has left: .*", N_("They have left: enable the account first.")),
    rule(r"a customer's account stays one, .*", N_("A customer's account stays one, and no other becomes one.")),
    rule(r"a technician's token bears this name; .*",
         N_("A technician's token bears this name: whoever runs the service has to end it first."), "name"),
    rule(r"somebody else with the same e-mail address has a password",
         N_("Somebody else with this e-mail address has a password: give an address of their own.")),
    # Machines and rentals.
    rule(r"there is no machine .*|There is no such machine here\.", N_("There is no such machine."), "device_id"),
    rule(r"there is no (customer|contract|site) \d+", NO_SUCH_CHOICE),
    rule(r"contract \d+ is customer \d+'s", N_("This contract is another customer's.")),
    rule(r"(contract_id or customer_id: )?one of them is needed",
         N_("Name the customer or the contract."), "customer_id"),
    rule(r"machine (?P<machine>\S+) is retired( already)?", RETIRED, "device_id"),
    rule(r"machine (?P<machine>\S+) is on hire in this period already: rental (?P<rental>\d+)",
         N_("Machine %(machine)s is on hire in this period already, by rental %(rental)s."), "device_id"),
    rule(r"machine (?P<machine>\S+) is with its customer by rental (?P<rental>\d+): .*",
         N_("Machine %(machine)s is with its customer by rental %(rental)s: it has to come back first.")),
    rule(r"rental (?P<rental>\d+) of machine (?P<machine>\S+) .*: end it first",
         N_("Machine %(machine)s is on hire, or will be, by rental %(rental)s: end it first.")),
    rule(r"machine (?P<machine>\S+) has tickets that are not resolved: (?P<tickets>.*); .*",
         N_("Machine %(machine)s has tickets that are not resolved: %(tickets)s. Resolve or cancel them first.")),
    rule(r"rental (?P<rental>\d+) is over already", N_("Rental %(rental)s is over already.")),
    rule(r"the machine of rental (?P<rental>\d+) came back already", N_("The machine came back already.")),
    rule(r"rental (?P<rental>\d+) has not begun: .*",
         N_("The rental has not begun: no machine can come back from it.")),
    rule(r"rental (?P<rental>\d+) does not run at that moment", N_("The rental does not run at that moment."), "at"),
    rule(r"must lie between the hand-over .*",
         N_("It must lie between the hand-over (or else the beginning of the rental) and now.")),
    rule(r"\S+ is the machine that is to be exchanged", N_("This is the machine that is to be exchanged.")),
    # Inspections.
    rule(r"sign with your own name.*", N_("Sign with your own name, as it is known here.")),
    rule(r"(inspector: )?person \d+ has no valid certificate for (?P<model>\S+) \(P1\)", NO_CERTIFICATE),
    rule(r"\d+ is no rental of .*", N_("This rental is not this machine's.")),
    rule(r"machine (?P<machine>\S+) is on hire to nobody, and was not",
         N_("Machine %(machine)s is on hire to nobody, and was not.")),
    rule(r"machine (?P<machine>\S+) is not on hire at that moment", N_("Machine %(machine)s is not on hire.")),
    rule(r"rental \d+ had not begun by then.*|the machine was handed over .* only after that",
         N_("The machine had not gone out by then.")),
    rule(r"an inspection is written down within (?P<hours>\d+) h.*",
         N_("An inspection is written down within %(hours)s h, and not before it happened.")),
    rule(r"\S+ is not on the checklist, or stands there twice", N_("The checklist has changed: look at it again.")),
    rule(r"inspection \d+ is voided already", N_("The inspection is voided already.")),
    # Maintenance.
    rule(r"work order (?P<order>\d+) is (done|cancelled)", N_("Work order %(order)s is not open any more.")),
    rule(r"work order \d+ is a spot check.*", N_("A spot check is ended by its inspection.")),
    rule(r"work order (?P<order>\d+) is open for .*", N_("Work order %(order)s is open for this already.")),
    rule(r"work order (?P<order>\d+) on (?P<machine>\S+) was given to somebody else",
         N_("Somebody else was given this meanwhile: work order %(order)s on %(machine)s. Nothing was given.")),
    rule(r"there is nobody \d+ who could do it", N_("There is nobody who could do it.")),
    rule(r"missing is how these were found: (?P<first>[\w-]+).*", N_("Say of each thing how it was found."),
         "result.{first}"),
    rule(r"(?P<first>[\w-]+).*: what is not in order needs a note of what is wrong",
         N_("What is not in order needs a remark: what is wrong with it."), "note.{first}"),
    rule(r".*: not on the checklist of this order", N_("The checklist has changed: look at it again.")),
    rule(r"what does the new meter show\?", N_("What does the new meter show?")),
    rule(r"hours (?P<hours>\S+): lies below .*",
         N_("%(hours)s h lies below what the meter showed before. Was it replaced?"), "meter_hours"),
    rule(r"hours (?P<hours>\S+): shows more .*", N_("%(hours)s h is more than has passed. Was the meter replaced?"),
         "meter_hours"),
    rule(r"the same plan was done later than that already", N_("The same was done later than that already.")),
    rule(r"plan '.*': on this machine there are .*", N_("This machine has no such plan.")),
    # Tickets.
    rule(r"(dispatch|accept) needs technician_id.*|no technician has this id.*", N_("Choose the technician who goes."),
         "technician_id"),
    rule(r"verify needs note.*", N_("Say what is wrong, as it looks from here."), "note"),
    rule(r"cancel needs reason.*", N_("Say what was wrong with the alarm."), "reason"),
    rule(r"resolve needs cause.*", RESOLUTION_LACKS, "cause"),
    rule(r"(merge|link) needs other_id.*", N_("Give the number of another ticket."), "other_id"),
    rule(r"pause needs reason.*", N_("Say why it waits."), "reason"),
    rule(r"pause needs until_at.*", N_("Say until when the customer keeps us waiting."), "wait_h"),
    rule(r"it must lie in the future, at most (?P<days>\d+) days ahead",
         N_("It must lie in the future, at most %(days)s days ahead.")),
    rule(r"(?P<field>cause|action|borne_by|reason) '.*' is not among: .*", NO_SUCH_CHOICE, "{field}"),
    rule(r"ticket (?P<ticket>\d+) is (closed|cancelled|merged); merge into one that is open",
         N_("Ticket %(ticket)s is not open any more.")),
    rule(r"ticket (?P<ticket>\d+) is of another machine; .*",
         N_("Ticket %(ticket)s is of another machine: link them instead.")),
    rule(r"at most 50, each of at most 120 characters", N_("At most 50 parts, each of at most 120 characters.")),
    rule(r"lies more than (?P<hours>\d+) h back; .*",
         N_("It lies more than %(hours)s h back: leave it out, and say in the text since when it is so.")),
    # Notices.
    rule(r"Operations has no webhook.*", N_("Operations has no webhook.")),
)  # fmt: skip


def in_words(detail: str, words: Words) -> Refused:
    """A refusal in the reader's language, and which field it is about."""
    found = FIELD.match(detail)
    field, rest = (found[1], found[2]) if found else ("", detail)
    for text, named in ((rest, field), (detail, "")):
        for one in RULES:
            if match := one.pattern.fullmatch(text):
                facts = {name: value or "" for name, value in match.groupdict().items()}
                about = one.field.format(**facts)
                return Refused(words.say(one.message, **facts), about if "{" in one.field else named or about)
    return Refused(detail, field, known=words.lang == "en")

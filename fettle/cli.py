"""The command line: `fettle COMMAND`. Everything that answers with data does so as JSON with --json."""

import json
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from fettle import logs
from fettle.cards import Card, drop_ended_logins, issue_card
from fettle.house import CannotStart, clock, customer_url, house, label_url, sign_in_url
from fettle.settings import BadSettings, misspelt, read_settings
from ingest.connection import BadAddress
from monitor.store import access
from monitor.store.access import Role
from monitor.store.profiles import BadProfile
from monitor.store.registry import Refused, Registry, customer_id, person_id

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Device-health monitoring for companies that rent out equipment.")  # fmt: skip
device = typer.Typer(no_args_is_help=True, help="Machines and their credentials.")
site = typer.Typer(no_args_is_help=True, help="Places where machines stand.")
person = typer.Typer(no_args_is_help=True, help="People who sign in or are told things.")
rental = typer.Typer(no_args_is_help=True, help="Who has a machine on hire.")
customer = typer.Typer(no_args_is_help=True, help="Those who rent machines.")
token = typer.Typer(no_args_is_help=True, help="Bearer tokens for the API.")
for name, commands in (
    ("device", device), ("site", site), ("person", person), ("rental", rental), ("customer", customer),
    ("token", token),
):  # fmt: skip
    app.add_typer(commands, name=name)

Json = Annotated[bool, typer.Option("--json", help="Answer as one JSON object.")]
Site = Annotated[str | None, typer.Option(help="Name of the site it stands at.")]
Lang = Annotated[str | None, typer.Option(help="zh or en; FETTLE_LANG where not given.")]
DeviceId = Annotated[str, typer.Argument(metavar="DEVICE", help="The machine's id, as it was added.")]
Renew = Annotated[bool, typer.Option("--renew", help="End every one that was handed out before.")]
Kind = Annotated[str, typer.Option(help="One of sites, customers, devices, rentals, maintenance.")]
RoleName = Annotated[str, typer.Option(help=f"One of {', '.join(Role)}.")]

CUT_OFF_S = 2.5
"""A running service looks each second whom to refuse."""
USER_ERRORS = (BadSettings, BadAddress, BadProfile, Refused, CannotStart)


def main() -> None:
    """Run the command line. What a person can mend is one clear line on standard error, and exit status 2."""
    logs.set_up()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for line in misspelt():
        print(f"fettle: {line}", file=sys.stderr)
    run()


def run(arguments: list[str] | None = None) -> None:
    """One command, by default that of the process; ends by SystemExit, as a process does."""
    try:
        app(arguments)
    except USER_ERRORS as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    for line in message.splitlines():
        print(f"fettle: {line}", file=sys.stderr)
    sys.exit(2)


def _answer(as_json: bool, data: dict[str, Any], text: str) -> None:
    print(json.dumps(data, ensure_ascii=False) if as_json else text)


# --- processes ---


@app.command()
def up(sim: Annotated[int, typer.Option(min=0, max=500, help="Simulated machines to start beside it.")] = 0) -> None:
    """Start the complete service: broker, stores, detectors, desk, API and pages."""
    from fettle import demo, wiring

    settings = read_settings()
    wiring.up(settings, lambda rooms, broker: demo.announce(rooms, broker, sim))


@app.command()
def ingest() -> None:
    """Start only the part that takes in and judges what machines say (telemetry in InfluxDB)."""
    from fettle import wiring

    wiring.ingest(read_settings())


@app.command()
def monitor() -> None:
    """Start only the desk: clocks, escalation, notices (telemetry in InfluxDB)."""
    from fettle import wiring

    wiring.monitor(read_settings())


@app.command()
def api() -> None:
    """Start only the API and pages (telemetry in InfluxDB)."""
    from fettle import wiring

    wiring.api(read_settings())


@app.command()
def broker() -> None:
    """Start only the embedded broker, for the other processes to share (FETTLE_MQTT_URL=own://HOST:PORT)."""
    from fettle import wiring

    wiring.broker(read_settings())


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema; every process does so at start, too."""
    with house(read_settings()):
        print("The database has the newest schema.")


# --- what operators keep ---


@device.command("add")
def device_add(
    device_id: Annotated[str, typer.Argument(metavar="DEVICE", help="1 to 64 of A-Z a-z 0-9 _ -")],
    profile: Annotated[str, typer.Option(help="Machine profile, such as diesel_generator.")],
    site: Site = None,
    as_json: Json = False,
) -> None:
    """Add a machine and print its card: all that its firmware needs to connect."""
    settings = read_settings()
    with house(settings) as rooms:
        if profile not in rooms.profiles:
            raise Refused(f"profile {profile!r} is not known; known are: {', '.join(sorted(rooms.profiles))}")
        registry = Registry(rooms.database)
        added = registry.add_device(device_id, profile, site, clock())
        _print_card(issue_card(rooms, registry, added), as_json)


@device.command("move")
def device_move(
    device_id: DeviceId,
    site: Site = None,
    as_json: Json = False,
) -> None:
    """A machine stands at another site from now on; without --site, at none that is known."""
    with house(read_settings()) as rooms:
        Registry(rooms.database).move_device_to(device_id, site, clock())
    where = site or "no site"
    _answer(as_json, {"device_id": device_id, "site": site}, f"{device_id} stands at {where} from now on.")


@device.command("renew")
def device_renew(
    device_id: DeviceId,
    as_json: Json = False,
) -> None:
    """The box on a machine was replaced: print a new card; earlier credentials are refused from now on."""
    with house(read_settings()) as rooms:
        registry = Registry(rooms.database)
        registry.cut_off(device_id, clock())
        drop_ended_logins(rooms)
        # What the old box says after this would be taken for the new one's: the broker must have let go of it.
        time.sleep(CUT_OFF_S)
        renewed = registry.renew_device(device_id, clock())
        _print_card(issue_card(rooms, registry, renewed), as_json)


@device.command("revoke")
def device_revoke(device_id: DeviceId, as_json: Json = False) -> None:
    """Refuse all of a machine's credentials; a connected one is cut off."""
    with house(read_settings()) as rooms:
        Registry(rooms.database).revoke_device(device_id, clock())
        drop_ended_logins(rooms)
    _answer(as_json, {"device_id": device_id, "revoked": True}, f"{device_id} is refused from now on.")


@device.command("retire")
def device_retire(
    device_id: DeviceId,
    reason: Annotated[str, typer.Option(help="Why, in a few words: sold, scrapped, ….")],
    as_json: Json = False,
) -> None:
    """A machine leaves the fleet for good: it is refused from now on, and counts nowhere; its record stays.

    Refused while a rental of it runs or is agreed for later, or a ticket of it is not resolved.
    """
    from monitor.engine import retiring

    with house(read_settings()) as rooms:
        try:
            retiring.retire(rooms.database, device_id, reason, "cli", clock())
        except LookupError:
            raise Refused(f"device {device_id!r} is not known") from None
        drop_ended_logins(rooms)
    _answer(as_json, {"device_id": device_id, "retired": True}, f"{device_id} is out of the fleet from now on.")


@device.command("label")
def device_label(device_id: DeviceId, renew: Renew = False, as_json: Json = False) -> None:
    """Print the address for the label on a machine: whoever opens it can report a problem with it."""
    settings = read_settings()
    with house(settings) as rooms:
        url = label_url(rooms, device_id, renew=renew)
    _answer(as_json, {"device_id": device_id, "url": url}, f"Label of {device_id}: {url}")


def _print_card(card: Card, as_json: bool) -> None:
    lines = [f"{key:10} {value}" for key, value in card["mqtt"].items()]
    _answer(as_json, dict(card), "\n".join([f"{'device':10} {card['device_id']}", *lines]))


@site.command("add")
def site_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the site is called; unique.")],
    remote: Annotated[bool, typer.Option("--remote", help="Far away: diagnosed from afar first (R8).")] = False,
    timezone: Annotated[str | None, typer.Option(help="IANA name; FETTLE_TIMEZONE where not given.")] = None,
    as_json: Json = False,
) -> None:
    """Add a site."""
    settings = read_settings()
    with house(settings) as rooms:
        zone = timezone or settings.timezone
        site_id = Registry(rooms.database).add_site(name, remote=remote, timezone=zone, now=clock())
    data = {"site_id": site_id, "name": name, "remote": remote, "timezone": zone}
    _answer(as_json, data, f"Site {name} added{' (remote)' if remote else ''}.")


@person.command("add")
def person_add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is; unique.")],
    role: RoleName,
    email: Annotated[str, typer.Option(help="Where notices to this person go.")],
    phone: Annotated[str, typer.Option(help="Up to 40 characters.")] = "",
    lang: Lang = None,
    customer: Annotated[str | None, typer.Option(help="The customer whom a person of role customer is with.")] = None,
    as_json: Json = False,
) -> None:
    """Add somebody who signs in or is told things."""
    settings = read_settings()
    with house(settings) as rooms:
        added = Registry(rooms.database).add_person(
            name, role, email, phone=phone, lang=lang or settings.lang, customer=customer, now=clock()
        )
    _answer(as_json, {"person_id": added, "name": name, "role": role}, f"{name} added as {role}.")


@person.command("reset")
def person_reset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose sign-in it is.")],
    as_json: Json = False,
) -> None:
    """Take away somebody's password and second factor, and sign them out everywhere; they come in again by a link."""
    from fettle.resetting import reset_sign_in

    with house(read_settings()) as rooms:
        reset_sign_in(rooms, name)
    text = f"{name} has no password and no second factor any more; fettle login-link --name prints a link."
    _answer(as_json, {"name": name, "reset": True}, text)


@rental.command("add")
def rental_add(
    device_id: DeviceId,
    customer: Annotated[str, typer.Option(help="Name of the customer; a new one is added.")],
    email: Annotated[str, typer.Option(help="Where notices to the customer go from now on.")],
    lang: Lang = None,
    as_json: Json = False,
) -> None:
    """Put a machine on hire at once; a rental that runs already is taken over (audited)."""
    settings = read_settings()
    with house(settings) as rooms:
        rental_id = Registry(rooms.database).add_rental(
            device_id, customer, email, lang=lang or settings.lang, now=clock()
        )
    data = {"rental_id": rental_id, "device_id": device_id, "customer": customer}
    _answer(as_json, data, f"{device_id} is on hire to {customer}.")


@customer.command("link")
def customer_link(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The customer's name.")],
    renew: Renew = False,
    as_json: Json = False,
) -> None:
    """Print a link to a customer's page, good for 30 days; as the last word."""
    settings = read_settings()
    with house(settings) as rooms:
        url = customer_url(rooms, name, renew=renew)
    _answer(as_json, {"customer": name, "url": url}, f"Page of {name}: {url}")


@token.command("create")
def token_create(
    role: RoleName,
    name: Annotated[str, typer.Option(help="What the token is for; unique among the valid ones.")],
    customer: Annotated[str | None, typer.Option(help="A customer's token sees that customer's machines only.")] = None,
    as_json: Json = False,
) -> None:
    """Create a bearer token; it is printed once, as the last word."""
    with house(read_settings()) as rooms, rooms.database.begin() as connection:
        of = customer_id(connection, customer) if customer else None
        secret = access.create_token(connection, _role(role), name, clock(), customer_id=of)
    _answer(as_json, {"name": name, "role": role, "token": secret}, f"Token {name} ({role}): {secret}")


@token.command("revoke")
def token_revoke(
    argument: Annotated[str | None, typer.Argument(metavar="NAME", help="Name of the token.")] = None,
    option: Annotated[str | None, typer.Option("--name", help="The same.")] = None,
    as_json: Json = False,
) -> None:
    """End a token."""
    name = argument or option
    if not name or (argument and option):
        raise Refused("name one token: fettle token revoke NAME, or --name NAME")
    with house(read_settings()) as rooms, rooms.database.begin() as connection:
        if not access.revoke_token(connection, name, clock()):
            raise Refused(f"there is no valid token named {name!r}")
    _answer(as_json, {"name": name, "revoked": True}, f"Token {name} is void.")


@app.command("login-link")
def login_link(
    role: Annotated[str | None, typer.Option(help="Sign in as a built-in account of this role.")] = None,
    name: Annotated[str | None, typer.Option(help="Sign in as this person.")] = None,
    as_json: Json = False,
) -> None:
    """Print a link that signs in to the pages, once, within 15 minutes; as the last word."""
    if (role is None) == (name is None):
        raise Refused("name either --role ROLE or --name PERSON")
    settings = read_settings()
    with house(settings) as rooms, rooms.database.begin() as connection:
        person = person_id(connection, name) if name else None
        url = sign_in_url(connection, settings, person=person, role=None if name else _role(role or ""))
    _answer(as_json, {"url": url}, f"Sign in here: {url}")


def _role(role: str) -> Role:
    try:
        return Role(role)
    except ValueError:
        raise Refused(f"role {role!r}: allowed are {', '.join(Role)}") from None


@app.command()
def replay(
    csv: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, metavar="CSV", help="First column the time, then sensors.")
    ],
    device_id: Annotated[str, typer.Option("--device", help="The machine to speak as; it must have been added.")],
    profile: Annotated[str, typer.Option(help="Its profile; columns that it does not name are left out.")],
    speed: Annotated[float, typer.Option(min=0.01, max=10_000, help="So many times faster than recorded.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Publish recorded rows through MQTT as a machine, each stamped with the moment of sending.

    For trying out, not for a machine in service: the rows count as a new start of it, and what its own box says
    afterwards is late, or taken for a repetition.
    """
    from fettle.replaying import replay as replay_rows

    with house(read_settings()) as rooms:
        sent = replay_rows(rooms, csv, device_id, profile, speed)
    _answer(as_json, {"device_id": device_id, "sent": sent}, f"{sent} rows sent as {device_id}.")


@app.command("import")
def import_register(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="CSV in UTF-8.")],
    kind: Kind,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is wrong with it.")] = False,
    cards: Annotated[
        Path | None, typer.Option(file_okay=False, help="Of devices: write their cards into this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a register in from CSV: the whole file, or nothing where any line of it is wrong; each of these is named.

    Columns, and the order in which files that name each other are read, stand in docs/fleet.md.
    """
    from fettle import importing

    with house(read_settings()) as rooms:
        done = importing.take(rooms, file, importing.register(kind), dry_run=dry_run, cards=cards)
    if not done["wrong"]:
        _answer(as_json, dict(done), importing.said(done))
        return
    if as_json:
        print(json.dumps(done, ensure_ascii=False))
    _fail("\n".join(importing.complaints(done)))


@app.command("export")
def export_register(
    kind: Kind,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="The file; standard output where not given.")] = None,
    as_json: Json = False,
) -> None:
    """Write a register as CSV, as fettle import reads it."""
    from fettle import importing

    with house(read_settings()) as rooms:
        content = importing.export(rooms, importing.register(kind), out)
    if out is not None:
        _answer(as_json, {"kind": kind, "out": str(out)}, f"{kind} written to {out}")
    else:
        _answer(as_json, {"kind": kind, "csv": content}, content.removesuffix("\r\n"))


@app.command()
def detect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.csv...", help="First column the time, then sensors.")],
    profile: Annotated[Path, typer.Option(help="The rules: a profile in TOML, the same for all files.")],
    root: Annotated[Path, typer.Option(file_okay=False, help="The folder that all files lie below.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the answers go, each under its file's path.")],
    warmup: Annotated[
        str | None, typer.Option(metavar="N|P%,N", help="Rows at the beginning that are healthy: 400, or 15%,750.")
    ] = None,
    learn: Annotated[Path | None, typer.Option(help="A healthy recording to learn from instead.")] = None,
    as_json: Json = False,
) -> None:
    """Run recorded rows through the detectors, one at a time, and write for each row what they said.

    Each answer has the columns `score` (0.5 and more only on a row that newly raises an alarm) and `anomaly` (1 while
    a fault stands open). Columns named anomaly or changepoint are not looked at.
    """
    from fettle.detecting import Rules, WarmUp, detect_files

    if (warmup is None) == (learn is None):
        raise Refused("say what is healthy: either --warmup N (or --warmup 15%,750), or --learn HEALTHY.csv")
    found = detect_files(
        Rules.read(profile), files, root, out, warm_up=None if warmup is None else WarmUp.parse(warmup), learn=learn
    )
    rows, raised = sum(len(judged.score) for judged in found.values()), sum(judged.raised for judged in found.values())
    data = {"files": len(found), "rows": rows, "raised": raised, "out": str(out)}
    _answer(as_json, data, f"{rows} rows of {len(found)} files: {raised} alarms raised; written below {out}")


@app.command()
def backtest(
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="Tickets opened from then on count.")],
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until then; now where not given.")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="The changed rules: a profile in TOML, in place of that of its name.")
    ] = None,
    against: Annotated[
        str, typer.Option(help="happened: the tickets that really were; current: those that the present rules make.")
    ] = "happened",
    learn_days: Annotated[int, typer.Option(help="So long before --from whatever learns has learnt; at most 31.")] = 14,
    as_json: Json = False,
) -> None:
    """Run stored telemetry through changed rules: which tickets would have opened, moved or vanished.

    Nothing changes, and nobody is told. Times are dates or dates and times, the company's where they name no offset.
    """
    from fettle import backtesting

    settings = read_settings()
    given = backtesting.asked(start, end, profile, against, learn_days, settings.timezone)
    answer = backtesting.run(settings, given)
    _answer(as_json, dict(answer), "\n".join(backtesting.lines(answer)))

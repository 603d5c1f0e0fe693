"""What is left when somebody has lost both their password and their phone."""

from api.sign_in import tell_of_change
from fettle.house import House, clock
from monitor.engine.telling import Telling
from monitor.store import passwords, second_factor
from monitor.store.access import end_other_sessions
from monitor.store.registry import person_id, write_audit


def reset_sign_in(rooms: House, name: str) -> None:
    """This person signs in by links alone from now on, and is told so. Raises Refused where there is nobody."""
    now, settings = clock(), rooms.settings
    telling = Telling(settings.timezone, overview=f"{settings.public}/tickets")
    with rooms.database.begin() as connection:
        person = person_id(connection, name)
        passwords.remove_password(connection, person)
        second_factor.turn_off(connection, person, now, "cli")
        end_other_sessions(connection, person, "", "cli", now)
        write_audit(connection, now, "cli", "sign_in_reset", f"person:{person}")
        tell_of_change(
            telling, connection, person, "reset", now, timezone=settings.timezone, public_url=settings.public
        )  # fmt: skip

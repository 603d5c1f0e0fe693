"""What was refused, for the audit: who was refused what, and how often.

The audit is kept for ever and takes no corrections, so nobody may fill it, nor does it say where somebody lives: a
refusal is noted at the first, tenth, hundredth … time within a quarter of an hour, for a limited number of askers, and
a stranger by their network (IPv4 /24, IPv6 /48) and never by their address.
"""

from ipaddress import ip_address, ip_network
from threading import Lock

from fastapi import Request

from api.context import Api
from monitor.store.registry import write_audit

WINDOW_MS = 15 * 60_000
KEYS = 100
"""So many who were refused something are told apart within a quarter of an hour; all others count as one."""
OTHERS = "address:others"


class Denials:
    """Counts refusals of the present quarter of an hour. One a process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._quarter = -1
        self._counts: dict[tuple[str, str, str], int] = {}

    def count(self, actor: str, what: str, subject: str, now: int) -> tuple[str, int] | None:
        """Count one: as whose it counts, and the how many-th it is, where that goes into the audit; None: it does
        not."""
        with self._lock:
            if now // WINDOW_MS != self._quarter:
                self._quarter, self._counts = now // WINDOW_MS, {}
            if (actor, what, subject) not in self._counts and len(self._counts) >= KEYS:
                actor, subject = OTHERS, ""
            times = self._counts[actor, what, subject] = self._counts.get((actor, what, subject), 0) + 1
        return (actor, times) if _is_power_of_ten(times) else None


def _is_power_of_ten(number: int) -> bool:
    return str(number).rstrip("0") == "1"


def note_denial(request: Request, api: Api, actor: str, what: str, subject: str = "", by: str = "") -> None:
    """Somebody was refused something. `subject` and `by` are words of ours: nothing that a stranger chose."""
    denials: Denials = request.app.state.denials
    now = api.clock()
    noted = denials.count(actor, what, subject, now)
    if noted is None:
        return
    counted, times = noted
    after = {"times": times} | ({"by": by} if by else {})
    with api.database.begin() as connection:
        write_audit(connection, now, counted, what, subject if counted == actor else "", after=after)


def stranger(request: Request) -> str:
    """Who nobody knows, for the audit: by their network."""
    return f"address:{network_of(request.client.host if request.client else '')}"


def network_of(host: str) -> str:
    """The network of an address, large enough that nobody is named by it; '' where it is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    mapped = getattr(address, "ipv4_mapped", None)
    found = mapped or address
    return str(ip_network((found, 24 if found.version == 4 else 48), strict=False))

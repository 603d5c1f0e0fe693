"""What every route needs, handed in once when the app is made."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, cast
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from fastapi import Depends
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection
from starlette.requests import HTTPConnection

from monitor.devices import Profile
from monitor.store.access import Role, Visitor
from monitor.store.database import Database
from monitor.store.queries import Scope

if TYPE_CHECKING:
    from monitor.engine import Desk
    from monitor.store.telemetry import Telemetry

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Api:
    """The parts behind the API. One a process; nothing in api/ is global."""

    database: Database
    telemetry: "Telemetry"
    desk: "Desk"
    profiles: Mapping[str, Profile]
    clock: Callable[[], int]
    """Epoch milliseconds."""
    public_url: str
    """What links begin with; also decides whether the session cookie can be a secure one."""
    lang: str = "zh"
    timezone: str = "Asia/Shanghai"
    ready: Mapping[str, Callable[[], bool]] = field(default_factory=dict)
    """Further parts that must work before /readyz says so, by name (`broker`)."""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    """What /metrics shows; the process may have put its own figures in."""
    stopping: Callable[[], bool] = lambda: False
    """True once the process is going down: open streams end then, so that it need not wait for them."""
    hotline: str = ""
    """The telephone number that customers are shown; none: ''."""

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def secure_cookies(self) -> bool:
        """Browsers take secure cookies over https, and from their own machine."""
        url = urlsplit(self.public_url)
        return url.scheme == "https" or url.hostname in LOOPBACK

    def scope(self, visitor: Visitor) -> Scope:
        """What this visitor may see now. A customer's account that belongs to no customer sees nothing."""
        if visitor.role is not Role.CUSTOMER:
            return Scope(self.clock())
        return Scope(self.clock(), visitor.customer_id if visitor.customer_id is not None else 0)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.database.connect() as connection:
            yield connection


def api_of(connection: HTTPConnection) -> Api:
    return cast(Api, connection.app.state.api)


Parts = Annotated[Api, Depends(api_of)]

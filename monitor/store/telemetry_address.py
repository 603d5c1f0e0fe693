"""Where telemetry is kept, as the setting FETTLE_TELEMETRY_URL says it. A wrong address is a ValueError that repeats
no secret."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

INFLUXDB_PARAMETERS = ("org", "password_file", "token", "token_file")


def duckdb_path(rest: str) -> Path:
    """The file of `duckdb:PATH`."""
    path = rest.removeprefix("//") if rest.startswith("///") else rest
    if not path or path == ":memory:" or path.startswith("//"):
        raise ValueError(
            "the telemetry URL names no file: it must be duckdb:PATH, such as duckdb:./var/telemetry.duckdb"
        )
    return Path(path).expanduser()


@dataclass(frozen=True, slots=True)
class InfluxAddress:
    """Where an InfluxDB is, and what opens it: a token, or a user with a password, or nothing."""

    base: str
    database: str
    org: str = "-"
    token: str = ""
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"InfluxAddress({self.base}/{self.database})"


def influx_address(rest: str) -> InfluxAddress:
    """Take `http://[user:password@]host[:port]/database[?token=…&token_file=…&password_file=…&org=…]` apart."""
    parts = urlsplit(rest)
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(given.keys() - set(INFLUXDB_PARAMETERS))
    if unknown:
        raise ValueError(
            f"the telemetry URL has a parameter {unknown[0]!r}: allowed are {', '.join(INFLUXDB_PARAMETERS)}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the telemetry URL must be influxdb:http://host:port/database (or https)")
    database = unquote(parts.path.strip("/"))
    if not database or "/" in database:
        raise ValueError("the telemetry URL must name one database: influxdb:http://host:port/database")
    token = _secret_of(given.get("token", ""), given.get("token_file", ""), "token_file")
    password = _secret_of(unquote(parts.password or ""), given.get("password_file", ""), "password_file")
    return InfluxAddress(_base(parts), database, given.get("org", "-"), token, unquote(parts.username or ""), password)


def _base(parts: SplitResult) -> str:
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        raise ValueError("the port in the telemetry URL must be a number from 1 to 65535") from None
    return f"{parts.scheme}://{host}{port}"


def _secret_of(here: str, file: str, parameter: str) -> str:
    if not file:
        return here
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{parameter} in the telemetry URL cannot be read: {error.strerror}: {file}") from None

"""Opens the telemetry store that a URL names. A backend is imported only where it is used: its library is slow to."""

from monitor.store.telemetry import Telemetry
from monitor.store.telemetry_address import duckdb_path, influx_address


def open_telemetry(url: str, *, owner: str = "", memory_limit: str = "512MB", threads: int = 2) -> Telemetry:
    """The store at `duckdb:PATH` or `influxdb:http://host:port/database`.

    `owner` names the process whose batches these are, where several number theirs in one InfluxDB. Memory and
    threads bound DuckDB. A wrong address is a ValueError that repeats no secret.
    """
    scheme, colon, rest = url.partition(":")
    if scheme == "duckdb" and colon:
        from monitor.store.telemetry_duckdb import DuckDBTelemetry

        return DuckDBTelemetry(duckdb_path(rest), memory_limit=memory_limit, threads=threads)
    if scheme == "influxdb" and colon:
        from monitor.store.telemetry_influx import InfluxTelemetry

        return InfluxTelemetry(influx_address(rest), owner=owner)
    raise ValueError(f"the telemetry URL begins with {scheme[:20]!r}: the scheme must be duckdb: or influxdb:")

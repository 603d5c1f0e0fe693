"""Settings, from the environment (`FETTLE_…`) or from files of the same name in /run/secrets, checked at start."""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from monitor.links import MIN_SECRET_BYTES

SECRETS = Path("/run/secrets")
PHONE = re.compile(r"\+?[0-9][0-9 ()-]{2,28}")
HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,186}[A-Za-z0-9])?")


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("it must be an IANA time zone such as Asia/Shanghai") from error
    return name


def _http_address(url: str) -> str:
    try:
        named = bool(urlsplit(url).hostname)
    except ValueError:
        named = False
    if not named or not url.startswith(("http://", "https://")):
        raise ValueError("it must begin with http:// or https:// and name a host")
    return url.rstrip("/")


def _telemetry_scheme(url: str) -> str:
    if not url.startswith(("duckdb:", "influxdb:")):
        raise ValueError("the scheme must be duckdb: or influxdb:")
    return url


def _mqtt_scheme(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("mqtt://", "mqtts://", "own://")):
        raise ValueError("it must begin with mqtt:// or mqtts:// (or own:// for a broker started by fettle broker)")
    return url


def _networks(text: str) -> str:
    for part in text.split(","):
        try:
            ipaddress.ip_network(part.strip())
        except ValueError as error:
            raise ValueError("it must be addresses or networks (10.0.0.0/24) with commas between") from error
    return text


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().strip()) < MIN_SECRET_BYTES:
        raise ValueError(f"it must have {MIN_SECRET_BYTES} characters or more, drawn at random")
    return secret


def _phone_number(text: str) -> str:
    if text and not PHONE.fullmatch(text):
        raise ValueError("it must be a telephone number: digits, spaces, + - ( ), at most 30 in all")
    return text


Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """What can be set. Paths are relative to where the program is started."""

    model_config = SettingsConfigDict(
        env_prefix="FETTLE_", secrets_dir=SECRETS if SECRETS.is_dir() else None, hide_input_in_errors=True
    )

    home: Path = Field(Path("var"), description="data folder")
    bind: str = Field("127.0.0.1", description="address that the API and the broker listen on")
    http_port: Port = Field(8000, description="port of API and pages")
    mqtt_port: Port = Field(1883, description="port of the embedded broker")
    probe_port: Port | None = Field(
        None, description="where fettle broker, ingest and monitor answer /healthz, /readyz and /metrics; none: nowhere"
    )
    mqtt_url: Annotated[SecretStr, AfterValidator(_mqtt_scheme)] | None = Field(
        None,
        description="outside broker, mqtt(s)://[user:password@]host:port, or own://host:port for one that "
        "fettle broker runs (by TLS with FETTLE_MQTT_TLS_CERT); none: the embedded one",
    )
    mqtt_ca: Path | None = Field(None, description="authority that an mqtts:// broker's certificate is checked with")
    mqtt_tls_cert: Path | None = Field(None, description="certificate of our own broker: with it, TLS only")
    mqtt_tls_key: Path | None = Field(None, description="key of that certificate")
    mqtt_advertised: str | None = Field(None, description="host[:port] that devices are told; default: what it binds")
    nats_server: Path | None = Field(None, description="another nats-server binary than the installed one")
    database_url: SecretStr | None = Field(None, description="sqlite:///PATH or postgresql://…; default: in the home")
    telemetry_url: Annotated[str, AfterValidator(_telemetry_scheme)] | None = Field(
        None, description="duckdb:PATH or influxdb:http://host:port/database; default: DuckDB in the home"
    )
    telemetry_days: Annotated[int, Field(ge=1, le=36500)] = Field(400, description="how long readings are kept")
    public_url: Annotated[str, AfterValidator(_http_address)] | None = Field(
        None, description="what links in notices begin with; default http://127.0.0.1:{FETTLE_HTTP_PORT}"
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "127.0.0.1", description="proxies whose X-Forwarded-For says who asks: addresses or networks, with commas"
    )
    smtp_url: SecretStr | None = Field(
        None,
        description="smtp(s)://[user:password@]host:port[?from=ADDRESS]; without from, mail comes from "
        "fettle@ the host of FETTLE_PUBLIC_URL, or fettle@localhost where that is an IP address",
    )
    webhook_url: SecretStr | None = Field(None, description="operations' webhook, http(s)://…")
    webhook_secret: SecretStr | None = Field(None, description="what posts to the webhook are signed with (whsec_…)")
    webhook_inside: bool = Field(False, description="allow a webhook in a private network")
    link_secret: Annotated[SecretStr, AfterValidator(_long_enough)] | None = Field(
        None, description="what links to customers and technicians are signed with, 32 characters or more, the same "
        "for all processes; none: a key that is made in the home"
    )  # fmt: skip
    link_secret_file: Path | None = Field(None, description="a file that holds it instead")
    hotline: Annotated[str, AfterValidator(_phone_number)] = Field(
        "", description="telephone number that customers are shown, such as +86 400 800 1234; none: none"
    )
    sms_url: SecretStr | None = Field(
        None,
        description="SMS gateway: http(s)://… that takes JSON, or twilio://, sinch://, plivo://, infobip:// as Apprise "
        "has them, without a recipient",
    )
    sms_token: SecretStr | None = Field(None, description="bearer token for an http(s) SMS gateway")
    sms_inside: bool = Field(False, description="allow an SMS gateway in a private network")
    dingtalk: SecretStr | None = Field(None, description="robots' rooms: ROOM=TOKEN or ROOM=TOKEN:SECRET, with spaces")
    wecom: SecretStr | None = Field(None, description="the same: ROOM=KEY")
    feishu: SecretStr | None = Field(None, description="the same: ROOM=TOKEN")
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field(
        "Asia/Shanghai", description="the company's time zone: report months, working days"
    )
    lang: Literal["zh", "en"] = Field("en", description="language where nobody has chosen one")

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        if self.mqtt_url is None and self.http_port == self.mqtt_port:
            raise ValueError(f"FETTLE_HTTP_PORT and FETTLE_MQTT_PORT are both {self.http_port}; each needs its own")
        return self

    @model_validator(mode="after")
    def _one_link_secret(self) -> Self:
        if self.link_secret is not None and self.link_secret_file is not None:
            raise ValueError("FETTLE_LINK_SECRET and FETTLE_LINK_SECRET_FILE: give one of them")
        return self

    @property
    def database(self) -> str:
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.home / 'fettle.db'}"

    @property
    def telemetry(self) -> str:
        return self.telemetry_url or f"duckdb:{self.home / 'telemetry.duckdb'}"

    @property
    def public(self) -> str:
        return self.public_url or f"http://127.0.0.1:{self.http_port}"

    @property
    def sender(self) -> str:
        """Whom e-mail comes from where FETTLE_SMTP_URL does not say so."""
        host = urlsplit(self.public).hostname or ""
        # Mail servers take no bare IP for a domain, and the last label of a name is never a number.
        named = HOST_NAME.fullmatch(host) and not host.rpartition(".")[2].isdecimal()
        return f"fettle@{host if named else 'localhost'}"

    @property
    def broker_host(self) -> str:
        """Where the embedded broker is reached from this machine."""
        return "127.0.0.1" if self.bind in ("0.0.0.0", "::") else self.bind  # noqa: S104 (compared, not bound)

    @property
    def own_broker(self) -> bool:
        """Whether the broker is fettle's own: a child of this process, or of `fettle broker` elsewhere."""
        return self.mqtt_url is None or self.mqtt_url.get_secret_value().startswith("own://")

    def prepare_home(self) -> None:
        """Make the data folder; nobody else may look into it."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BadSettings(f"FETTLE_HOME: {self.home} cannot be a data folder: {error.strerror}") from None


class BadSettings(Exception):
    """The environment cannot be used; the message has a line for each setting."""


def read_settings() -> Settings:
    """Settings from the environment. Raises BadSettings with what was wrong, where, and what is allowed."""
    try:
        return Settings()
    except ValidationError as error:
        # What is wrong between two settings has no place of its own, and names both.
        lines = [
            "".join(f"FETTLE_{str(name).upper()}: " for name in found["loc"][:1])
            + found["msg"].removeprefix("Value error, ")
            for found in error.errors()
        ]
        raise BadSettings("\n".join(lines)) from None


def misspelt(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Variables that begin with FETTLE_ and mean nothing, each with the setting that was probably meant."""
    known = {f"FETTLE_{name.upper()}" for name in Settings.model_fields}
    found = []
    for name in sorted(environment):
        if name.startswith("FETTLE_") and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            found.append(f"{name} is not a setting" + (f"; {near[0]} is" if near else ""))
    return found

"""Where the broker is and how to speak to it: an address from a URL, and a paho client set up for it."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

KEEPALIVE_S = 30
PORTS = {"mqtt": 1883, "mqtts": 8883}
FORM = "mqtt://[user[:password]@]host[:port] or mqtts://…"


class BadAddress(ValueError):
    """A broker's URL cannot be used; the message says why, without the password."""


@dataclass(frozen=True)
class Address:
    """A broker, and who signs in there. The password stays out of repr() and so out of logs."""

    host: str
    port: int = 1883
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: Path | None = None
    """Trust these authorities instead of the system's."""
    pinned: bool = False
    """Trust exactly the certificate in ca_file, whatever name it is for: our own broker over loopback."""

    @classmethod
    def parse(cls, url: str, ca_file: Path | None = None) -> "Address":
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise BadAddress(f"the broker URL is not valid ({error}); it must be {FORM}") from None
        if parts.scheme not in PORTS:
            raise BadAddress(f"the broker URL has the scheme {parts.scheme!r}; it must be {FORM}")
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
            raise BadAddress(f"the broker URL must name a host and nothing after the port: {FORM}")
        return cls(
            parts.hostname,
            port or PORTS[parts.scheme],
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            parts.scheme == "mqtts",
            ca_file,
        )

    def client(self, client_id: str, *, clean_session: bool, manual_ack: bool = False) -> mqtt.Client:
        """A paho client (MQTT 3.1.1) that is set up for this broker, but not connected."""
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=clean_session, manual_ack=manual_ack
        )
        self.set_up(client)
        return client

    def set_up(self, client: mqtt.Client) -> None:
        """Give a client the sign-in and the trust that this broker asks for."""
        if self.username:
            client.username_pw_set(self.username, self.password or None)
        if self.tls:
            client.tls_set_context(self._tls_context())

    def _tls_context(self) -> ssl.SSLContext:
        if self.pinned and self.ca_file is not None:
            context = ssl.create_default_context(cadata=_first_certificate(self.ca_file))
        else:
            context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.pinned:
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context


def _first_certificate(path: Path) -> str:
    """The server's own certificate of a PEM file. Its issuers may follow, and whoever they vouch for is not meant."""
    begins, ends = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    first, found, _ = path.read_text(encoding="ascii", errors="replace").partition(ends)
    if not found or begins not in first:
        raise BadAddress(f"{path} holds no certificate (PEM)")
    return first[first.index(begins) :] + ends

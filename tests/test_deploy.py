"""What goes to production is consistent: compose file, image, settings from secrets, certificates."""

import ast
import os
import re
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from fettle.settings import Settings
from ingest.connection import Address, BadAddress
from ingest.credentials import Keyring
from monitor.papers.pdf import INSTALL
from monitor.store.telemetry_address import influx_address
from tests.programs import needs

ROOT = Path(__file__).parents[1]
SERVICES = {"nats", "ingest", "monitor", "api", "postgres", "influxdb"}
OURS = {"nats": "broker", "ingest": "ingest", "monitor": "monitor", "api": "api"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file as docker-compose understands it, with nothing set and no secret there."""
    done = subprocess.run(
        [needs("docker-compose"), "-f", "docker-compose.yml", "config"],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def environments(compose: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {name: service.get("environment", {}) for name, service in compose["services"].items()}


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Where each volume is mounted: path → `name` or `name:ro`."""
    return {path: f"{name}{':ro' if 'ro' in how else ''}" for name, path, *how in
            (volume.split(":") for volume in service.get("volumes", []))}  # fmt: skip


def test_every_service_is_there(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == SERVICES
    assert {name: compose["services"][name]["command"] for name in OURS} == {k: [v] for k, v in OURS.items()}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_service_is_fenced_in(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["healthcheck"]["test"][0] == "CMD"
    user, group = map(int, service["user"].split(":"))
    assert user > 0
    assert group > 0
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert not service.get("privileged")
    assert service["logging"]["options"]["max-size"]
    # influxdb's entry point may write beside its volumes; that could not be tried.
    assert service.get("read_only", False) == (name != "influxdb")


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_name_one_version(compose: dict[str, Any], name: str) -> None:
    repository, _, tag = compose["services"][name]["image"].partition(":")
    # A name without a host, and a version of which nothing is left open.
    assert re.fullmatch(r"[a-z]+", repository)
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?(-[a-z]+)?", tag)


def test_volumes_are_named_and_reach_whom_they_must(compose: dict[str, Any]) -> None:
    used = {name.removesuffix(":ro") for service in compose["services"].values() for name in mounts(service).values()}
    assert used == set(compose["volumes"])
    assert {name: mounts(compose["services"][name]) for name in OURS} == {
        "nats": {"/data": "data", "/data/broker": "keys", "/data/broker/storage": "messages"},
        "ingest": {"/data": "data", "/data/broker": "keys:ro"},
        "monitor": {"/data": "data"},
        "api": {"/data": "data", "/data/broker": "keys:ro"},
    }


def test_only_the_api_and_the_broker_can_be_reached(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {name for name, service in services.items() if service.get("ports")} == {"api", "nats"}
    assert compose["networks"]["inside"]["internal"] is True
    assert {name for name, service in services.items() if "outside" in service["networks"]} == {
        "api",
        "nats",
        "monitor",
    }
    assert all(port.startswith("127.0.0.1:") for port in services["api"]["ports"])


def test_every_setting_is_known_and_accepted(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, environment in environments(compose).items():
        for variable, value in environment.items():
            if variable.startswith("FETTLE_"):
                assert variable.removeprefix("FETTLE_").lower() in Settings.model_fields, (name, variable)
                monkeypatch.setenv(variable, value)
    settings = Settings()
    assert settings.own_broker
    assert settings.telemetry.startswith("influxdb:")


def test_no_secret_stands_in_the_file(compose: dict[str, Any]) -> None:
    for name, environment in environments(compose).items():
        for variable, value in environment.items():
            if re.search("PASSWORD|TOKEN|SECRET|_KEY$", variable):
                assert str(value).startswith("/run/secrets/"), (name, variable)
        assert not environment.keys() & {"FETTLE_DATABASE_URL", "FETTLE_SMTP_URL", "FETTLE_WEBHOOK_URL"}


def test_every_secret_that_a_service_names_is_given_to_it(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        given = {secret["source"] for secret in service.get("secrets", [])}
        named = set(re.findall(r"/run/secrets/(\w+)", " ".join(map(str, service.get("environment", {}).values()))))
        # Shared settings name two files that not every process opens.
        assert named - given <= ({"influxdb_token", "mqtt_tls_cert"} if name in ("nats", "monitor") else set()), name
        assert {secret.removeprefix("fettle_") for secret in given if secret.startswith("fettle_")} <= set(
            Settings.model_fields
        )
    for name, secret in compose["secrets"].items():
        assert secret["file"] == str(ROOT / "secrets" / f"{name}.txt")


def test_the_guide_makes_every_secret(compose: dict[str, Any]) -> None:
    guide = (ROOT / "docs" / "production.md").read_text(encoding="utf-8")
    assert [name for name in compose["secrets"] if f"secrets/{name}.txt" not in guide] == []


def test_secrets_stay_out_of_the_repository_and_the_image() -> None:
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if line[0] not in "#!") == "*"


# --- settings from files -------------------------------------------------------------------------------------------


def test_settings_are_read_from_secret_files(tmp_path: Path) -> None:
    (tmp_path / "fettle_database_url").write_text("postgresql://fettle:pw@postgres/fettle\n")
    (tmp_path / "fettle_smtp_url").write_text("")
    (tmp_path / "postgres_password").write_text("pw")
    settings = Settings(_secrets_dir=tmp_path)  # type: ignore[call-arg]
    assert settings.database == "postgresql://fettle:pw@postgres/fettle"
    # An empty file is "not set": no mail server, and nothing that looks like one.
    assert not settings.smtp_url
    assert "pw" not in repr(settings)


def test_influxdb_takes_its_token_from_the_file_that_the_url_names(compose: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "influxdb_token").write_text("t0ken\n")
    url = compose["services"]["ingest"]["environment"]["FETTLE_TELEMETRY_URL"]
    address = influx_address(url.removeprefix("influxdb:").replace("/run/secrets", str(tmp_path)))
    made = compose["services"]["influxdb"]["environment"]
    assert address.token == "t0ken"
    assert (address.org, address.database) == (made["DOCKER_INFLUXDB_INIT_ORG"], made["DOCKER_INFLUXDB_INIT_BUCKET"])
    assert address.base == "http://influxdb:8086"


@pytest.mark.parametrize("wrong", ["everybody", "10.0.0.1/33", ""])
def test_proxies_are_addresses(wrong: str) -> None:
    with pytest.raises(ValidationError, match="addresses or networks"):
        Settings(trusted_proxies=wrong)


# --- the image -----------------------------------------------------------------------------------------------------


def dockerfile() -> list[str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_what_the_image_copies_is_there_and_reaches_the_builder() -> None:
    sources = [word for line in dockerfile() if line.startswith("COPY ") and "--from" not in line
               for word in line.split()[1:-1]]  # fmt: skip
    assert len(sources) > 5
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed, source


def test_the_image_holds_every_package_that_the_program_imports() -> None:
    copied = {line.split()[1] for line in dockerfile() if line.startswith("COPY ")}
    found = (ROOT / "pyproject.toml").read_text()
    packages = ast.literal_eval(found.split("include = ")[1].splitlines()[0])
    assert {name.removesuffix("*") for name in packages} <= copied


def test_the_image_is_pinned_and_runs_as_nobody_special(compose: dict[str, Any]) -> None:
    lines = dockerfile()
    assert re.fullmatch(r"ARG PYTHON=python:3\.11\.\d+-slim-bookworm", lines[0])
    assert [line.split()[1] for line in lines if line.startswith("FROM ")] == ["${PYTHON}"] * 2
    assert all("--require-hashes" in line for line in lines if "install" in line and ".lock" in line)
    assert {compose["services"][name]["user"] for name in OURS} == {
        line.split()[1] for line in lines if line.startswith("USER ")
    }
    final = lines[[n for n, line in enumerate(lines) if line.startswith("FROM ")][1] :]
    # What PDFs are drawn with, and nothing to build with.
    (drawn_with,) = [line for line in final if "apt-get" in line]
    assert drawn_with.split("--no-install-recommends ")[1].split(" && ")[0].split() == INSTALL.split()
    assert "rm -rf /var/lib/apt/lists/*" in drawn_with
    assert not any(word in " ".join(final) for word in ("pip ", "gcc"))
    assert [line for line in final if line.startswith("ENTRYPOINT")] == ['ENTRYPOINT ["fettle"]']


def test_the_lock_builds_what_the_image_needs() -> None:
    """The line that takes setuptools out of the development lock, as the Dockerfile runs it."""
    script = next(line for line in dockerfile() if "sed -n" in line).removeprefix("RUN ").split(" > ")[0]
    taken = subprocess.run(["/bin/sh", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"setuptools==[\d.]+ \\\n(    --hash=sha256:\w{64}( \\)?\n)+", taken)


def test_processes_that_only_use_the_brokers_keys_write_nothing_beside_them(tmp_path: Path) -> None:
    """So that they may have the folder read-only."""
    made = Keyring(tmp_path).account
    (tmp_path / "keys.lock").unlink()
    assert Keyring(tmp_path).account == made
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


# --- TLS between our own processes ---------------------------------------------------------------------------------


def test_our_own_broker_is_known_by_its_certificate_and_not_by_its_issuer(tmp_path: Path) -> None:
    """A file from an authority holds the issuers, too: what else they vouch for must not be taken for our broker."""
    authority(tmp_path)
    chain = tmp_path / "chain.pem"
    chain.write_bytes(signed(tmp_path, "broker").read_bytes() + (tmp_path / "ca.pem").read_bytes())
    signed(tmp_path, "stranger")
    address = Address("127.0.0.1", 8883, tls=True, ca_file=chain, pinned=True)
    assert shakes_hands(address, tmp_path, "broker")
    assert not shakes_hands(address, tmp_path, "stranger")


def test_a_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(BadAddress, match="holds no certificate"):
        Address("127.0.0.1", 8883, tls=True, ca_file=tmp_path / "empty.pem", pinned=True).client(
            "x", clean_session=True
        )


def authority(folder: Path) -> None:
    openssl(folder, "req", "-x509", *KEY, "-subj", "/CN=Authority", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem")


def signed(folder: Path, name: str) -> Path:
    openssl(folder, "req", "-x509", *KEY, "-subj", f"/CN={name}", "-days", "2", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-keyout", f"{name}.key", "-out", f"{name}.pem")  # fmt: skip
    return folder / f"{name}.pem"


KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run([needs("openssl"), *arguments], cwd=folder, capture_output=True, check=True)


def shakes_hands(address: Address, folder: Path, server: str) -> bool:
    """Whether a client set up for the address accepts a server with this certificate: a handshake in memory."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(folder / f"{server}.pem", folder / f"{server}.key")
    ours = address._tls_context()
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(back, there, server_hostname="nats")
    host = theirs.wrap_bio(there, back, server_side=True)
    for _ in range(10):
        try:
            client.do_handshake()
        except ssl.SSLCertVerificationError:
            return False
        except ssl.SSLWantReadError:
            with suppress(ssl.SSLWantReadError):
                host.do_handshake()
        else:
            return True
    raise AssertionError("the handshake came to no end")

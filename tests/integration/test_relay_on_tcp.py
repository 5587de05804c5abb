"""`ntro relay`: from a key and a certificate to a call over TLS, and what `ntro status` says of those that were refused."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli_home import CommandLine, installed

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here to make a certificate with")

DEADLINE_S = 30.0
ASK = b'{"map":[]}'


@pytest.fixture(scope="module")
def ntro() -> Iterator[CommandLine]:
    with installed() as ntro:
        yield ntro


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=relay", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run([*command, *subject, *files], check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def port(ntro: CommandLine, certificate: Path) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found: int = free.getsockname()[1]
    told = ntro.ok(
        "relay", "listen", "--certificate", certificate, "--key", certificate.with_name("key.pem"), "--port", str(found)
    )
    assert (told["listening"], told["address"], told["port"]) == (True, "127.0.0.1", found)
    return found


def ask(port: int, certificate: Path, secret: str, call: str = "get_runs_count") -> tuple[int, bytes]:
    wire = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=ssl.create_default_context(cafile=certificate))
    wire.request("POST", f"/v1/{call}", ASK, {"Authorization": f"Bearer {secret}"})
    response = wire.getresponse()
    answer = response.status, response.read()
    wire.close()
    return answer


def status_when(ntro: CommandLine, wanted: Any) -> Any:
    """What it says of the relay, as soon as it is as wanted."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        told = ntro.ok("status")["relay"]
        if wanted(told):
            return told
        assert time.monotonic() < deadline, told


def test_a_key_goes_into_a_private_file_and_nowhere_else(ntro: CommandLine, tmp_path: Path) -> None:
    file = tmp_path / "acme.key"
    done = ntro("relay", "key", "create", "acme", "--out", file, "--json")
    assert done.code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = file.read_text().strip()
    assert len(secret) == 43
    assert secret not in done.out + done.err
    (key,) = [each for each in ntro.ok("relay", "key", "list", "acme") if each["id"] == done.json["id"]]
    assert key.keys() == {"id", "tenant", "made_at", "revoked_at"}
    assert not [path for path in ntro.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_a_key_is_printed_only_where_that_was_asked_for(ntro: CommandLine) -> None:
    assert ntro("relay", "key", "create", "acme").code == 2
    done = ntro("relay", "key", "create", "acme", "--out", "-")
    assert (done.code, len(done.out.strip())) == (0, 43)


def test_a_file_that_cannot_be_written_leaves_no_key_that_is_good(ntro: CommandLine, tmp_path: Path) -> None:
    before = {key["id"] for key in ntro.ok("relay", "key", "list", "acme")}
    done = ntro("relay", "key", "create", "acme", "--out", tmp_path / "none" / "acme.key", "--json")
    assert (done.code, done.error["code"]) == (1, "RELAY_KEY_FILE")
    (made,) = [key for key in ntro.ok("relay", "key", "list", "acme") if key["id"] not in before]
    assert made["revoked_at"]
    assert ntro("relay", "key", "create", "nobody", "--out", "-", "--json").error["code"] == "TENANT_NOT_FOUND"


def test_a_key_opens_the_relay_until_it_is_revoked(ntro: CommandLine, certificate: Path, port: int, tmp_path: Path) -> None:
    made = ntro.ok("relay", "key", "create", "acme", "--out", tmp_path / "key")
    secret = (tmp_path / "key").read_text().strip()
    assert ask(port, certificate, secret) == (200, b"0")
    assert ask(port, certificate, secret, "delete_run")[0] == 403
    ntro.ok("relay", "key", "revoke", made["id"])
    deadline = time.monotonic() + DEADLINE_S
    while (found := ask(port, certificate, secret)) != (401, b""):  # the relay hears of it a moment after the command has ended
        assert time.monotonic() < deadline, found
    told = status_when(ntro, lambda told: told["without_key"] and told["tenants"])
    assert told["since"]
    assert told["without_key"] == 1
    assert told["tenants"] == [{"tenant": "acme", "refused": {"UNKNOWN_CALL": 1}, "dropped": {}}]
    assert "acme: 1 call refused" in ntro("status").err


def test_it_listens_again_with_another_certificate_and_no_longer_when_told_so(
    ntro: CommandLine, certificate: Path, port: int
) -> None:
    done = ntro("relay", "listen", "--certificate", certificate, "--json")
    assert done.code == 2
    done = ntro("relay", "listen", "--certificate", certificate, "--key", certificate, "--json")
    assert (done.code, done.error["code"]) == (2, "RELAY_LISTENER")
    assert ntro.ok("doctor")["problems"] == 0
    assert ntro.ok("relay", "listen", "--off") == {"listening": False}
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                break
        assert time.monotonic() < deadline

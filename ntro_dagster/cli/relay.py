"""`ntro relay`: tenants whose processes live on other hosts, their keys, and where the relay listens for them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ntro_dagster.cli.connections import installation, registry
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.output import Column, count, line, note, result, table, when
from ntro_dagster.errors import NtroError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ntro_dagster.workspace.relay_keys import RelayKey
    from ntro_dagster.workspace.relay_refusals import Refusals

app = typer.Typer(no_args_is_help=True, help="Tenants' processes on other hosts: keys, and where the relay listens for them.")
keys = typer.Typer(no_args_is_help=True, help="Keys with which a tenant's processes reach the relay.")
app.add_typer(keys, name="key")

STANDARD_OUTPUT = "-"


class RelayKeyFileError(NtroError):
    """Values: `path`, `why`."""

    code = "RELAY_KEY_FILE"
    summary = "the file for a relay key cannot be written"
    detail = "{path} cannot be written: {why}"
    mend = "choose another with --out; the key that was made for it is revoked"


@command(keys, "create")
def create(
    tenant: Annotated[str, typer.Argument()],
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="Where the key goes, 0600; - is standard output.")],
) -> None:
    """Make a key. It is written once, and is nowhere else: the registry keeps its SHA-256."""
    from ntro_dagster.workspace.relay_keys import RelayKeys  # noqa: PLC0415

    with registry(installation()) as known:
        made = RelayKeys(known)
        key, secret = made.create(tenant)
        try:
            if out != STANDARD_OUTPUT:
                _write(Path(out), secret)
        except BaseException:
            made.revoke(key.id)
            raise
    value = {"id": key.id, "tenant": tenant, "made_at": key.made_at, "file": None if out == STANDARD_OUTPUT else Path(out)}
    if out == STANDARD_OUTPUT:
        result(value | {"key": secret}, lambda: _say(secret))
    else:
        result(value, lambda: line(f"key {key.id} of {tenant} is in {out}: take it to the host of its processes"))


@command(keys, "list")
def list_(tenant: Annotated[str, typer.Argument()]) -> None:
    """A tenant's keys, revoked ones too. Never the keys themselves."""
    from ntro_dagster.workspace.relay_keys import RelayKeys  # noqa: PLC0415

    with registry(installation()) as known:
        found = RelayKeys(known).list(tenant)

    def human() -> None:
        if not found:
            line(f"no keys: `ntro relay key create {tenant} --out FILE` makes one")
            return
        table(
            [Column("Key"), Column("Made"), Column("Revoked")], [(str(k.id), when(k.made_at), when(k.revoked_at)) for k in found]
        )

    result([_shown(key, tenant) for key in found], human)


@command(keys, "revoke")
def revoke(key: Annotated[UUID, typer.Argument(metavar="ID", help="As `ntro relay key list` shows it.")]) -> None:
    """Take a key back, at once and for ever: connections that use it end."""
    from ntro_dagster.workspace.relay_keys import RelayKeys  # noqa: PLC0415

    with registry(installation()) as known:
        revoked = RelayKeys(known).revoke(key)
    result({"id": revoked.id, "revoked_at": revoked.revoked_at}, lambda: line(f"key {revoked.id} is revoked"))


@command(app, "listen")
def listen(
    certificate: Annotated[Path | None, typer.Option(help="PEM, with the chain; for the name that tenants call it by.")] = None,
    key: Annotated[Path | None, typer.Option(help="PEM, the certificate's private key.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="[default: 4443]")] = None,
    address: Annotated[str | None, typer.Option(help="Of this machine; 0.0.0.0 is every one of it. [default: 127.0.0.1]")] = None,
    off: Annotated[bool, typer.Option("--off", help="Listen no longer.")] = False,
) -> None:
    """Listen on TCP, with TLS, for tenants' processes on other hosts. Again after a certificate was renewed."""
    from pydantic import ValidationError  # noqa: PLC0415

    from ntro_dagster.host.listening import listen as begin  # noqa: PLC0415
    from ntro_dagster.host.listening import stop_listening  # noqa: PLC0415
    from ntro_dagster.workspace.relay_listener import ListenerSettings  # noqa: PLC0415

    found = installation()
    if off:
        stop_listening(found)
        result({"listening": False}, lambda: line("the relay listens on no port"))
        return
    if certificate is None or key is None:
        raise typer.BadParameter("TLS needs both", param_hint="--certificate, --key")
    given: dict[str, Any] = {"certificate": certificate.resolve(), "key": key.resolve(), "port": port, "address": address}
    try:
        settings = ListenerSettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError:
        raise typer.BadParameter("not an IP address", param_hint="--address") from None
    told = begin(found, settings)
    value = {"listening": told, "address": str(settings.address), "port": settings.port, "certificate": settings.certificate}
    where = f"{settings.address} port {settings.port}"
    result(
        value, lambda: line(f"the relay listens on {where}" if told else f"the relay will listen on {where} from `ntro up` on")
    )


def sentences(told: Refusals | None) -> Iterator[str]:
    """What was refused, for people; nothing where nothing was."""
    if told is None:
        return
    since = when(told.since)
    for each in told.tenants:
        refused, dropped = count(sum(each.refused.values()), "call"), count(sum(each.dropped.values()), "field")
        yield f"relay, {each.tenant}: {refused} refused, {dropped} left out since {since}"
    if told.without_key:
        yield f"relay: {count(told.without_key, 'call')} without a key that is good since {since}"


def _shown(key: RelayKey, tenant: str) -> dict[str, Any]:
    return {"id": key.id, "tenant": tenant, "made_at": key.made_at, "revoked_at": key.revoked_at}


def _write(path: Path, secret: str) -> None:
    """Raises: RelayKeyFileError."""
    from ntro_dagster.host.home import write_private  # noqa: PLC0415

    try:
        write_private(path, secret + "\n")
    except OSError as error:
        raise RelayKeyFileError(path=path, why=str(error.strerror).lower()) from None


def _say(secret: str) -> None:
    sys.stdout.write(secret + "\n")
    if sys.stdout.isatty():
        note("this is the only time that it is shown")

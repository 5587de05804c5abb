"""A desk's port: looked for before it is bound, so another program may come in between."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from installed import installed

from ntro_dagster.host import installation
from ntro_dagster.host.desks import desk_address, furnish_desk
from ntro_dagster.host.home import TenantHome
from ntro_dagster.host.tenancy import create_tenant

TENANT = "acme"


@pytest.mark.long
def test_a_port_that_somebody_took_meanwhile_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with installed() as site, socket.socket() as first:
        taken: list[str] = []

        def furnish(tenant: TenantHome, *, running: bool) -> None:
            furnish_desk(tenant, running=running)
            taken.append(desk_address(tenant))
            first.bind(("127.0.0.1", int(taken[0].rpartition(":")[2])))
            first.listen()

        create_tenant(site.installation, TENANT, name="Acme")
        monkeypatch.setattr(installation, "furnish_desk", furnish)
        site.installation.start_services()
        address = desk_address(site.home.tenant(TENANT))
        assert address not in taken
        host = address.removeprefix("http://")
        asked = urllib.request.Request(f"http://127.0.0.1:{host.rpartition(':')[2]}/health", headers={"Host": host})
        with urllib.request.urlopen(asked) as answer:  # noqa: S310 - our own desk
            assert answer.status == 200
        assert all(process.well for process in site.installation.status())

"""`kill -9` of whoever creates a tenant or an entity: the same command again completes what is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import pytest
from installed import Site, deploy_expenses, eventually, installed, invent

from ntro_dagster.boundary.names import entities_set
from ntro_dagster.host.tenancy import EntityExistsError, create_entity, create_tenant
from ntro_dagster.workspace.registry import TenantExistsError

PERIOD = "2026-03"
# Runs `create`, and dies right after the n-th return of one of the functions on its way.
DYING = """
import importlib, os, signal, sys
from pathlib import Path

root, create, slug, module, name, number = sys.argv[1:]
owner = importlib.import_module(module)
*classes, name = name.split(".")
for part in classes:
    owner = getattr(owner, part)
original, calls = getattr(owner, name), []

def dying(*arguments, **more):
    result = original(*arguments, **more)
    calls.append(name)
    if len(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, dying)
from ntro_dagster.host import tenancy
from ntro_dagster.host.home import Home
from ntro_dagster.host.installation import Installation

installation = Installation(Home(Path(root)))
if create == "tenant":
    tenancy.create_tenant(installation, slug, name="Client")
else:
    tenancy.create_entity(installation, "host", slug, name=slug)
"""

TENANT_POINTS = {
    "registered": ("ntro_dagster.workspace.registry", "Registry.create_tenant", 1),
    "some roles": ("ntro_dagster.platforms.postgres.roles", "_ensure_login", 3),
    "database made": ("ntro_dagster.host.tenancy", "provision_database", 1),
    "some credentials": ("ntro_dagster.host.tenancy", "write_private", 3),
    "some migrations": ("ntro_dagster.platforms.migrations", "_apply", 3),
    "migrated": ("ntro_dagster.tenant.deployment", "deploy", 1),
    "brought up to date": ("ntro_dagster.host.tenancy", "bring_up_to_date", 1),
    "introduced": ("ntro_dagster.host.tenancy", "_introduce", 1),
    "environment written": ("ntro_dagster.host.tenancy", "write_environment", 1),
    "process started": ("ntro_dagster.host.supervision", "Supervisor.add", 1),
    "surveyed": ("ntro_dagster.host.tenancy", "survey_new_tenant", 1),
    "desk started": ("ntro_dagster.host.supervision", "Supervisor.add", 4),
    "serving": ("ntro_dagster.host.installation", "Installation.start_services", 1),
}
SHORT = {"process started", "partition added"}
ENTITY_POINTS = {
    "registered": ("ntro_dagster.workspace.registry", "Registry.create_entity", 1),
    "partition added": ("ntro_dagster.host.tenancy", "_add_partitions", 1),
    "in the database": ("ntro_dagster.host.tenancy", "create_entities", 1),
}
LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename } } } } }"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A running installation with one tenant, to which others are added while it runs."""
    with installed() as site:
        create_tenant(site.installation, "host", name="Host Fund")
        deploy_expenses(site, "host")
        site.installation.start_services()
        yield site


def die_creating(site: Site, what: str, slug: str, point: tuple[str, str, int]) -> None:
    module, name, number = point
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(site.home.root), what, slug, module, name, str(number)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def locations(site: Site) -> dict[str, str]:
    """What the webserver serves, without being told to look again."""
    entries = site.graphql(LOCATIONS)["workspaceOrError"]["locationEntries"]
    return {entry["name"]: (entry["locationOrLoadError"] or {}).get("__typename", "") for entry in entries}


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p in SHORT else pytest.mark.long) for p in TENANT_POINTS])
def test_killed_creating_a_tenant(site: Site, point: str) -> None:
    slug = "t_" + point.replace(" ", "_")
    die_creating(site, "tenant", slug, TENANT_POINTS[point])
    site.installation.write_workspace()
    assert slug not in locations(site) or locations(site)[slug] == "RepositoryLocation"  # half a tenant is not shown
    with suppress(TenantExistsError):  # where only its process or location was missing
        create_tenant(site.installation, slug, name="Client")
    with pytest.raises(TenantExistsError):
        create_tenant(site.installation, slug, name="Client")
    assert locations(site)[slug] == "RepositoryLocation"
    client = site.client(slug)
    assert client.ask("SELECT slug, name FROM system.tenant") == [{"slug": slug, "name": "Client"}]
    assert client.value("SELECT count(*) FROM ledgers.accounts") > 10
    deploy_expenses(site, slug)
    create_entity(site.installation, slug, "one", name="One")
    document = invent(site.home.root / "documents" / f"{slug}.csv", PERIOD, 3)
    client.submit(document.path, PERIOD, "one")


def test_tenants_completed_after_a_kill_work(site: Site) -> None:
    """Their sensors stage what was submitted. The daemon looks for new tenants once a minute."""
    for slug in locations(site).keys() - {"host"}:
        client = site.client(slug)
        eventually(partial(client.staged, PERIOD), f"{slug} stages its document")
        assert client.statuses("one", PERIOD) == {"PENDING": 3}


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p in SHORT else pytest.mark.long) for p in ENTITY_POINTS])
def test_killed_creating_an_entity(site: Site, point: str) -> None:
    slug = "e-" + point.replace(" ", "-")
    die_creating(site, "entity", slug, ENTITY_POINTS[point])
    with suppress(EntityExistsError):
        create_entity(site.installation, "host", slug, name=slug)
    with pytest.raises(EntityExistsError):
        create_entity(site.installation, "host", slug, name=slug)
    assert slug in site.storage.event_log_storage.get_dynamic_partitions(entities_set("host"))
    client = site.client("host")
    document = invent(site.home.root / "documents" / f"{slug}.csv", PERIOD, 3)
    client.submit(document.path, PERIOD, slug)
    eventually(lambda: client.statuses(slug, PERIOD) == {"PENDING": 3}, "staged")

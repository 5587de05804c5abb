"""What each place says of the runbooks of a tenant: registry, database, the list, the code server as Dagster shows it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from installed import PREPARER, Client, Site, eventually, invent
from samples import Sample

from ntro_dagster.host.deployments import Runbooks
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import credential
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit as file_document
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.tenant.entities import entities_by_spelling, entity_by_slug
from ntro_dagster.workspace.deployments import Deployments, State, Version

JOBS = """query ($tenant: String!) { repositoryOrError(
  repositorySelector: {repositoryName: "__repository__", repositoryLocationName: $tenant}
) { __typename ... on Repository { pipelines { name tags { key value } } } } }"""

LOADED = """{ workspaceOrError { ... on Workspace { locationEntries {
  name loadStatus locationOrLoadError { __typename ... on PythonError { message className } }
} } } }"""


@dataclass(frozen=True)
class Told:
    """Version by slug, in each place; and how the workspace says its acts ended."""

    registry: dict[str, str]
    database: dict[str, str]
    listed: dict[str, str]
    shown: dict[str, str]
    types: frozenset[str]
    unsettled: int


def active(version: dict[str, str]) -> Told:
    """Every place tells the same; each sample has one type."""
    types = frozenset(f"{slug.replace('-', '_')}__lines" for slug in version)
    return Told(version, version, version, version, types, 0)


def push(site: Site, sample: Sample, folder: Path) -> Version:
    version, _ = Runbooks(site.installation).push(sample.write(folder))
    return version


def shown(site: Site, tenant: str) -> dict[str, str]:
    """By the webserver, of the jobs of runbooks: once it has loaded them, for it finds a dead code server in its own time."""

    def asked() -> dict[str, Any] | None:
        answer = site.graphql(JOBS, tenant=tenant)["repositoryOrError"]
        return answer if answer["__typename"] == "Repository" else None

    try:
        answer = eventually(asked, f"the webserver has loaded {tenant}")
    except AssertionError as error:
        raise AssertionError(site.graphql(LOADED)) from error
    tags = {job["name"]: {tag["key"]: tag["value"] for tag in job["tags"]} for job in answer["pipelines"]}
    versions = {name.replace("_", "-"): of.get("ntro/version", "") for name, of in tags.items()}
    return {slug: version for slug, version in versions.items() if version.startswith("v_")}


def told(site: Site, client: Client) -> Told:
    registry = site.installation.registry()
    try:
        known = Deployments(registry)
        acts = known.history(client.slug)
        active_there = known.active(client.slug)
    finally:
        registry.dispose()
    in_database = {row["slug"]: row["version"] for row in client.ask("SELECT slug, version FROM system.active_runbooks")}
    path = site.home.tenant(client.slug).active
    listed = json.loads(path.read_text())["runbooks"] if path.exists() else []
    types = client.ask("SELECT table_name FROM system.subledger_types WHERE active AND owner_runbook IS NOT NULL")
    return Told(
        active_there,
        in_database,
        {each["slug"]: each["version"] for each in listed},
        shown(site, client.slug),
        frozenset(row["table_name"] for row in types),
        sum(act.state == State.STARTED for act in acts),
    )


def assert_told(site: Site, client: Client, wanted: dict[str, str]) -> None:
    """Everywhere. The webserver hears of a code server's new code from the code server itself, in its own time."""
    eventually(lambda: shown(site, client.slug) == wanted, f"the webserver shows {wanted}", 20)
    assert told(site, client) == active(wanted)


def applied(client: Client, slug: str) -> list[str]:
    return [
        row["name"] for row in client.ask("SELECT name FROM system.schema_migrations WHERE bundle = %s ORDER BY name", [slug])
    ]


def submit(client: Client, slug: str, entity: str, folder: Path, *, rows: int = 3, period: str = "2026-03") -> None:
    """A document of the kind that the sample of that slug reads, for one entity."""
    made = invent(folder / f"{slug}-{entity}-{period}.csv", period, rows)

    async def filing() -> None:
        async with TenantDatabase(credential(client.home, client.slug, Role.APP)) as database:
            await file_document(
                database,
                DocumentStore(client.home.tenant(client.slug).documents),
                made.path,
                resolve=lambda names: entities_by_spelling(database, names),
                submitted_by=PREPARER,
                entity=await entity_by_slug(database, entity, tenant=client.slug),
                period=period,
                source=f"{slug}-return",
            )

    asyncio.run(filing())

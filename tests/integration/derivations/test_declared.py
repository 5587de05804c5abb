"""What a runbook declares of sources and derivations, as a deployment carries it out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from let_flat import RUNBOOK

from ntro_dagster.bundles import Derived, RunbookInvalidError, frontmatter, platform_bundle
from ntro_dagster.bundles.archive import read_folder
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import load_types, subledger_types, table_name
from ntro_dagster.tenant.declarations import Declarations, SourceTakenError, declare
from ntro_dagster.tenant.deployment import Change, bring_up_to_date, carry_out

HEAD = frontmatter(RUNBOOK)
TABLES = {name: table_name(name, RUNBOOK.slug) for name in HEAD.reads} | {"journal_proposals": "journal_proposals"}
DECLARED = Declarations.of(HEAD, TABLES)
VERSION = "v_0123456789ab"


@pytest.fixture
def credentials(make_database: Callable[[], DatabaseCredentials]) -> DatabaseCredentials:
    made = make_database()
    bring_up_to_date(made.owner, platform_bundle())
    return made


def rows(credentials: DatabaseCredentials, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(credentials.auditor) as auditor:
        return auditor.execute(query).fetchall()


def test_a_deployment_declares_and_a_withdrawal_takes_back(credentials: DatabaseCredentials) -> None:
    load_types(platform_bundle(), RUNBOOK)
    types = [TypeDescription.of(kind) for kind in subledger_types(RUNBOOK)]
    manifest = read_folder(RUNBOOK.root)
    reads = {TABLES[name]: sources for name, sources in HEAD.reads.items()}
    slug = str(RUNBOOK.slug)
    carry_out(
        credentials.owner,
        Change(uuid4(), "deploy", slug, VERSION, manifest, RUNBOOK.migrations, types, reads=reads, declared=DECLARED),
    )
    assert rows(credentials, "SELECT source FROM ingest.sources ORDER BY 1") == [
        ("agent-payouts",),
        ("agent-rents",),
        ("agent-repairs",),
    ]
    inputs = "SELECT subledger, earlier FROM system.derivation_inputs ORDER BY 1"
    assert rows(credentials, inputs) == [(TABLES[name], True) for name in sorted(HEAD.reads)]
    carry_out(credentials.owner, Change(uuid4(), "withdraw", slug))
    assert rows(credentials, inputs) == []


def test_what_travels_is_what_was_declared() -> None:
    assert Declarations.from_json(DECLARED.as_json()) == DECLARED


def test_two_runbooks_do_not_read_one_source_differently(credentials: DatabaseCredentials) -> None:
    other = replace(DECLARED, sources={"agent-rents": {"reader": "table", "entity": "owner"}}, derivations={})
    with psycopg.connect(credentials.owner) as owner:
        declare(owner, "nav-monthly-journals", DECLARED)
        declare(owner, "twin", replace(DECLARED, derivations={}))
        with pytest.raises(SourceTakenError):
            declare(owner, "other", other)
        declare(owner, "nav-monthly-journals", other)


def test_a_derivation_from_a_subledger_that_is_not_there_is_refused() -> None:
    head = replace(HEAD, derives={"journal_proposals": Derived(("ghosts",))})
    with pytest.raises(RunbookInvalidError):
        Declarations.of(head, TABLES)

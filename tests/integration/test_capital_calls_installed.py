"""Capital calls in a running home: sensors carry rows through statuses of their own, and Dagster counts them."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from cli_home import ROOT, CommandLine, command_line
from psycopg.types.json import Jsonb

from ntro_dagster.host.home import Home, Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.ingest.returns import Layout

DEADLINE_S = 240
POLL_S = 0.2
BUNDLE = ROOT / "runbooks" / "capital-calls"
PERIOD = "2025-01"
LAYOUT = Layout(
    kind="table", encoding="utf-8", delimiter=",", header_line=1, columns=(), width=0, mapping={}, rivals={}, names_entity=True
).as_dict()


@pytest.fixture(scope="module")
def ntro() -> Iterator[CommandLine]:
    with command_line() as ntro:
        ntro.ok("up", "--detach")
        ntro.ok("tenant", "create", "acme", "--name", "Acme Capital")
        ntro.ok("workflow", "push", BUNDLE)
        ntro.ok("workflow", "deploy", "capital-calls", "--tenant", "acme")
        ntro.ok("entity", "create", "fund-1", "--tenant", "acme", "--name", "Fund One")
        yield ntro


def file(ntro: CommandLine, subledger: str, change: dict[str, dict[str, str]] | None = None) -> None:
    """A sample's records, as filing a document leaves them; `change`: other values by investor."""
    with (BUNDLE / "samples" / subledger / "2025-01" / f"{subledger}.csv").open(newline="") as table:
        records = [row | (change or {}).get(row["investor"], {}) for row in csv.DictReader(table)]
    table_name = {"commitments": "capital_calls__commitment", "call-notices": "capital_calls__capital_call"}[subledger]
    document = uuid4()
    with psycopg.connect(credential(Home(ntro.home), "acme", Role.APP)) as app:
        (entity,) = app.execute("SELECT id FROM system.entities WHERE slug = 'fund-1'").fetchone() or (None,)
        app.execute(
            "INSERT INTO ingest.submitted_documents "
            "(id, sha256, name, bytes, source, period, layout, records, findings, submitted_by) "
            "VALUES (%s, %s, 'x.csv', 1, %s, %s, %s, %s, '[]', 'user:ann')",
            [document, sha256(document.bytes).digest(), subledger, PERIOD, Jsonb(LAYOUT), len(records)],
        )
        app.cursor().executemany(
            "INSERT INTO ingest.submitted_records (id, document_id, line, entity_id, period, raw) "
            "VALUES (gen_random_uuid(), %s, %s, %s, %s, %s)",
            [[document, number, entity, PERIOD, Jsonb(raw)] for number, raw in enumerate(records, start=2)],
        )
        app.execute(
            "INSERT INTO ingest.intake (document_id, entity_id, subledger, period, records) VALUES (%s, %s, %s, %s, %s)",
            [document, entity, table_name, PERIOD, len(records)],
        )


def until(what: str, look: Callable[[], Any], expected: Any) -> None:
    deadline = time.monotonic() + DEADLINE_S
    found = look()
    while found != expected:
        assert time.monotonic() < deadline, f"{what}: {found}"
        time.sleep(POLL_S)
        found = look()


def statuses(ntro: CommandLine, subledger: str) -> Callable[[], dict[str, str]]:
    return lambda: {row["investor"]: row["status"] for row in ntro.ok("rows", "list", subledger, "--tenant", "acme")["rows"]}


def review(ntro: CommandLine, kind: str, subledger: str, *more: str) -> Any:
    chosen = ("--subledger", subledger, "--tenant", "acme", "--as", "bob", "--reason", "because", "--wait")
    return ntro.ok("review", kind, *more, *chosen)


def counted(ntro: CommandLine) -> set[str]:
    """The names under which the workspace has been told counts of calls."""
    url = Installation(Home(ntro.home)).workspace_url()
    with psycopg.connect(url) as workspace:
        told = workspace.execute("SELECT event FROM event_logs WHERE asset_key LIKE '%capital_calls__capital_call%'").fetchall()
    names = ("AWAITING_BANK", "DEFAULTED", "PAID", "PENDING", "Investor", "LPA")
    return {name for name in names if any(name in event for (event,) in told)}


@pytest.mark.long
def test_calls_go_their_own_way_by_sensors_people_and_time(ntro: CommandLine) -> None:
    file(ntro, "commitments")
    until("staged", statuses(ntro, "commitment"), dict.fromkeys(("Investor A", "Investor B", "Investor C"), "PENDING"))
    review(ntro, "approve", "commitment", "--entity", "fund-1")
    until("in force", statuses(ntro, "commitment"), dict.fromkeys(("Investor A", "Investor B", "Investor C"), "IN_FORCE"))

    later = {"due_date": "2099-01-20"}
    file(ntro, "call-notices", {"Investor A": later, "Investor B": later})
    until("called", statuses(ntro, "capital_call"), dict.fromkeys(("Investor A", "Investor B", "Investor C"), "PENDING"))
    review(ntro, "approve", "capital_call", "--entity", "fund-1")
    until(
        "posted, and C in default long ago",
        statuses(ntro, "capital_call"),
        {"Investor A": "AWAITING_BANK", "Investor B": "AWAITING_BANK", "Investor C": "DEFAULTED"},
    )
    rows = {row["investor"]: row["id"] for row in ntro.ok("rows", "list", "capital_call", "--tenant", "acme")["rows"]}
    told = review(ntro, "confirm_payment", "capital_call", rows["Investor A"])
    assert (told["decision"], told["rows"]) == ("confirm_payment", 1)
    until(
        "paid",
        statuses(ntro, "capital_call"),
        {"Investor A": "PAID", "Investor B": "AWAITING_BANK", "Investor C": "DEFAULTED"},
    )
    until("counted in Dagster", lambda: counted(ntro), {"AWAITING_BANK", "DEFAULTED", "PAID", "PENDING"})


def test_a_decision_that_the_type_does_not_know_is_refused_with_those_it_does(ntro: CommandLine) -> None:
    code, exit_code = ntro.refused(
        "review", "exclude", "--subledger", "capital_call", "--tenant", "acme", "--entity", "fund-1", "--reason", "x"
    )
    assert (code, exit_code) == ("SIGNAL_UNKNOWN", 2)

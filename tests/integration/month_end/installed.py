"""A real installation for tests: its own home below /tmp, its own ports, gone afterwards.

`Site` is the workspace's side (processes, runs, GraphQL), `Client` one tenant's (documents, rows, decisions, journals).
"""

from __future__ import annotations

import asyncio
import csv
import json
import random
import shutil
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import psutil
import psycopg
from dagster import DagsterRun, RunRecord, RunsFilter
from dagster._core.storage.runs import RunStorage
from psycopg.rows import dict_row

from ntro_dagster.boundary.names import PARTITION_TAG, TENANT_TAG, WORK_TAG
from ntro_dagster.boundary.storage import PooledPostgresStorage
from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.gl.trial_balance import TrialBalance, trial_balance
from ntro_dagster.host.deployments import Runbooks
from ntro_dagster.host.home import Home, Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.host.tenancy import create_tenant, ensure_entities
from ntro_dagster.ingest.outcome import IngestOutcome
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.subledger.registry import load_types, subledger_type
from ntro_dagster.subledger.review import Filed, file_signal
from ntro_dagster.tenant.entities import entities_by_spelling, entity_by_slug
from ntro_dagster.tenant.fork_server import is_fork_server

T = TypeVar("T")
POLL_S = 0.05
PATIENCE_S = 120.0
PREPARER, APPROVER = "user:paula", "user:amir"


def eventually(look: Callable[[], T | None], what: str, seconds: float = PATIENCE_S) -> T:
    """What `look` returns once it is true; asked again and again until the deadline."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(POLL_S)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- one tenant's side


@dataclass(frozen=True)
class Client:
    """One tenant, with the credentials of its roles."""

    home: Home
    slug: str

    def ask(self, question: str, values: Any = None, *, role: Role = Role.AUDITOR) -> list[dict[str, Any]]:
        """Rows of a query (or none, of a statement), over a connection of its own."""
        with psycopg.connect(credential(self.home, self.slug, role), autocommit=True, row_factory=dict_row) as connection:
            cursor = connection.execute(question.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def value(self, question: str, values: Any = None, *, role: Role = Role.AUDITOR) -> Any:
        """The one value of a query's one row."""
        (row,) = self.ask(question, values, role=role)
        (value,) = row.values()
        return value

    def holds(self, question: str, values: Any = None) -> bool:
        """As `value`, but False while the database does not answer."""
        try:
            return bool(self.value(question, values))
        except psycopg.OperationalError:
            return False

    def submit(self, path: Path, period: str, entity: str | None = None) -> IngestOutcome:
        async def submitting() -> IngestOutcome:
            async with TenantDatabase(credential(self.home, self.slug, Role.APP)) as database:
                return await submit(
                    database,
                    DocumentStore(self.home.tenant(self.slug).documents),
                    path,
                    resolve=lambda names: entities_by_spelling(database, names),
                    submitted_by=PREPARER,
                    entity=await entity_by_slug(database, entity, tenant=self.slug) if entity else None,
                    period=period,
                )

        return asyncio.run(submitting())

    def decide(
        self,
        kind: str,
        by: str,
        *,
        reason: str | None = None,
        values: Mapping[str, Any] | None = None,
        ids: Sequence[UUID] | None = None,
        entity: str | None = None,
        period: str | None = None,
        status: str | None = None,
    ) -> list[Filed]:
        """File a signal as the desk does."""

        async def filing() -> list[Filed]:
            async with TenantDatabase(credential(self.home, self.slug, Role.DESK)) as desk:
                known = await entity_by_slug(desk, entity, tenant=self.slug) if entity else None
                return await file_signal(
                    desk,
                    subledger_type("expenses"),
                    kind,
                    filed_by=by,
                    reason=reason,
                    values=values,
                    ids=ids,
                    entity_id=known.id if known else None,
                    period=period,
                    status=status,
                )

        return asyncio.run(filing())

    def balance(self, entity: str, period: str) -> TrialBalance:
        async def reading() -> TrialBalance:
            async with TenantDatabase(credential(self.home, self.slug, Role.AUDITOR)) as database:
                known = await entity_by_slug(database, entity, tenant=self.slug)
                return await trial_balance(database, entity_id=known.id, period=period)

        return asyncio.run(reading())

    def statuses(self, entity: str, period: str) -> dict[str, int]:
        rows = self.ask(
            "SELECT x.status, count(*) AS rows FROM ledgers.expenses x JOIN system.entities e ON e.id = x.entity_id "
            "WHERE e.slug = %s AND x.period = %s GROUP BY 1",
            [entity, period],
        )
        return {row["status"]: row["rows"] for row in rows}

    # -- conditions to wait for

    def staged(self, period: str) -> bool:
        return self.holds(
            "SELECT count(*) > 0 AND count(*) FILTER (WHERE staged_at IS NULL) = 0 FROM ingest.intake WHERE period = %s", [period]
        )

    def decided(self) -> bool:
        return self.holds("SELECT count(*) = 0 FROM system.signals WHERE applied_at IS NULL")

    def closed(self, period: str, entity: str | None = None) -> bool:
        """Whether every trial balance of the month is drawn up and nothing has moved since."""
        return self.holds(
            "SELECT count(*) > 0 AND bool_and(last_change = closed_change) FROM system.partition_activity a "
            "JOIN system.entities e ON e.id = a.entity_id WHERE period = %s AND e.slug = coalesce(%s, e.slug)",
            [period, entity],
        )


# -- the workspace's side


@dataclass(frozen=True)
class Site:
    """A running installation."""

    installation: Installation

    @property
    def home(self) -> Home:
        return self.installation.home

    @property
    def url(self) -> str:
        return self.installation.addresses.dagster

    def client(self, slug: str) -> Client:
        return Client(self.home, slug)

    @cached_property
    def storage(self) -> PooledPostgresStorage:
        return PooledPostgresStorage(self.installation.workspace_url())

    def runs(self, tenant: str, *, work: str | None = None, partition: str | None = None) -> list[RunRecord]:
        """Of one tenant, the oldest first."""
        wanted = {TENANT_TAG: tenant, WORK_TAG: work, PARTITION_TAG: partition}
        tags = {name: value for name, value in wanted.items() if value is not None}
        storage: RunStorage = self.storage.run_storage
        return list(reversed(storage.get_run_records(RunsFilter(tags=tags))))

    def run(self, run_id: str) -> DagsterRun:
        (record,) = self.storage.run_storage.get_run_records(RunsFilter(run_ids=[run_id]))
        return record.dagster_run

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - our own webserver
            f"{self.url}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
            answer: dict[str, Any] = json.load(response)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def supervisord(self) -> psutil.Process:
        return psutil.Process(int((self.home.run / "supervisord.pid").read_text()))

    def process(self, name: str) -> psutil.Process:
        """The process that the supervisor keeps under that name, once it runs."""

        def look() -> psutil.Process | None:
            pid = next((status.pid for status in self.installation.status() if status.name == name), None)
            with suppress(psutil.Error):
                return psutil.Process(pid) if pid else None
            return None

        return eventually(look, f"{name} runs")

    def run_workers(self, tenant: str) -> list[psutil.Process]:
        """The forked processes that runs of the tenant are executed in: grandchildren of its code server."""
        server = self.process(f"tenant-{tenant}")
        fork_servers = [child for child in server.children() if is_fork_server(child)]
        return [worker for fork_server in fork_servers for worker in fork_server.children()]


@contextmanager
def installed() -> Iterator[Site]:
    """An empty installation with PostgreSQL running and no other process yet. Everything of it is gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="ntro-me-", dir="/tmp"))
    installation = Installation(Home(root / "h"))
    load_types(platform_bundle())
    site = Site(installation)
    try:
        installation.prepare(webserver_port=free_port())
        yield site
    finally:
        try:
            site.storage.run_storage.dispose()
            installation.down()
        finally:
            _remove(root, installation.home)


def _remove(root: Path, home: Home) -> None:
    """Kill what still works for this home, by its unguessable path, and delete its files."""
    places = [str(root), str(PostgresServer(home.postgres).data)]
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            said = " ".join([*process.cmdline(), *process.environ().values()])
            if process.pid != psutil.Process().pid and any(place in said for place in places):
                process.kill()
    data = PostgresServer(home.postgres).data
    if not data.is_relative_to(root):
        shutil.rmtree(data.parent, ignore_errors=True)
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(home.sockets, ignore_errors=True)


def deploy_expenses(site: Site, slug: str) -> None:
    runbooks = Runbooks(site.installation)
    runbooks.push(runbook_bundle("expense-processor").root)
    runbooks.deploy("expense-processor", slug)


def add_tenant(site: Site, slug: str, name: str, entities: Mapping[str, str], *, currency: str = "GBP") -> Client:
    create_tenant(site.installation, slug, name=name)
    deploy_expenses(site, slug)
    ensure_entities(site.installation, slug, dict(entities), currency=currency)
    return site.client(slug)


# -- documents

HEADER = ["Date", "Expense Type", "Supplier", "Transaction Number", "Amount", "VAT Amount"]
KINDS = ("Legal fees", "Audit fees", "Repairs and maintenance", "Electricity", "Consultancy", "Insurance")


@dataclass(frozen=True)
class Invented:
    """A document that was made up, and what its rows add up to."""

    path: Path
    rows: int
    gross: Decimal


def invent(
    path: Path, period: str, rows: int, *, entities: Sequence[str] = (), suppliers: Sequence[str] = ("Anvil & Co",)
) -> Invented:
    """A return without flaws: the same for the same path, month and size. With `entities`, `rows` for each of them."""
    random_of = random.Random(f"{path.name}/{period}/{rows}")  # noqa: S311 - made-up data
    total = Decimal(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number in range(rows):
            net = Decimal(random_of.randint(1_000, 90_000)) / 100
            vat = (net / 5).quantize(Decimal("0.01")) if number % 2 else Decimal(0)
            total += net + vat
            writer.writerow(
                [
                    f"{random_of.randint(1, 28):02d}/{period[5:]}/{period[:4]}",
                    random_of.choice(KINDS),
                    random_of.choice(suppliers),
                    f"{path.stem}-{number}",
                    f"{net + vat:.2f}",
                    f"{vat:.2f}" if vat else "",
                ]
            )
    return Invented(path, rows, total)


# -- what must hold whatever happened

_BOOKS = """
WITH x AS (SELECT x.* FROM ledgers.expenses x JOIN system.entities e ON e.id = x.entity_id
            WHERE e.slug = %(entity)s AND x.period = %(period)s),
     j AS (SELECT j.* FROM ledgers.journals j JOIN system.entities e ON e.id = j.entity_id
            WHERE e.slug = %(entity)s AND j.period = %(period)s),
     totals AS (SELECT j.external_id, sum(l.debit) AS debit, sum(l.credit) AS credit,
                       sum(l.credit - l.debit) FILTER (WHERE l.account_code = '2000') AS creditors
                  FROM j LEFT JOIN ledgers.journal_lines l ON l.journal_id = j.id GROUP BY j.id, j.external_id),
     posted AS (SELECT x.*, 'expenses:' || id AS external_id FROM x WHERE status = 'POSTED'),
     moves AS (SELECT h.row_id, count(*) AS times FROM x JOIN system.history h ON h.row_id = x.id
                WHERE h.from_status = 'APPROVED' AND h.to_status = 'POSTED' GROUP BY 1)
SELECT (SELECT count(*) FROM posted) AS posted,
       (SELECT count(*) FROM x WHERE status = 'APPROVED') AS approved,
       (SELECT count(*) FROM j) AS journals,
       (SELECT count(*) FROM posted p LEFT JOIN j ON j.external_id = p.external_id AND p.posted_journal_ref = j.external_id
         WHERE j.id IS NULL OR NOT p.posted_to_gl) AS rows_without_journal,
       (SELECT count(*) FROM j LEFT JOIN posted p USING (external_id) WHERE p.id IS NULL) AS journals_without_row,
       (SELECT count(*) FROM totals WHERE debit IS DISTINCT FROM credit OR debit IS NULL OR debit <= 0)
           AS journals_out_of_balance,
       (SELECT count(*) FROM posted p JOIN totals t USING (external_id) WHERE t.creditors IS DISTINCT FROM p.amount_gross)
           AS journals_of_another_amount,
       (SELECT count(*) FROM moves WHERE times > 1) AS posted_twice,
       (SELECT count(*) FROM posted p LEFT JOIN moves m ON m.row_id = p.id WHERE m.row_id IS NULL) AS posted_unrecorded,
       (SELECT coalesce(sum(amount_gross), 0) FROM posted) AS posted_gross,
       (SELECT coalesce(sum(creditors), 0) FROM totals) AS creditors
"""


def books(client: Client, entity: str, period: str) -> dict[str, Any]:
    """One entity's month in figures, with what must never be above zero."""
    (found,) = client.ask(_BOOKS, {"entity": entity, "period": period})
    return found


FORBIDDEN = (
    "rows_without_journal",
    "journals_without_row",
    "journals_out_of_balance",
    "journals_of_another_amount",
    "posted_twice",
    "posted_unrecorded",
)


def assert_sound(client: Client, entity: str, period: str) -> dict[str, Any]:
    """Nothing is half-posted, at whatever moment."""
    found = books(client, entity, period)
    assert {name: found[name] for name in FORBIDDEN} == dict.fromkeys(FORBIDDEN, 0)
    assert found["creditors"] == found["posted_gross"]
    assert found["journals"] == found["posted"]
    return found


def assert_posted_once(client: Client, entity: str, period: str, rows: int, gross: Decimal) -> None:
    """Every row posted, once, for what the document said; the trial balance is drawn up over exactly that."""
    found = assert_sound(client, entity, period)
    assert (found["posted"], found["approved"], found["posted_gross"]) == (rows, 0, gross)
    balance = client.balance(entity, period)
    assert balance.balanced
    assert sum(line.credit - line.debit for line in balance.lines if line.account_code == "2000") == gross
    (close,) = client.ask(
        "SELECT c.journals FROM ledgers.closes c JOIN system.entities e ON e.id = c.entity_id "
        "WHERE e.slug = %s AND c.period = %s ORDER BY c.id DESC LIMIT 1",
        [entity, period],
    )
    assert close["journals"] == rows

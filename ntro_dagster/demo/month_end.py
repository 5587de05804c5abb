"""The demo: two clients' month-ends, run by the sensors, reviewed by two people, posted, closed."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from rich.console import Console
from rich.table import Table

from ntro_dagster.boundary.periods import shifted
from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.demo.documents import TENANTS, DemoTenant, write_documents
from ntro_dagster.desk.members import MemberExistsError, add_member, set_password
from ntro_dagster.desk.roles import MemberRole
from ntro_dagster.errors import NtroError, UsageError
from ntro_dagster.gl.periods import PeriodStatus, close_period, period_status
from ntro_dagster.gl.trial_balance import TrialBalance, trial_balance
from ntro_dagster.host.deployments import Runbooks
from ntro_dagster.host.home import Home, Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.host.orphans import until
from ntro_dagster.host.supervision import Supervisor
from ntro_dagster.host.tenancy import create_tenant, ensure_entities
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.registry import load_types, subledger_type
from ntro_dagster.subledger.review import file_signal
from ntro_dagster.tenant.entities import entities_by_spelling, entity_by_slug

PREPARER, APPROVER = "user:paula", "user:amir"
PATIENCE_S = 180.0
FEED_LENGTH = 30


class HomeInUseError(UsageError):
    """Values: `root`."""

    code = "HOME_IN_USE"
    summary = "the demo would stop what runs in this home"
    detail = "processes run in {root}, and the demo would stop them when it ends"
    mend = "`ntro down` first, or give the demo a home of its own with --home"


class DemoStuckError(NtroError):
    """Values: `what`, `tenant`, `seconds`."""

    code = "DEMO_STUCK"
    summary = "the demo's month-end did not move on"
    detail = "tenant {tenant}: {what} did not happen within {seconds} s"
    mend = "`ntro status` and `ntro run list` show what the processes and runs are doing"


def last_month() -> str:
    return shifted(f"{datetime.now(UTC):%Y-%m}", -1)


def run(home: Home, *, once: bool, console: Console) -> None:
    """Show the month-end. Leaves everything running until Ctrl-C; with `once` it stops everything and returns."""
    started = time.monotonic()
    period = last_month()
    if home.description_file.exists() and Supervisor(home).running():
        raise HomeInUseError(root=home.root)
    installation = Installation(home, lambda text: console.print(f"[dim]{text}[/]"))
    load_types(platform_bundle())
    password = secrets.token_urlsafe(12)
    try:
        with _stage(console, "Two clients, each with a database, roles, a process and a code location of its own"):
            installation.prepare()
            for tenant in TENANTS:
                _create(installation, tenant)
                _enlist(installation, tenant, password)
            installation.start_services()
        for name, address in installation.addresses.named():
            console.print(f"  {name:<16}[bold]{address}[/]")
        asyncio.run(_month_end(installation, period, console))
        _show_feed(installation, console)
        console.print(f"\nDone in {time.monotonic() - started:.0f} s. Dagster UI: [bold]{installation.addresses.dagster}[/]")
        if not once:
            asyncio.run(_next_month(installation, console))
            _invite(installation, password, console)
            _wait_for_interrupt()
    finally:
        if home.description_file.exists():
            console.print("[dim]stopping[/]")
            installation.down()


def _create(installation: Installation, tenant: DemoTenant) -> None:
    if not installation.home.tenant(tenant.slug).process_env.exists():
        create_tenant(installation, tenant.slug, name=tenant.name)
        runbooks = Runbooks(installation)
        runbooks.push(runbook_bundle("expense-processor").root)
        runbooks.deploy("expense-processor", tenant.slug)
    for entity in tenant.entities:
        ensure_entities(installation, tenant.slug, {entity.slug: entity.name}, currency=entity.currency)


def _enlist(installation: Installation, tenant: DemoTenant, password: str) -> None:
    """The two people of the demo, with a password of this run's."""
    owner = credential(installation.home, tenant.slug, Role.OWNER)
    for login, role in ((PREPARER, MemberRole.PREPARER), (APPROVER, MemberRole.APPROVER)):
        try:
            add_member(owner, login, name=login.removeprefix("user:").title(), role=role, password=password, by="demo")
        except MemberExistsError:
            set_password(owner, login, password)


async def _next_month(installation: Installation, console: Console) -> None:
    """Documents of the month that is now: for whoever tries the demo."""
    period = datetime.now(UTC).strftime("%Y-%m")
    months = [_Month(installation, tenant, period, console) for tenant in TENANTS]
    with _stage(console, f"{period} has come in, and is left to you"):
        await asyncio.gather(*(month.ingest() for month in months))
        await asyncio.gather(*(month.wait_staged() for month in months))
        for month in months:
            await month.show_counts()


def _invite(installation: Installation, password: str, console: Console) -> None:
    console.print("\nReview it at a desk: repair as [bold]paula[/], approve as [bold]amir[/]; the keys are on [bold]?[/]")
    for tenant, address in installation.addresses.desks.items():
        console.print(f"  {tenant:<10}[bold]{address}[/]")
    console.print(f"  password  [bold]{password}[/] (both; of this demo alone)")
    console.print("Everything keeps running until Ctrl-C. In another terminal:")
    console.print(f"  [bold].venv/bin/ntro --home {installation.home.root} status[/]", soft_wrap=True)


async def _month_end(installation: Installation, period: str, console: Console) -> None:
    months = [_Month(installation, tenant, period, console) for tenant in TENANTS]
    steps: list[tuple[str, Callable[[_Month], Awaitable[None]]]] = [
        ("Documents in: kept by content, one raw record per line", _Month.ingest),
        ("The intake sensor starts a run per entity and month", _Month.wait_staged),
        (f"{PREPARER} looks at what needs attention", _Month.prepare),
        (f"{APPROVER} approves; whoever made a row's content may not", _Month.approve),
        ("The same run posts what was approved, and draws up the trial balance", _Month.wait_closed),
        (f"{APPROVER} closes the month, and a run seals it: nothing is posted to it any more", _Month.close),
    ]
    for title, step in steps:
        with _stage(console, title):
            await asyncio.gather(*(step(month) for month in months))
            for month in months:
                await month.show_counts()
    for month in months:
        await month.show_trial_balances()


class _Month:
    """One tenant's month in the demo."""

    def __init__(self, installation: Installation, tenant: DemoTenant, period: str, console: Console) -> None:
        self._home, self._tenant, self._period, self._console = installation.home, tenant, period, console
        self._kind = subledger_type("expenses")

    def _database(self, role: Role) -> TenantDatabase:
        return TenantDatabase(credential(self._home, self._tenant.slug, role))

    async def ingest(self) -> None:
        folder = self._home.root / "demo" / self._tenant.slug / self._period
        store = DocumentStore(self._home.tenant(self._tenant.slug).documents)
        async with self._database(Role.APP) as database:
            for path, entity in write_documents(folder, self._tenant, self._period):
                outcome = await submit(
                    database,
                    store,
                    path,
                    resolve=lambda names: entities_by_spelling(database, names),
                    submitted_by=PREPARER,
                    entity=await entity_by_slug(database, entity.slug, tenant=self._tenant.slug) if entity else None,
                    period=self._period,
                )
                self._console.print(f"  {self._tenant.slug}: {path.name}: {outcome.parsed_rows} rows, {outcome.message}")

    async def wait_staged(self) -> None:
        await self._until(
            "staging", "SELECT count(*) = 0 AS done FROM ingest.intake WHERE staged_at IS NULL AND period = %(period)s"
        )

    async def prepare(self) -> None:
        async with self._database(Role.DESK) as desk:
            rows = await desk.fetch(
                "SELECT id, amount_gross, validation_errors -> 0 ->> 'code' AS code, raw_payload FROM ledgers.expenses "
                "WHERE status = 'NEEDS_ATTENTION' AND period = %s ORDER BY source_ref",
                [self._period],
            )
            for row in rows:
                await self._settle(desk, row["id"], row["code"], row["amount_gross"])
        await self._until("the preparer's decisions", _ALL_APPLIED)

    async def _settle(self, desk: TenantDatabase, row: UUID, code: str, amount: Decimal | None) -> None:
        """What a preparer would do with the flaws the demo's documents have."""

        repairs = {
            "AMOUNT_NEGATIVE": ("reject", "credit note: to be set against the next bill", {}),
            "VENDOR_MISSING": ("accept", "supplier named on the bank statement", {"vendor": "Greenfinch Couriers"}),
            "DATE_WITHOUT_DAY": ("accept", "paid with the month's last run", {"expense_date": f"{self._period}-28"}),
        }
        signal, reason, values = repairs.get(
            code,
            ("accept", "amount taken from the invoice", {"amount_gross": "1250.00", "vat_amount": "0"} if amount is None else {}),
        )
        await file_signal(desk, self._kind, signal, filed_by=PREPARER, reason=reason, values=values or None, ids=[row])

    async def approve(self) -> None:
        async with self._database(Role.DESK) as desk:
            filed = await file_signal(desk, self._kind, "approve", filed_by=APPROVER, period=self._period, status="PENDING")
        for decision in filed:
            self._console.print(f"  {self._tenant.slug}: {decision.rows} rows approved in one decision")
        await self._until("the approver's decision", _ALL_APPLIED)

    async def wait_closed(self) -> None:
        await self._until(
            "posting and close",
            "SELECT count(*) > 0 AND bool_and(last_change = closed_change) AS done FROM system.partition_activity "
            "WHERE period = %(period)s",
        )

    async def close(self) -> None:
        async with self._database(Role.DESK) as desk:
            for entity in self._tenant.entities:
                known = await entity_by_slug(desk, entity.slug, tenant=self._tenant.slug)
                if await period_status(desk, entity_id=known.id, period=self._period) is PeriodStatus.OPEN:
                    await close_period(desk, entity_id=known.id, period=self._period, by=APPROVER)
        await self._until("the seal", "SELECT bool_and(status = 'CLOSED') AS done FROM ledgers.periods WHERE period = %(period)s")

    async def _until(self, what: str, question: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        async with self._database(Role.AUDITOR) as database:
            while not (found := await database.fetch_one(question, {"period": self._period})) or not found["done"]:
                if time.monotonic() > deadline:
                    raise DemoStuckError(tenant=self._tenant.slug, what=what, seconds=round(PATIENCE_S))
                await asyncio.sleep(0.2)

    async def show_counts(self) -> None:
        async with self._database(Role.AUDITOR) as database:
            rows = await database.fetch(
                "SELECT e.slug, x.status, count(*) AS rows FROM ledgers.expenses x JOIN system.entities e ON e.id = x.entity_id "
                "WHERE x.period = %s GROUP BY 1, 2 ORDER BY 1, 2",
                [self._period],
            )
        by_entity: dict[str, list[str]] = {}
        for row in rows:
            by_entity.setdefault(row["slug"], []).append(f"{row['status']} {row['rows']}")
        for slug, counts in by_entity.items():
            self._console.print(f"  {self._tenant.slug}/{slug}: " + ", ".join(counts))

    async def show_trial_balances(self) -> None:
        async with self._database(Role.AUDITOR) as database:
            for entity in self._tenant.entities:
                known = await entity_by_slug(database, entity.slug, tenant=self._tenant.slug)
                balance = await trial_balance(database, entity_id=known.id, period=self._period)
                self._console.print(_table(f"{entity.name}, {self._period}", balance))


_ALL_APPLIED = (
    "SELECT count(*) = 0 AS done FROM system.signals WHERE applied_at IS NULL AND withdrawn_at IS NULL AND period = %(period)s"
)


def _table(title: str, balance: TrialBalance) -> Table:
    table = Table(title=title, title_justify="left", show_footer=True, min_width=72)
    totals = balance.totals()
    currency, (debit, credit) = next(iter(totals.items()), ("", (Decimal(0), Decimal(0))))
    table.add_column("Account", "Total")
    table.add_column("Name", "")
    table.add_column(f"Debit {currency}", f"{debit:,.2f}", justify="right")
    table.add_column(f"Credit {currency}", f"{credit:,.2f}", justify="right")
    for line in balance.lines:
        table.add_row(
            line.account_code,
            line.account_name,
            f"{line.debit:,.2f}" if line.debit else "",
            f"{line.credit:,.2f}" if line.credit else "",
        )
    return table


def _show_feed(installation: Installation, console: Console) -> None:
    from ntro_dagster.workspace.feed import Feed  # noqa: PLC0415

    table = Table(title="Status feed: all that the workspace knows", title_justify="left", min_width=72)
    for heading in ("Tenant", "Entity", "Period", "Work", "Status", "Seconds"):
        table.add_column(heading)
    with Feed.of(installation) as feed:
        # The work is done before Dagster has noted that its run has ended.
        until(lambda: all(entry.finished for entry in feed.runs(limit=FEED_LENGTH)), timeout=30.0)
        for entry in reversed(feed.runs(limit=FEED_LENGTH)):
            seconds = f"{entry.duration_s:.1f}" if entry.duration_s is not None else ""
            table.add_row(entry.tenant, entry.entity, entry.period, entry.work or "", entry.status, seconds)
    console.print(table)


@contextmanager
def _stage(console: Console, title: str) -> Iterator[None]:
    began = time.monotonic()
    console.print(f"\n[bold]{title}[/]")
    yield
    console.print(f"  [dim]{time.monotonic() - began:.1f} s[/]")


def _wait_for_interrupt() -> None:
    # sigwait, not pause: a shell starts background jobs with SIGINT ignored
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        signal.sigwait(ends)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ends)

"""`ntro journal`: journals of the books, their reversal, and those of other books brought in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from uuid import uuid4

import typer

from ntro_dagster.cli.connections import as_role, database_url, entity_of, tenant_home
from ntro_dagster.cli.invocation import command
from ntro_dagster.cli.members import operator, owner_of
from ntro_dagster.cli.output import Column, count, figure, line, note, pairs, result, table
from ntro_dagster.cli.selection import AsOption, PeriodFilter, TenantOption, checked_user, written_period

if TYPE_CHECKING:
    from ntro_dagster.gl.imports.accounts import NewAccount
    from ntro_dagster.gl.imports.importing import Imported
    from ntro_dagster.gl.journals import Journal
    from ntro_dagster.platforms.postgres.database import TenantDatabase
    from ntro_dagster.subledger.handle import SubledgerHandle
    from ntro_dagster.tenant.entities import Entity

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Journals: look at them, reverse one, bring in those of other books.")

EntityOption = Annotated[str, typer.Option("--entity", "-e", help="The entity's slug.")]
NumberArgument = Annotated[str, typer.Argument(metavar="NUMBER", help="Year and number: 2025/12.")]

MOST_SHOWN = 20


@command(app, "import")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="CSV with a header row.")],
    *,
    mapping: Annotated[Path, typer.Option("--mapping", readable=False, help="YAML: what the columns mean.")],
    tenant: TenantOption,
    entity: EntityOption,
    period: Annotated[
        str | None, typer.Option("--period", "-p", metavar="YYYY-MM", help="For journals whose month nobody can read.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come of it, and keep nothing.")] = False,
    accounts: Annotated[
        bool, typer.Option("--accounts", help="Make the accounts that the chart does not have, as the operator.")
    ] = False,
    user: AsOption = None,
) -> None:
    """Bring in journals, or opening balances, as proposals. Whoever does cannot approve them.

    Each journal of the file becomes a row of journal_proposals: PENDING where it stands up, NEEDS_ATTENTION with the reason
    where not. The same file again changes nothing.
    """
    from ntro_dagster.boundary.periods import open_period  # noqa: PLC0415
    from ntro_dagster.gl.imports.importing import Order, import_journals, look  # noqa: PLC0415
    from ntro_dagster.gl.imports.mapping import read_mapping  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415
    from ntro_dagster.ingest.store import DocumentStore  # noqa: PLC0415
    from ntro_dagster.ingest.submission import EntityClosedError  # noqa: PLC0415
    from ntro_dagster.platforms.postgres.database import TenantDatabase  # noqa: PLC0415

    order = Order(file, read_mapping(mapping), checked_user(user), open_period(period) if period else None)
    store = DocumentStore(tenant_home(tenant).documents)

    async def work(handle: SubledgerHandle, desk: TenantDatabase, owner: Entity) -> tuple[Imported, Sequence[NewAccount]]:
        if owner.status == "CLOSED":
            raise EntityClosedError(names=entity)
        if dry_run:
            found = await look(handle, store, order, currency=owner.currency, make_accounts=accounts)
            return found, found.accounts
        made: Sequence[NewAccount] = ()
        if accounts:
            made = await _make_accounts(handle, store, order, owner, tenant)
        async with TenantDatabase(database_url(tenant, Role.APP)) as other:
            return await import_journals(handle, other, desk, store, order, currency=owner.currency), made

    found, made = _with_proposals(tenant, entity, work)
    _show_import(found, made, order.by, dry_run=dry_run, accounts=accounts, tenant=tenant, entity=entity)


async def _make_accounts(handle: SubledgerHandle, store: Any, order: Any, owner: Entity, tenant: str) -> Sequence[NewAccount]:
    """Those that the mapping gives a type; the others stay unknown, and journals with them need attention."""
    from ntro_dagster.gl.accounts import add_accounts  # noqa: PLC0415
    from ntro_dagster.gl.imports.importing import accounts_missing  # noqa: PLC0415

    new = [each for each in await accounts_missing(handle, store, order, currency=owner.currency) if each.type]
    add_accounts(owner_of(tenant), new, by=operator())
    return new


def _with_proposals(tenant: str, entity: str, work: Callable[[SubledgerHandle, TenantDatabase, Entity], Awaitable[T]]) -> T:
    """Does `work` with a handle on the entity's proposals as the app's role, and the desk's."""
    from ntro_dagster.host.home import Role  # noqa: PLC0415
    from ntro_dagster.platforms.postgres.database import TenantDatabase  # noqa: PLC0415
    from ntro_dagster.subledger import open as open_subledger  # noqa: PLC0415

    async def run(database: TenantDatabase) -> T:
        owner = await entity_of(database, entity, tenant=tenant)
        handle = open_subledger(
            name="journal_proposals", entity_id=owner.id, task_id=uuid4(), tenant_slug=tenant, database=database
        )
        async with AsyncExitStack() as stack:
            desk = await stack.enter_async_context(TenantDatabase(database_url(tenant, Role.DESK)))
            return await work(handle, desk, owner)

    return as_role(tenant, Role.APP, run)


def _show_import(
    found: Imported, made: Sequence[NewAccount], by: str, *, dry_run: bool, accounts: bool, tenant: str, entity: str
) -> None:
    unknown = [each for each in found.accounts if dry_run or each not in made]
    value = {
        "document_id": None if dry_run else found.document_id,
        "dry_run": dry_run,
        "new": found.new,
        "handed_in_by": by,
        "lines": found.lines,
        "journals": found.journals,
        "accepted": found.accepted,
        "needs_attention": found.needs_attention,
        "elsewhere": found.elsewhere,
        "findings": dict(found.codes),
        "months": [{"period": month.period, "statuses": dict(month.statuses), "debits": month.debits} for month in found.months],
        "accounts_made": [] if dry_run else list(made),
        "accounts_missing": unknown,
    }

    def human() -> None:
        columns = [
            Column("Period"),
            Column("Journals", right=True),
            Column("Attention", right=True),
            Column("Debits", right=True),
        ]
        table(
            columns,
            [
                (
                    month.period,
                    f"{month.journals:,}",
                    f"{month.statuses['NEEDS_ATTENTION']:,}",
                    ", ".join(f"{figure(amount)} {currency}" for currency, amount in sorted(month.debits.items())),
                )
                for month in found.months
            ],
        )
        if found.codes:
            line("why journals need attention (one may have several reasons):")
            table([Column("Finding"), Column("Journals", right=True)], [(c, f"{n:,}") for c, n in found.codes.most_common()])
        if found.elsewhere:
            line(f"{count(found.elsewhere, 'journal')} in another month already: reject those rows and import again to move them")
        _show_accounts(unknown, dry_run=dry_run, accounts=accounts)
        said = f"{count(found.lines, 'line')}, {count(found.journals, 'journal')}"
        if dry_run:
            line(f"dry run: nothing was kept; {said}, {found.needs_attention:,} would need attention")
            return
        line(f"{said}: {found.accepted:,} handed in by {by}, {found.needs_attention:,} need attention")
        if found.accepted:
            note(f"→ somebody else approves: `ntro review approve --subledger journal_proposals -t {tenant} -e {entity} -p …`")

    result(value, human)


def _show_accounts(unknown: Sequence[NewAccount], *, dry_run: bool, accounts: bool) -> None:
    if not unknown:
        return
    line("accounts that would be made:" if dry_run and accounts else "accounts that the chart does not have:")
    columns = [Column("Code", flexible=True), Column("Name", flexible=True), Column("Type"), Column("Parent", flexible=True)]
    table(columns, [(each.code, each.name, each.type or "not said", each.parent) for each in unknown])
    if not accounts and any(each.type for each in unknown):
        note("→ --accounts makes those that have a type")


@command(app, "list")
def list_(
    *,
    tenant: TenantOption,
    entity: EntityOption,
    period: PeriodFilter = None,
    account: Annotated[str | None, typer.Option("--account", help="Only those that move this account.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, the last ones.")] = 50,
) -> None:
    """Journals in the order of their numbers."""
    from ntro_dagster.gl.journals import journals  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    month = written_period(period)

    async def look(database: TenantDatabase) -> Sequence[Journal]:
        known = await entity_of(database, entity, tenant=tenant)
        return await journals(database, entity_id=known.id, period=month, account=account, limit=limit)

    found = as_role(tenant, Role.AUDITOR, look)

    def human() -> None:
        columns = [
            Column("Number", right=True), Column("Date"), Column("Kind"), Column("Description", flexible=True),
            Column("Amount", right=True), Column("Currency"), Column("Reverses", spare=True), Column("Reversed by", spare=True),
        ]  # fmt: skip
        if not found:
            line("no journals")
            return
        table(columns, [_cells(each) for each in found])

    result([_head(each) for each in found], human)


def _cells(each: Journal) -> list[str | None]:
    amount = figure(each.amount)
    shown = [each.number, each.posting_date.isoformat(), each.kind, each.description, amount, each.currency]
    return [*shown, each.reverses, each.reversed_by]


def _head(each: Journal) -> dict[str, Any]:
    names = (
        "id", "number", "period", "posting_date", "kind", "description", "currency", "amount", "functional_currency",
        "rate_source", "reverses", "reversed_by", "external_id", "run_id", "posted_at",
    )  # fmt: skip
    # A rate is no money: all its digits are said.
    return {name: getattr(each, name) for name in names} | {"rate": None if each.rate is None else plain_rate(each.rate)}


def plain_rate(rate: Any) -> str:
    """A rate with the digits it has and no more."""
    text = format(rate, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


@command(app, "show")
def show(number: NumberArgument, *, tenant: TenantOption, entity: EntityOption) -> None:
    """One journal with its lines, its rate, and the rows it was made of."""
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    found = as_role(tenant, Role.AUDITOR, lambda database: _journal(database, number, entity=entity, tenant=tenant))
    value = _head(found) | {"lines": list(found.lines), "rows": list(found.rows)}

    def human() -> None:
        rate = f"{plain_rate(found.rate)} {found.functional_currency}, {found.rate_source}" if found.rate else None
        said = [
            ("Journal", found.number), ("Date", found.posting_date.isoformat()), ("Kind", found.kind),
            ("Description", found.description), ("Currency", found.currency), ("Rate", rate), ("Reverses", found.reverses),
            ("Reversed by", found.reversed_by), ("Posted", f"{found.posted_at:%Y-%m-%d %H:%M:%S}, run {found.run_id}"),
            ("Rows", ", ".join(str(row)[:8] for row in found.rows[:MOST_SHOWN]) + (" …" if len(found.rows) > MOST_SHOWN else "")),
        ]  # fmt: skip
        pairs([(name, text) for name, text in said if text])
        columns = [
            Column("Account"), Column("Name", flexible=True), Column("Party", flexible=True), Column("Text", flexible=True),
            Column(f"Debit {found.currency}", right=True), Column("Credit", right=True),
        ]  # fmt: skip
        if found.rate:
            columns += [Column(f"Debit {found.functional_currency}", right=True), Column("Credit", right=True)]
        rows = []
        for each in found.lines:
            cells = [each.account_code, each.account_name, each.party, each.description, _side(each.debit), _side(each.credit)]
            rows.append([*cells, *([_side(each.functional_debit), _side(each.functional_credit)] if found.rate else [])])
        table(columns, rows)

    result(value, human)


def _side(amount: Any) -> str | None:
    return figure(amount) if amount else None


async def _journal(database: TenantDatabase, number: str, *, entity: str, tenant: str) -> Journal:
    from ntro_dagster.gl.journals import journal  # noqa: PLC0415

    known = await entity_of(database, entity, tenant=tenant)
    return await journal(database, number, entity_id=known.id, entity=entity, tenant=tenant)


@command(app, "reverse")
def reverse(
    number: NumberArgument,
    *,
    tenant: TenantOption,
    entity: EntityOption,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept for ever.")],
    by: Annotated[str, typer.Option("--by", metavar="LOGIN", help="Who hands it in, and cannot approve it.")],
    period: Annotated[
        str | None, typer.Option("--period", "-p", metavar="YYYY-MM", help="[default: the earliest open month]")
    ] = None,
) -> None:
    """Propose the mirror of a journal. It is reviewed, approved by somebody else and posted like any other."""
    from ntro_dagster.gl.reversals import Reversal  # noqa: PLC0415
    from ntro_dagster.gl.reversals import reverse as propose_mirror  # noqa: PLC0415

    if not reason.strip():
        raise typer.BadParameter("a reason cannot be blank", param_hint="--reason")
    who, month = checked_user(by), written_period(period)

    async def work(handle: SubledgerHandle, desk: TenantDatabase, _: Entity) -> Reversal:
        journal = await _journal(handle.database, number, entity=entity, tenant=tenant)
        return await propose_mirror(handle, desk, journal, by=who, reason=reason.strip(), period=month)

    made = _with_proposals(tenant, entity, work)
    approve = f"ntro review approve {str(made.row_id)[:8]} --tenant {tenant} --subledger journal_proposals --as …"
    value = {
        "number": number, "row_id": made.row_id, "period": made.period, "posting_date": made.posting_date,
        "handed_in_by": who, "next": approve,
    }  # fmt: skip

    def human() -> None:
        line(f"the reversal of {number} waits in {made.period}, dated {made.posting_date.isoformat()}: row {made.row_id}")
        note(f"→ somebody else than {who} approves it: `{approve}`; a run then posts it, and {number} is reversed")

    result(value, human)

"""`ntro ingest`: documents in. Each file has its own outcome; one that is refused stops no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.boundary.periods import open_period
from ntro_dagster.cli.connections import as_role, entity_of, installation, tenant_home
from ntro_dagster.cli.failures import OK, PARTIAL, named, one_line, tell
from ntro_dagster.cli.files import Candidate, candidates
from ntro_dagster.cli.invocation import command, invocation
from ntro_dagster.cli.output import Column, count, line, progress, result, table
from ntro_dagster.cli.selection import AsOption, TenantOption, TimeoutOption, checked_user
from ntro_dagster.errors import NtroError, TransientError, UsageError
from ntro_dagster.ingest.finding import MESSAGES

if TYPE_CHECKING:
    from ntro_dagster.ingest.outcome import IngestOutcome
    from ntro_dagster.platforms.postgres.database import TenantDatabase
    from ntro_dagster.tenant.entities import Entity


class NothingToIngestError(UsageError):
    code = "NOTHING_TO_INGEST"
    summary = "no file to ingest"
    detail = "there is no file in {paths}"
    mend = "name files, or folders that hold some; hidden files are left out"
    exit_code = 4


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file. `error`: why it was refused."""

    path: Path
    outcome: IngestOutcome
    error: NtroError | None = None

    def as_dict(self) -> dict[str, Any]:
        mend = one_line(self.error.advice()) if self.error else None
        return {"path": str(self.path), **self.outcome.as_dict(), "mend": mend}


@dataclass(frozen=True, slots=True)
class Order:
    """What the command line asks for."""

    tenant: str
    entity: str | None
    period: str | None
    source: str
    create_entities: bool
    submitted_by: str


def register(app: typer.Typer) -> None:
    command(app, "ingest")(ingest)


def ingest(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", readable=False, help="Files, or folders: all files in them, hidden ones left out."),
    ],
    *,
    tenant: TenantOption,
    entity: Annotated[
        str | None, typer.Option("--entity", "-e", help="All rows are this entity's [default: each row names its own]")
    ] = None,
    period: Annotated[
        str | None, typer.Option("--period", "-p", metavar="YYYY-MM", help="The month it is filed for [default: from the path]")
    ] = None,
    source: Annotated[str, typer.Option(help="What kind of document it is.")] = "spend-return",
    create_entities: Annotated[bool, typer.Option("--create-entities", help="Make the entities that documents name.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until a run has made rows of every document.")] = False,
    timeout: TimeoutOption = 300,
    user: AsOption = None,
) -> int:
    """File documents: files, or folders of files.

    They are kept by content, and never change; the same bytes twice is one document.

    Exit code: 0 all filed, 5 some of several files refused; for a single file, that of its error.
    """
    from ntro_dagster.host.home import Role  # noqa: PLC0415

    order = Order(tenant, entity, open_period(period) if period else None, source, create_entities, checked_user(user))
    tenant_home(tenant)
    found = list(candidates(paths))
    if not found:
        raise NothingToIngestError(paths=", ".join(map(str, paths)))

    slow: NtroError | None = None
    outcomes: list[FileOutcome] = []

    async def work(database: TenantDatabase) -> None:
        nonlocal slow
        await _submit_all(database, order, found, outcomes)
        if wait:
            outcomes[:], slow = await _wait(database, order, outcomes, timeout)

    stopped: BaseException | None = None
    try:
        as_role(tenant, Role.APP, work)
    except (Exception, KeyboardInterrupt) as error:
        if not outcomes:
            raise
        stopped = error  # what was filed until then is told
    refused = [outcome for outcome in outcomes if outcome.error]
    _show(outcomes, waited=wait)
    if stopped:
        raise stopped
    if slow:
        raise slow
    if not refused:
        return OK
    return refused[0].error.exit_code if len(found) == 1 and refused[0].error else PARTIAL


async def _submit_all(database: TenantDatabase, order: Order, found: Sequence[Candidate], outcomes: list[FileOutcome]) -> None:
    import psycopg  # noqa: PLC0415

    from ntro_dagster.ingest.outcome import IngestOutcome, IngestStatus  # noqa: PLC0415
    from ntro_dagster.ingest.store import DocumentStore  # noqa: PLC0415
    from ntro_dagster.platforms.postgres.database import DatabaseLoginError  # noqa: PLC0415

    store = DocumentStore(tenant_home(order.tenant).documents)
    owner = None
    if order.entity is not None:
        owner = await entity_of(database, order.entity, tenant=order.tenant)
    with progress(len(found), "files") as update:
        for number, candidate in enumerate(found):
            update(number, candidate.path.name)
            try:
                outcome = FileOutcome(candidate.path, await _submit(database, store, order, candidate, owner))
            except psycopg.Error:  # the database's trouble, not the file's
                raise
            except Exception as error:
                known = named(error)
                if isinstance(known, TransientError | DatabaseLoginError):
                    raise
                refusal = IngestOutcome(candidate.path.name, IngestStatus.REFUSED, one_line(known.explain()), code=known.code)
                outcome = FileOutcome(candidate.path, refusal, known)
            outcomes.append(outcome)
        update(len(found), "")


async def _submit(
    database: TenantDatabase, store: Any, order: Order, candidate: Candidate, owner: Entity | None
) -> IngestOutcome:
    from ntro_dagster.ingest.submission import submit  # noqa: PLC0415

    if candidate.refusal:
        raise candidate.refusal
    return await submit(
        database,
        store,
        candidate.path,
        resolve=partial(_resolve, database, order),
        submitted_by=order.submitted_by,
        entity=owner,
        period=order.period,
        source=order.source,
    )


async def _resolve(database: TenantDatabase, order: Order, names: Iterable[str]) -> Mapping[str, Entity]:
    """The entities that a document names; makes those that are missing if that was asked for."""
    from ntro_dagster.tenant.entities import entities_named  # noqa: PLC0415

    wanted = sorted(names)
    known = await entities_named(database, wanted)
    missing = [name for name in wanted if name not in known]
    if missing and order.create_entities and order.entity is None:
        _create(order.tenant, missing)
        known = await entities_named(database, wanted)
    return known


def _create(tenant: str, names: Sequence[str]) -> None:
    """One entity per spelling: the first of several ways to write a name becomes its name."""
    from ntro_dagster.host.tenancy import ensure_entities  # noqa: PLC0415
    from ntro_dagster.tenant.entities import slug_of, spelling  # noqa: PLC0415
    from ntro_dagster.workspace.registry import EntityExistsError  # noqa: PLC0415

    first: dict[str, str] = {}
    for name in names:
        first.setdefault(spelling(name) or name, name)
    wanted = {slug_of(name): name for name in first.values()}
    try:
        ensure_entities(installation(), tenant, wanted)
    except EntityExistsError:  # another ingest was faster
        ensure_entities(installation(), tenant, wanted)


async def _wait(
    database: TenantDatabase, order: Order, outcomes: Sequence[FileOutcome], patience: float
) -> tuple[list[FileOutcome], NtroError | None]:
    from ntro_dagster.cli.staging import StagingSlowError, judged, wait_for_runs  # noqa: PLC0415

    documents = sorted({o.outcome.document_id for o in outcomes if o.outcome.document_id})
    waiting = await wait_for_runs(database, documents, patience)
    verdicts = await judged(database, documents)
    known = [
        replace(o, outcome=verdicts[o.outcome.document_id].on(o.outcome)) if o.outcome.document_id in verdicts else o
        for o in outcomes
    ]
    slow = StagingSlowError(documents=waiting, seconds=round(patience), tenant=order.tenant) if waiting else None
    return known, slow


def _show(outcomes: list[FileOutcome], *, waited: bool) -> None:
    counts = {
        "filed": sum(1 for o in outcomes if not o.error and o.outcome.status != "duplicate"),
        "duplicates": sum(1 for o in outcomes if o.outcome.status == "duplicate"),
        "refused": sum(1 for o in outcomes if o.error),
    }
    rows = sum(o.outcome.parsed_rows for o in outcomes)
    value = {"files": [outcome.as_dict() for outcome in outcomes], **counts, "rows": rows}

    def human() -> None:
        columns = [Column("File", flexible=True), Column("Outcome"), Column("Period"), Column("Rows", right=True)]
        if waited:
            columns += [Column("Accepted", right=True), Column("Attention", right=True)]
        filed = [_cells(o.outcome, waited=waited) for o in outcomes if not o.error]
        if filed:
            table([*columns, Column("Entities", flexible=True)], filed)
        _show_issues(outcomes)
        line(
            f"{count(rows, 'row')} in {count(len(outcomes), 'file')}: "
            + ", ".join(f"{number} {word}" for word, number in counts.items())
        )

    result(value, human)
    if not invocation.json or len(outcomes) == 1:  # else they stand in the result
        _tell_refusals([outcome for outcome in outcomes if outcome.error])


def _cells(outcome: IngestOutcome, *, waited: bool) -> list[str | None]:
    shown = [outcome.name, outcome.status.value, outcome.period, f"{outcome.parsed_rows:,}"]
    if waited:
        shown += ["" if rows is None else f"{rows:,}" for rows in (outcome.accepted_rows, outcome.rejected_rows)]
    several = len(outcome.entities) > 1
    return [*shown, count(len(outcome.entities), "entity", "entities") if several else "".join(outcome.entities)]


def _show_issues(outcomes: Sequence[FileOutcome]) -> None:
    """Why rows need attention, over all files."""
    issues: Counter[str] = Counter()
    for outcome in outcomes:
        issues.update({issue.code: issue.rows for issue in outcome.outcome.issues})
    if issues:
        line("why rows need attention (a row may have several reasons):")
        table(
            [Column("Finding"), Column("Rows", right=True), Column("Means", flexible=True)],
            [(code, f"{rows:,}", MESSAGES.get(code, "")) for code, rows in issues.most_common()],  # type: ignore[call-overload]
        )


def _tell_refusals(refused: Sequence[FileOutcome]) -> None:
    """One line per file, the mend once per kind."""
    by_code: dict[str, list[NtroError]] = {}
    for outcome in refused:
        assert outcome.error is not None  # noqa: S101
        by_code.setdefault(outcome.error.code, []).append(outcome.error)
    for errors in by_code.values():
        for error in errors:
            tell(error, with_mend=error is errors[-1])

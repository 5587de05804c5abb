"""`ntro run`: runs, from the status feed; started and ended through the Dagster webserver."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ntro_dagster.boundary.periods import open_period
from ntro_dagster.cli.connections import as_role, entity_of, feed, installation, registry
from ntro_dagster.cli.failures import FAILED, OK
from ntro_dagster.cli.invocation import command, invocation
from ntro_dagster.cli.output import Column, duration, line, note, pairs, progress, result, table, when
from ntro_dagster.cli.selection import EntityFilter, PeriodFilter, TenantOption, TimeoutOption, written_period
from ntro_dagster.errors import TransientError, UsageError

if TYPE_CHECKING:
    from ntro_dagster.workspace.feed import Feed, FeedEntry

app = typer.Typer(no_args_is_help=True, help="Runs: start, list, show, watch, cancel.")

POLL_S = 0.5
WATCH_EVERY_S = 1.0
WATCHED = 100
SHORT_ID = 8

TenantFilter = Annotated[str | None, typer.Option("--tenant", "-t", help="Only this tenant [default: all]")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or the first characters of it.")]


class RunFinishedError(UsageError):
    code = "RUN_FINISHED"
    summary = "the run has ended already"
    detail = "run {run} has ended: {status}"
    mend = "nothing is left to cancel"


class RunStatusUnknownError(UsageError):
    code = "STATUS_UNKNOWN"
    summary = "runs have no such status"
    detail = "runs have no status {status!r}"
    mend = "one of: {known}"


class RunSlowError(TransientError):
    code = "RUN_SLOW"
    summary = "the run has not ended yet"
    detail = "run {run} has not ended after {seconds} s; it goes on"
    mend = "`ntro run show {run}` shows how far it is"


@command(app, "start")
def start(
    runbook: Annotated[str, typer.Argument(help="The runbook's slug.")],
    *,
    tenant: TenantOption,
    entity: Annotated[str, typer.Option("--entity", "-e", help="The entity's slug.")],
    period: Annotated[str, typer.Option("--period", "-p", metavar="YYYY-MM", help="The month.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended; exit code 1 if it failed.")] = False,
    timeout: TimeoutOption = 600,
) -> int:
    """Start a runbook for one entity and month: all of its steps."""
    from ntro_dagster.boundary.names import PARTITION_TAG, unit  # noqa: PLC0415
    from ntro_dagster.bundles import runbook_bundle  # noqa: PLC0415
    from ntro_dagster.cli.webserver import Webserver  # noqa: PLC0415
    from ntro_dagster.host.home import Role  # noqa: PLC0415
    from ntro_dagster.ingest.submission import EntityClosedError  # noqa: PLC0415

    month = open_period(period)
    slug = runbook_bundle(runbook).slug or ""
    found = installation()
    with registry(found) as known:
        known.tenant(tenant)
    owner = as_role(tenant, Role.AUDITOR, lambda database: entity_of(database, entity, tenant=tenant))
    if owner.status == "CLOSED":
        raise EntityClosedError(names=entity)
    tags = {PARTITION_TAG: f"{entity}|{month}", f"{PARTITION_TAG}/entity": entity, f"{PARTITION_TAG}/period": month}
    tags |= unit(tenant, tags[PARTITION_TAG])
    run_id = Webserver(found.addresses.dagster).launch(tenant=tenant, job=slug.replace("-", "_"), tags=tags)
    if not wait:
        with feed(found) as opened:
            entry = opened.run(run_id)
        result(shape(entry), lambda: line(f"run {run_id} is {entry.status}: `ntro run show {run_id[:SHORT_ID]}`"))
        return OK
    with feed(found) as opened:
        entry = _follow(opened, run_id, timeout)
        _show_one(opened, entry)
    if not entry.finished:
        raise RunSlowError(run=run_id, seconds=round(timeout))
    return OK if entry.status == "SUCCESS" else FAILED


@command(app, "list")
def list_(
    *,
    tenant: TenantFilter = None,
    entity: EntityFilter = None,
    period: PeriodFilter = None,
    status: Annotated[
        str | None, typer.Option("--status", "-s", help="Only runs of this status: SUCCESS, FAILURE, STARTED, …")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
) -> None:
    """The latest runs, newest first."""
    month = written_period(period)
    found = installation()
    with feed(found) as opened:
        _check_tenant(found, tenant)
        entries = opened.runs(tenant=tenant, entity=entity, period=month, statuses=_statuses(status), limit=limit)

    def human() -> None:
        if not entries:
            line("no runs")
            return
        table(
            [
                Column("Run"),
                Column("Tenant"),
                Column("Entity", flexible=True),
                Column("Period"),
                Column("Work"),
                Column("Status"),
                Column("Assets", right=True, spare=True),
                Column("Took", right=True),
                Column("Started", spare=True),
            ],
            [_cells(entry) for entry in entries],
        )

    result([shape(entry) for entry in entries], human)


@command(app, "show")
def show(run: RunArgument) -> None:
    """One run and its assets."""
    with feed(installation()) as opened:
        _show_one(opened, opened.run(run))


@command(app, "watch")
def watch(tenant: TenantFilter = None) -> None:
    """A line for every change of a run, until Ctrl-C. With --json: one object a line."""
    found = installation()
    with feed(found) as opened:
        _check_tenant(found, tenant)
        seen = {entry.run_id: _state(entry) for entry in opened.runs(tenant=tenant, limit=WATCHED)}
        if not invocation.json:
            note("watching; Ctrl-C ends it")
        while True:
            for entry in reversed(opened.runs(tenant=tenant, limit=WATCHED)):
                if seen.get(entry.run_id) != _state(entry):
                    seen[entry.run_id] = _state(entry)
                    _stream(entry)
            time.sleep(WATCH_EVERY_S)


@command(app, "cancel")
def cancel(run: RunArgument) -> None:
    """End a run. What its steps have committed stays; a sensor starts the rest again."""
    from ntro_dagster.cli.webserver import Webserver  # noqa: PLC0415

    found = installation()
    with feed(found) as opened:
        entry = opened.run(run)
        if entry.finished:
            raise RunFinishedError(run=entry.run_id, status=entry.status)
        Webserver(found.addresses.dagster).cancel(entry.run_id)
        entry = opened.run(entry.run_id)
    result(shape(entry), lambda: line(f"run {entry.run_id} is {entry.status}"))


def shape(entry: FeedEntry) -> dict[str, Any]:
    """A run as JSON has it."""
    return {
        "run_id": entry.run_id,
        "tenant": entry.tenant,
        "runbook": entry.runbook,
        "entity": entry.entity,
        "period": entry.period,
        "work": entry.work,
        "status": entry.status,
        "created": entry.created,
        "started": entry.started,
        "ended": entry.ended,
        "duration_s": None if entry.duration_s is None else round(entry.duration_s, 3),
        "assets_done": entry.assets_done,
        "assets": entry.assets,
    }


def _check_tenant(found: Any, tenant: str | None) -> None:
    if tenant is not None:
        with registry(found) as known:
            known.tenant(tenant)


def _statuses(status: str | None) -> list[str]:
    if status is None:
        return []
    from ntro_dagster.workspace.feed import STATUSES  # noqa: PLC0415

    if status.upper() not in STATUSES:
        raise RunStatusUnknownError(status=status, known=", ".join(STATUSES))
    return [status.upper()]


def _follow(opened: Feed, run_id: str, timeout: float) -> FeedEntry:
    deadline = time.monotonic() + timeout
    with progress(0, "assets") as update:
        while True:
            entry = opened.run(run_id)
            update(entry.assets_done, entry.status)
            if entry.finished or time.monotonic() > deadline:
                return entry
            time.sleep(POLL_S)


def _show_one(opened: Feed, entry: FeedEntry) -> None:
    steps = opened.steps(entry.run_id)
    failures = opened.failures(entry.run_id) if entry.status != "SUCCESS" else []

    def human() -> None:
        pairs(
            [
                ("run", entry.run_id),
                ("tenant", entry.tenant),
                ("runbook", entry.runbook or "–"),
                ("entity", entry.entity or "–"),
                ("period", entry.period or "–"),
                ("work", entry.work or "–"),
                ("status", entry.status),
                ("started", when(entry.started) or "–"),
                ("took", duration(entry.duration_s) or "–"),
            ]
        )
        if steps:
            table(
                [Column("Asset"), Column("Status"), Column("Took", right=True)],
                [(step.asset, step.status, duration(step.duration_s)) for step in steps],
            )
        for failure in failures:
            line(f"{failure.asset}: {failure.code}" + (f" (error {failure.error_id})" if failure.error_id else ""), "red")
            if failure.error_id:
                line(f"→ ntro errors show {failure.error_id} --tenant {entry.tenant}")

    result({**shape(entry), "steps": steps, "failures": failures}, human)


def _state(entry: FeedEntry) -> tuple[str, int]:
    return entry.status, entry.assets_done


def _stream(entry: FeedEntry) -> None:
    def human() -> None:
        partition = f"{entry.tenant}/{entry.entity or '–'} {entry.period or '–'}"
        took = f"{entry.assets_done} done" + (f", {duration(entry.duration_s)}" if entry.duration_s is not None else "")
        line(f"{time.strftime('%H:%M:%S')}  {entry.run_id[:SHORT_ID]}  {partition}  {entry.work or '–'}  {entry.status}  {took}")

    result(shape(entry), human)


def _cells(entry: FeedEntry) -> list[str | None]:
    assets = str(entry.assets_done) if entry.assets is None else f"{entry.assets_done}/{entry.assets}"
    return [
        entry.run_id[:SHORT_ID],
        entry.tenant,
        entry.entity,
        entry.period,
        entry.work or entry.runbook,
        entry.status,
        assets,
        duration(entry.duration_s),
        when(entry.started),
    ]

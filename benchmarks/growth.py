"""What daily questions cost when years lie behind: many entities and months that are done, a few that are not.

Once with 1 % of the history, and once with all of it, on one server; what waits is the same both times. Rows are put there by SQL
without triggers, as history is nobody's to write otherwise. A ratio near 1 says that a question costs what changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.tenant import Tenant, payloads
from ntro_dagster.boundary.names import CODE_LOCATION_TAG, PARTITION_TAG, TENANT_TAG, WORK_TAG
from ntro_dagster.boundary.pool import pooled_engine
from ntro_dagster.boundary.relay.view import TenantView
from ntro_dagster.boundary.storage import PooledPostgresStorage, prepare_instance
from ntro_dagster.desk.groups import count_groups
from ntro_dagster.desk.month import board
from ntro_dagster.desk.rows import index, window
from ntro_dagster.desk.sittings import Sitting
from ntro_dagster.orchestration.work import Work, waiting
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.selection import Filter
from ntro_dagster.workspace.feed import Feed

ENTITIES, MONTHS, ROWS, SHARE = 2_000, 60, 5_000_000, 100
"""All of it: rows of the ledger, each with a record of its history. `SHARE`: the smaller is one part of so many."""
WAITING, TIMES = 50, 15
BOARD = "desk: board, the first 100 entities (of 20)"
"""Its answer is five times as long where there are so many."""
MEMBER = Sitting("user:bob", "Bob", "approver", "person", stands_in=False, token="")
SHOWN = {"name": "what", "little_ms": "1 %, ms", "much_ms": "all, ms", "ratio": "ratio", "aim": "aim"}

_DONE = """
INSERT INTO system.entities (id, slug, name, currency, schema_name)
SELECT md5('e' || e)::uuid, 'spv-' || e, 'SPV ' || lpad(e::text, 4, '0'), 'GBP', 'bench_' || e
  FROM generate_series(%(first)s::int, %(last)s::int) e;

INSERT INTO system.partition_activity (subledger, entity_id, period, last_change, closed_change)
SELECT 'expenses', md5('e' || e)::uuid, to_char(date '2020-01-01' + make_interval(months => m), 'YYYY-MM'), 1, 1
  FROM generate_series(%(first)s::int, %(last)s::int) e, generate_series(0, %(months)s::int - 1) m;

INSERT INTO ledgers.expenses (id, entity_id, period, task_id, status, source_ref, vendor, amount_gross, currency, expense_date,
                              posted_to_gl)
SELECT md5(e || '/' || m || '/' || n)::uuid, md5('e' || e)::uuid,
       to_char(date '2020-01-01' + make_interval(months => m), 'YYYY-MM'), md5('r' || e || m)::uuid, 'POSTED',
       'doc:' || e || '-' || m || '#L' || n, 'Supplier ' || n %% 400, 100 + n, 'GBP',
       (date '2020-01-01' + make_interval(months => m))::date, TRUE
  FROM generate_series(%(first)s::int, %(last)s::int) e, generate_series(0, %(months)s::int - 1) m,
       generate_series(1, %(each)s::int) n;

DO $$ BEGIN
    FOR m IN 0..%(months)s::int - 1 LOOP
        FOR e IN %(first)s::int..%(last)s::int LOOP
            INSERT INTO system.changes (subledger, actor, actor_kind, run_id, at)
            VALUES ('expenses', 'run', 'run', md5('r' || e || m)::uuid, date '2020-01-15' + make_interval(months => m));
            COMMIT;
        END LOOP;
    END LOOP;
END $$;

INSERT INTO system.history (change_id, row_id, action)
SELECT c.id, md5(e || '/' || m || '/' || n)::uuid, 'POSTED'
  FROM generate_series(%(first)s::int, %(last)s::int) e, generate_series(0, %(months)s::int - 1) m,
       LATERAL (SELECT id FROM system.changes WHERE run_id = md5('r' || e || m)::uuid) c, generate_series(1, %(each)s::int) n
 ORDER BY c.id;

INSERT INTO system.looks (login, subledger, change) VALUES ('user:bob', 'expenses', pg_current_xact_id())
    ON CONFLICT ON CONSTRAINT looks_view DO UPDATE SET change = EXCLUDED.change;
"""
_RUNS = """
CREATE TEMPORARY TABLE more AS SELECT gen_random_uuid()::text AS id, 'spv-' || e AS entity,
       to_char(date '2020-01-01' + make_interval(months => m), 'YYYY-MM') AS period
  FROM generate_series(%(first)s::int, %(last)s::int) e, generate_series(0, %(months)s::int - 1) m;

INSERT INTO runs (run_id, snapshot_id, pipeline_name, status, run_body, create_timestamp, update_timestamp, start_time, end_time)
SELECT more.id, r.snapshot_id, r.pipeline_name, 'SUCCESS', replace(r.run_body, r.run_id, more.id), now(), now(), 1, 2
  FROM more, runs r WHERE r.run_id = %(like)s;

INSERT INTO run_tags (run_id, key, value) SELECT id, t.key, t.value FROM more, LATERAL (VALUES
  ('dagster/code_location', 'bench'), ('ntro/tenant', 'bench'), ('ntro/work', 'review'),
  ('dagster/partition', entity || '|' || period), ('dagster/partition/entity', entity), ('dagster/partition/period', period)
) t (key, value);

DROP TABLE more;
"""

Found = dict[str, Any]
Questions = dict[str, Callable[[], Awaitable[object]]]


def measure(tenant: Tenant) -> list[Found]:
    """Milliseconds, the lowest of `TIMES`: the two are minutes apart, and the machine is not alone."""
    workspace = tenant.admin.replace("/bench?", "/postgres?")
    prepare_instance(workspace)
    like = _a_run(workspace)
    asyncio.run(_something_waits(tenant))
    few = ENTITIES // SHARE
    _grow(tenant, workspace, like, 1, few)
    little = asyncio.run(_ask(tenant, workspace))
    _grow(tenant, workspace, like, few + 1, ENTITIES)
    much = asyncio.run(_ask(tenant, workspace))
    pooled_engine(workspace).dispose()
    return [
        {"name": name, "little_ms": little[name], "much_ms": much[name], "ratio": round(much[name] / little[name], 2), "aim": 1.5}
        for name in little
    ]


def _a_run(workspace: str) -> str:
    from dagster import DagsterRun  # noqa: PLC0415 - takes a second

    tags = {CODE_LOCATION_TAG: "bench", TENANT_TAG: "bench", WORK_TAG: "review", PARTITION_TAG: "spv-0|2020-01"}
    run = DagsterRun(job_name="month_end", tags=tags)
    PooledPostgresStorage(workspace).run_storage.add_run(run)
    return run.run_id


async def _something_waits(tenant: Tenant) -> None:
    async with tenant.handle() as handle:
        await handle.stage(payloads(WAITING), period="2025-06")


def _grow(tenant: Tenant, workspace: str, like: str, first: int, last: int) -> None:
    told = {"first": first, "last": last, "months": MONTHS, "each": ROWS // ENTITIES // MONTHS, "like": like}
    for url, script in ((tenant.admin, _DONE), (workspace, _RUNS)):
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("SET session_replication_role = replica")
            admin.execute("SET synchronous_commit = off")
            for statement in script.split(";\n\n"):
                psycopg.ClientCursor(admin).execute(statement.encode(), told)
            admin.execute("VACUUM ANALYZE")
            admin.execute("CHECKPOINT")


async def _ask(tenant: Tenant, workspace: str) -> dict[str, float]:
    kind = subledger_type("expenses")
    described = TypeDescription.of(kind)
    feed = Feed(psycopg.connect(workspace, autocommit=True))
    view = TenantView("bench", _Instance(workspace), store=print, names=lambda _: frozenset())  # type: ignore[arg-type]
    async with TenantDatabase(tenant.credentials.app) as app, TenantDatabase(tenant.credentials.desk) as desk:
        entity: UUID = (await desk.fetch_single("SELECT id FROM system.entities WHERE slug = 'spv-7'"))["id"]
        month = Filter(entity=entity, period="2023-05")

        async def page() -> None:
            found = await index(desk, described, month, group=None, sort=None, member=MEMBER)
            await window(
                desk,
                described,
                [UUID(bytes=found.packed[at : at + 16]) for at in range(0, min(50, found.count) * 17, 17)],
                MEMBER,
            )

        async def of(answer: object) -> object:
            return answer

        questions: Questions = {
            **{
                f"sensor's question: {work}": lambda work=work: waiting(app, work, {"expenses": kind.lifecycle})  # type: ignore[misc]
                for work in (Work.INTAKE, Work.REVIEW, Work.POSTING, Work.CLOSE)
            },
            "partitions at work": lambda: of(view.partitions_at_work()),
            "feed, newest 50": lambda: of(feed.runs(limit=50)),
            "feed, one entity's": lambda: of(feed.runs(tenant="bench", entity="spv-7", limit=50)),
            "desk: what waits for me": lambda: count_groups(desk, described, Filter(), MEMBER),
            "desk: one month's rows, first 50": page,
            "desk: board, one entity's months": lambda: board(desk, {"expenses": described}, None, find="SPV 0007"),
            BOARD: lambda: board(desk, {"expenses": described}, None),
        }
        return {name: await _lowest_ms(ask) for name, ask in questions.items()}


async def _lowest_ms(ask: Callable[[], Awaitable[object]]) -> float:
    await ask()
    taken = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        await ask()
        taken.append(time.perf_counter() - begun)
    return round(min(taken) * 1000, 2)


class _Instance:
    """As much of Dagster's as the relay's half needs."""

    def __init__(self, workspace: str) -> None:
        storage = PooledPostgresStorage(workspace)
        self.run_storage, self.event_log_storage = storage.run_storage, storage.event_log_storage

"""From a decision that is filed to its effect on the row, on an idle installation: with the wake, and where it waits for a tick.

A person waits for this, so it is seconds, not ratios. Decisions come at any moment between two ticks.
"""

from __future__ import annotations

import asyncio
import csv
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg

from benchmarks.installed import installed
from benchmarks.subject import SLUG
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import Installation, credential
from ntro_dagster.host.launch import read_environment, write_environment
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import file_signal
from ntro_dagster.tenant.entities import entities_by_spelling, entity_by_slug
from ntro_dagster.tenant.waking import NAME, SWITCH

ENTITY, PERIOD = "spv", "2026-03"
APPROVER = "user:bob"
DECISIONS = 24
TICK_S = 5.0
IDLE_S = 60.0
"""Over which the CPU of an idle installation is taken."""
AIM_S = 4.0
PATIENCE_S = 180.0
POLL_S = 0.01

Found = dict[str, Any]


def measure(decisions: int = DECISIONS) -> list[Found]:
    """Each way over its own rows: filed to applied, filed to posted, and what idling costs."""
    with installed(entities=[ENTITY]) as installation:
        bench = _Bench(installation, random.Random(0))  # noqa: S311 - moments between ticks
        bench.stage(2 * decisions + 4)
        results = []
        for name, switch in (("with the wake", "on"), ("without the listener", "off")):
            bench.switch(switch)
            bench.decide()  # whatever is done for the first time
            applied, posted = zip(*(bench.decide() for _ in range(decisions)), strict=True)
            results += [
                _result(f"filed to applied, {name}", applied, AIM_S if switch == "on" else None),
                _result(f"filed to posted, {name}", posted, None),
                {
                    "name": f"CPU of an idle minute, {name}",
                    "times": 1,
                    "median_s": bench.idle(),
                    "p95_s": None,
                    "aim_p95_s": None,
                },
            ]
        return results


def _result(name: str, seconds: Sequence[float], aim: float | None) -> Found:
    return {
        "name": name,
        "times": len(seconds),
        "median_s": round(statistics.median(seconds), 2),
        "p95_s": round(statistics.quantiles(seconds, n=20)[-1], 2),
        "aim_p95_s": aim,
    }


@dataclass
class _Bench:
    """A running installation with one tenant."""

    installation: Installation
    chance: random.Random

    def url(self, role: Role) -> str:
        return credential(self.installation.home, SLUG, role)

    def stage(self, rows: int) -> None:
        path = self.installation.home.root / "return.csv"
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Date", "Expense Type", "Supplier", "Transaction Number", "Amount", "VAT Amount"])
            writer.writerows(["15/03/2026", "Legal fees", "Anvil & Co", f"n-{row}", f"{100 + row}.00", ""] for row in range(rows))

        async def submitting() -> None:
            async with TenantDatabase(self.url(Role.APP)) as database:
                store = DocumentStore(self.installation.home.tenant(SLUG).documents)
                known = await entity_by_slug(database, ENTITY, tenant=SLUG)
                await submit(
                    database, store, path, submitted_by="user:ann", entity=known, period=PERIOD,
                    resolve=lambda names: entities_by_spelling(database, names),
                )  # fmt: skip

        asyncio.run(submitting())
        _until(lambda: self._value("SELECT count(*) FROM ledgers.expenses WHERE status = 'PENDING'") == rows)

    def decide(self) -> tuple[float, float]:
        """Seconds until one row's decision is applied, and until the row is posted. It begins when nothing is at work."""
        _until(self._idle)
        time.sleep(self.chance.uniform(0, TICK_S))
        row = self._value("SELECT id FROM ledgers.expenses WHERE status = 'PENDING' ORDER BY id LIMIT 1")

        async def filing() -> None:
            async with TenantDatabase(self.url(Role.DESK)) as desk:
                await file_signal(desk, subledger_type("expenses"), "approve", filed_by=APPROVER, ids=[row])

        asyncio.run(filing())
        filed = time.monotonic()
        with psycopg.connect(self.url(Role.AUDITOR), autocommit=True) as auditor:
            seconds = []
            for statuses in (["APPROVED", "POSTED"], ["POSTED"]):
                there = "SELECT FROM ledgers.expenses WHERE id = %s AND status = ANY(%s)"
                _until(lambda there=there, statuses=statuses: auditor.execute(there, [row, statuses]).rowcount)
                seconds.append(time.monotonic() - filed)
        return seconds[0], seconds[1]

    def switch(self, how: str) -> None:
        """With the tenant's listener, or without."""
        file = self.installation.home.tenant(SLUG).process_env
        write_environment(file, read_environment(file) | {SWITCH: how})
        self.installation.supervisor.restart(f"tenant-{SLUG}")
        _until(lambda: self._listens() == (how == "on"))

    def idle(self) -> float:
        """Seconds of CPU that daemon, relay and code server take of an idle minute."""
        _until(self._idle)
        pids = [each.pid for each in self.installation.status() if each.name in {"daemon", "relay", f"tenant-{SLUG}"}]
        before = sum(_cpu(pid) for pid in pids if pid)
        time.sleep(IDLE_S)
        return round(sum(_cpu(pid) for pid in pids if pid) - before, 2)

    def _idle(self) -> bool:
        """Nothing is at work, and nothing waits for a tick."""
        waits = self._value(
            "SELECT EXISTS (SELECT FROM system.signals WHERE applied_at IS NULL) "
            "OR EXISTS (SELECT FROM ledgers.expenses WHERE status = 'APPROVED')"
        )
        with psycopg.connect(self.installation.workspace_url()) as workspace:
            ended = "SELECT bool_and(status IN ('SUCCESS', 'FAILURE', 'CANCELED')) FROM runs"
            return not waits and bool(workspace.execute(ended).fetchone()[0])  # type: ignore[index]

    def _listens(self) -> bool:
        with psycopg.connect(self.installation.admin_dsn()) as admin:
            return bool(admin.execute("SELECT FROM pg_stat_activity WHERE application_name = %s", [NAME]).rowcount)

    def _value(self, question: str) -> Any:
        with psycopg.connect(self.url(Role.AUDITOR)) as auditor:
            return auditor.execute(question.encode()).fetchone()[0]  # type: ignore[index]


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(POLL_S)

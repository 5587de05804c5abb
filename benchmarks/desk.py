"""The desk before a queue of 100,000 rows: key press to paint, filter, a bulk approval from Enter to applied.

In a real Chromium, against a desk served as a tenant's is. A person waits for these, so they are seconds, not ratios.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.tenant import Tenant, payloads
from ntro_dagster.desk.passwords import hash_password
from ntro_dagster.desk.settings import DATABASE_URL, DOCUMENTS, PORT, TENANT, host_name
from ntro_dagster.host.ports import answers, free_port
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.filing import file_matching, summarise
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import apply_signals
from ntro_dagster.subledger.selection import Filter

PERIOD = "2025-06"
PRESSES, FILTERS = 200, 20
BULK = 50_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_S = 30.0
PASSWORD = "only on this machine, for a minute"  # noqa: S105

# Resolves when the frame after the one that shows the new row has begun: then the old one is on the screen.
PRESS = """key => new Promise(done => {
    const before = performance.now();
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - before)));
})"""


def measure(tenant: Tenant, rows: int) -> list[dict[str, Any]]:
    """Args: `rows` in the queue."""
    asyncio.run(_stage(tenant, rows))
    for login, role in (("user:pat", "preparer"), ("user:bob", "approver")):
        tenant.execute(
            "INSERT INTO system.members (login, name, role, password_hash, created_by) VALUES (%s, %s, %s, %s, 'bench') "
            "ON CONFLICT DO NOTHING",
            parameters=[login, login, role, hash_password(PASSWORD)],
        )
    tenant.execute("ANALYZE")
    with _served(tenant) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1920, "height": 1080})
        _log_in(page, address)
        opened = _seconds(lambda: _open(page, f"{address}/subledgers/expenses?period={PERIOD}", rows))
        presses = [page.evaluate(PRESS, "j") / 1000 for _ in range(PRESSES)]
        filters = [_filtered(page, f"Supplier {number}") for number in range(FILTERS)]
        browser.close()
    bulk = asyncio.run(_bulk(tenant, min(BULK, rows)))
    return [
        _figure("open the queue", rows, [opened], None),
        _figure("key press to paint", rows, presses, 0.1),
        _figure("filter to rows shown", rows, filters, 0.3),
        _figure("bulk approval, filed and applied", min(BULK, rows), bulk, 5.0),
    ]


def _figure(name: str, rows: int, seconds: list[float], aim: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "rows": rows,
        "times": len(seconds),
        "median_s": round(statistics.median(seconds), 4),
        "p95_s": round(sorted(seconds)[min(len(seconds) - 1, int(len(seconds) * 0.95))], 4),
        "aim_p95_s": aim,
    }


async def _stage(tenant: Tenant, rows: int) -> None:
    async with tenant.handle() as handle:
        await handle.stage(payloads(rows), period=PERIOD)


@contextmanager
def _served(tenant: Tenant) -> Iterator[str]:
    port = free_port(8900)
    with tempfile.TemporaryDirectory() as documents:
        told = {TENANT: "bench", DATABASE_URL: tenant.credentials.desk, DOCUMENTS: documents, PORT: str(port)}
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "ntro_dagster.desk.server"],
            env={name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ} | told,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + START_S
            while not answers(port):
                if time.monotonic() > deadline:
                    raise TimeoutError
                time.sleep(0.05)
            yield f"http://{host_name('bench')}:{port}"
        finally:
            server.terminate()
            server.wait()


def _log_in(page: Page, address: str) -> None:
    page.goto(f"{address}/login")
    page.fill("[name=name]", "bob")
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(f"{address}/")


def _open(page: Page, address: str, rows: int) -> None:
    page.goto(address)
    page.wait_for_function("count => Number(document.getElementById('grid').ariaRowCount) > count - 1", arg=rows)
    page.wait_for_selector("#grid-body [role=row]")
    page.focus("#grid")


def _filtered(page: Page, text: str) -> float:
    """From Enter to rows on the screen that match."""
    page.fill("[name=q]", "")
    page.wait_for_function("() => document.getElementById('grid').ariaBusy !== 'true'")
    before = page.evaluate("document.getElementById('grid').ariaRowCount")
    found: float = page.evaluate(
        """([text, before]) => new Promise(done => {
            const field = document.querySelector('[name=q]'), grid = document.getElementById('grid');
            field.value = text;
            const began = performance.now();
            field.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', bubbles: true, cancelable: true}));
            (function look() {
                if (grid.ariaRowCount !== before && grid.ariaBusy !== 'true' && document.querySelector('#grid-body [role=row]'))
                    requestAnimationFrame(() => done(performance.now() - began));
                else requestAnimationFrame(look);
            })();
        })""",
        [text, before],
    )
    return found / 1000


async def _bulk(tenant: Tenant, rows: int) -> list[float]:
    """From Enter to applied, without the wait for the tick at which a run is asked for."""
    kind = subledger_type("expenses")
    tenant.settle()
    async with TenantDatabase(tenant.credentials.desk) as desk, tenant.handle() as handle:
        pending = "SELECT id FROM ledgers.expenses WHERE period = %s AND status = 'PENDING' ORDER BY id LIMIT %s"
        where = Filter(ids=[row["id"] for row in await desk.fetch(pending, [PERIOD, rows])])
        summary = await summarise(desk, kind, "approve", where, by="user:bob")
        began = time.monotonic()
        await file_matching(desk, kind, "approve", filed_by="user:bob", reason=None, values=None, where=where, seen=summary.seen)
        filed = time.monotonic()
        await apply_signals(handle, period=PERIOD)
        print(f"filed {filed - began:.2f} s, applied {time.monotonic() - filed:.2f} s")
        return [time.monotonic() - began]


def _seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began

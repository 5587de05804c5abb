"""Peak memory of a process that streams payloads into staging. Run as a program, it is that process."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.tenant import Tenant, payloads
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger import open as open_subledger

SIZES = (0, 50_000, 200_000, 1_000_000)
PERIODS = ("2030-01", "2030-02", "2030-03", "2030-04")


def measure(tenant: Tenant, sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """Megabytes at the peak, for each number of rows; 0 rows show what the program itself takes."""
    found = []
    for rows, period in zip(sizes, PERIODS, strict=True):
        tenant.settle()
        command = [sys.executable, "-m", "benchmarks.memory", str(tenant.entity), period, str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, input=tenant.credentials.app)
        found.append({"name": "peak memory of staging", "rows": rows, "megabytes": round(int(done.stdout) / 1024)})
    return found


async def _stage(url: str, entity: UUID, period: str, rows: int) -> None:
    async with TenantDatabase(url) as database:
        handle = open_subledger(name="expenses", entity_id=entity, task_id=entity, tenant_slug="bench", database=database)
        await handle.stage(payloads(rows), period=period)


if __name__ == "__main__":
    asyncio.run(_stage(sys.stdin.read(), UUID(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
    # Not ru_maxrss: a child inherits that of the process that started it.
    print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]

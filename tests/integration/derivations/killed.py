"""A derivation whose process dies (kill -9) at the point that the first argument names."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.orchestration import derived
from ntro_dagster.orchestration.context import EntityRef, RunbookContext
from ntro_dagster.orchestration.runbook import read_runbook
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.subledger.registry import load_types

RUNBOOK = runbook_bundle("nav-monthly-journals")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def main(point: str) -> None:
    load_types(platform_bundle(), RUNBOOK)
    derivation = read_runbook(RUNBOOK).derivations[0]
    if point == "before the commit":
        marked = derived.mark_derived

        async def mark_and_die(*arguments: Any, **named: Any) -> None:
            await marked(*arguments, **named)
            die()

        derived.mark_derived = mark_and_die
    else:
        author = derived._author

        async def write_and_die(run: RunbookContext, ledger: Any) -> AsyncIterator[Any]:
            async for payload in author(run, ledger):
                yield payload
            die()

        derived._author = write_and_die
    entity = EntityRef(UUID(os.environ["FLAT_ENTITY"]), "flat", "USD")
    async with TenantDatabase(os.environ["FLAT_APP"]) as database, TenantDatabase(os.environ["FLAT_APP"]) as reader:
        await derived.derive(RunbookContext("acme", entity, os.environ["FLAT_MONTH"], uuid4(), database, reader), derivation)


asyncio.run(main(sys.argv[1]))

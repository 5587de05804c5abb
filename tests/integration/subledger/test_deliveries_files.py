"""Approved rows in ledgers of plain text: what the file says is what the books say."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from elsewhere import assert_nothing_half, deliveries, keep_at, run, run_until_posted, statuses
from ledger_tenant import Tenant, approved

from ntro_dagster.gl.providers import plain_text
from ntro_dagster.gl.providers.plain_text import PlainText
from ntro_dagster.gl.providers.resolve import for_entity

PROVIDERS = ("beancount", "hledger")
LAST_DAY = date(2025, 1, 31)
BIN = Path(sys.executable).parent


@pytest.fixture(autouse=True)
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NTRO_BOOKS", str(tmp_path))
    return tmp_path


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ledger(tenant: Tenant, entity: UUID) -> PlainText:
    async def find() -> Any:
        async with tenant.database() as database:
            return await for_entity(entity, database=database)

    found = asyncio.run(find())
    assert isinstance(found, PlainText)
    return found


def assert_same_books(tenant: Tenant, entity: UUID, rows: int) -> None:
    assert_nothing_half(tenant, entity)
    assert statuses(tenant, entity) == {"POSTED": rows}
    files = ledger(tenant, entity)
    ids = Counter(each.external_id for path in files.folder.glob("[0-9]*") for each in files.read(path.read_text()))
    assert (len(ids), set(ids.values())) == (rows, {1})
    here = tenant.fetch(
        "SELECT l.account_code, j.currency, sum(l.debit - l.credit) FROM ledgers.journals j "
        "JOIN ledgers.journal_lines l ON l.journal_id = j.id WHERE j.entity_id = %s "
        "GROUP BY 1, 2 HAVING sum(l.debit - l.credit) <> 0",
        entity,
    )
    there = [(x.account, x.currency, x.balance) for x in asyncio.run(files.trial_balance(LAST_DAY))]
    assert sorted(there) == sorted(here)
    if files.name == "beancount":
        subprocess.run([BIN / "bean-check", str(files.main)], check=True)


def test_rows_are_posted_in_both(tenant: Tenant, entity: UUID, provider: str) -> None:
    keep_at(tenant, entity, provider)
    approved(tenant, entity, 5)
    assert run(tenant, entity).rows == 5
    approved(tenant, entity, 4, vendor='Smith "& Sons"; |\n', notes="a\\b", category="5000", expense_date="2025-01-07")
    assert run(tenant, entity).rows == 4
    assert run(tenant, entity).rows == 0
    assert_same_books(tenant, entity, 9)


def test_files_that_cannot_be_written_are_told_of(
    tenant: Tenant, entity: UUID, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_at(tenant, entity, provider)
    approved(tenant, entity, 2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(plain_text, "_replace", full)
        with pytest.raises(Exception, match="GL_NOT_CONNECTED"):
            run(tenant, entity)
    assert {outcome for outcome, *_ in deliveries(tenant, entity)} == {None}
    run_until_posted(tenant, entity, 2, within_s=10)
    assert_same_books(tenant, entity, 2)


@pytest.mark.parametrize("step", range(7))
def test_killed_between_files(tenant: Tenant, entity: UUID, provider: str, step: int) -> None:
    """At every change of a file: before it, and after it."""
    keep_at(tenant, entity, provider)
    approved(tenant, entity, 3)
    if not (child := os.fork()):
        with suppress(BaseException):
            replace, count = plain_text._replace, 0

            def dying(path: Path, text: str) -> None:
                nonlocal count
                for after in (False, True):
                    if count == step:
                        os.kill(os.getpid(), signal.SIGKILL)
                    count += 1
                    if not after:
                        replace(path, text)

            plain_text._replace = dying
            run(tenant, entity)
        os._exit(0)
    os.waitpid(child, 0)
    run_until_posted(tenant, entity, 3, within_s=10)
    assert_same_books(tenant, entity, 3)

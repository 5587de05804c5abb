"""Looks over values that somebody typed, with the type's own model, in a process that holds no credential.

A model is a runbook's code. In the desk's process it could decide as anybody; so it has one of its own, which is told of one row
at a time and answers what is wrong with it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from ntro_dagster.boundary.names import ACTIVE
from ntro_dagster.errors import TransientError

ANSWER_S = 10.0
LONGEST_ANSWER = 1 << 20
KEPT = ("PATH", "LANG", "LC_ALL", "TZ", "VIRTUAL_ENV", ACTIVE)


_NO_ANSWER = (OSError, ValueError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


class ValuesNotCheckedError(TransientError):
    code = "VALUES_NOT_CHECKED"
    summary = "the values could not be looked over"
    mend = "try again; if it stays so, the desk's output says why"


class Movement(NamedTuple):
    """Of one account, in one currency."""

    account: str
    currency: str
    debit: Decimal
    credit: Decimal


class RowModels:
    """Asks that process, which is started when it is needed, and anew when a deployment changed the types."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._made_for: int | None = None
        self._turn = asyncio.Lock()

    async def errors(self, table: str, row: Mapping[str, Any], values: Mapping[str, Any], target: str) -> dict[str, str]:
        """What is wrong, by column; empty where nothing is.

        Args: `row`: its columns as JSON has them; `target`: the status in which it has to stand.

        Raises: `ValuesNotCheckedError`.
        """
        answer = await self._answer({"table": table, "row": row, "values": values, "target": target})
        fields: dict[str, str] = answer["fields"]
        return fields

    async def movements(
        self, table: str, rows: Sequence[Mapping[str, Any]], currency: str, accounts: Mapping[str, str]
    ) -> tuple[list[Movement], int]:
        """What the rows' journals would move in the general ledger, and of how many rows no journal can be made.

        Args: `currency`: the entity's; `accounts`: codes of accounts by role.

        Raises: `ValuesNotCheckedError`.
        """
        answer = await self._answer({"table": table, "rows": rows, "currency": currency, "accounts": accounts})
        lines = [Movement(account, code, Decimal(debit), Decimal(credit)) for account, code, debit, credit in answer["lines"]]
        return lines, answer["unable"]

    async def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turn:
            for _ in range(2):  # a process that died is given a successor once
                try:
                    return await asyncio.wait_for(self._ask(question), ANSWER_S)
                except BaseException as error:
                    await self._end()  # whatever it was: an answer that was not read is not for who asks next
                    if not isinstance(error, _NO_ANSWER):
                        raise
        raise ValuesNotCheckedError

    async def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        process = await self._running()
        to, back = process.stdin, process.stdout
        if to is None or back is None:
            raise OSError
        to.write(json.dumps(question).encode() + b"\n")
        await to.drain()
        answer: dict[str, Any] = json.loads(await back.readuntil(b"\n"))
        return answer

    async def _running(self) -> asyncio.subprocess.Process:
        now = _written()
        if self._process is None or self._process.returncode is not None or self._made_for != now:
            await self._end()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "ntro_dagster.desk.row_models_process",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={name: os.environ[name] for name in KEPT if name in os.environ},
                limit=LONGEST_ANSWER,
            )
            self._made_for = now
        return self._process

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()  # reads what it left: a pipe that is full keeps `wait` waiting
        self._process = None

    async def close(self) -> None:
        async with self._turn:
            await self._end()


def _written() -> int | None:
    """When the list of active bundles was written last."""
    listed = os.environ.get(ACTIVE)
    return Path(listed).stat().st_mtime_ns if listed and Path(listed).exists() else None

"""Approved rows go to the ledger of somebody else, once, whatever dies and whatever that ledger does (decision 027).

Written down first (`outbox`), looked for, sent, and posted here when the other ledger has it. Nothing is sent that was not
looked for just before, after the last moment at which an earlier request could still land. So a run that died, a time-out and
an answer that does not tell are all the same to the next run: it looks.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from uuid import UUID

from ntro_dagster.errors import NtroError, TransientError
from ntro_dagster.gl.batches import Batches
from ntro_dagster.gl.booking import PostingConflictError
from ntro_dagster.gl.held_back import EverythingElsePostedError
from ntro_dagster.gl.outbox import FREE, Delivery, Outbox
from ntro_dagster.gl.posting import Posted
from ntro_dagster.gl.providers.errors import (
    ConnectionError_,
    LedgerUnreachableError,
    OutcomeUnknownError,
    RateLimitedError,
    ValidationFailedError,
)
from ntro_dagster.gl.providers.provider import Found, GLProvider, Made
from ntro_dagster.gl.providers.resolve import GLSetting, for_entity
from ntro_dagster.subledger.handle import SubledgerHandle

RECHECK_FACTOR, SHORTEST_RECHECK_S = 10, 60.0
"""When a journal that was sent more than once is looked for again: so many times the time in which a request may land."""

DOUBTS_IN_A_ROW = 3
"""Calls without an answer after which a run leaves the ledger alone."""

_KEYS = uuid.UUID("6b0d7f0e-1f0b-5b0e-9c57-0f4f1f1d2a64")

_REQUESTS = 3
"""That one call of a provider may take: for a token, for the accounts, for the journals."""

_SLOW_TO_SEND = 0.5
"""Share of the time we wait for an answer that may pass between a claim and its request: a process that was stopped in
between must not send."""


class JournalsRefusedError(EverythingElsePostedError):
    """When everything else is posted. Values: `provider`, `count`, `which`: external ids and what the ledger says."""

    code = "GL_JOURNALS_REFUSED"
    summary = "the general ledger refused journals"
    detail = "{provider} refused {count} journal(s): {which}"
    mend = "take the rows back and correct them, or correct the other ledger and `ntro gl retry`: they are not sent again before"


class _LeaveItError(Exception):
    """The ledger is better left alone for now. `trouble`: why."""

    def __init__(self, trouble: NtroError) -> None:
        self.trouble = trouble
        super().__init__()


async def deliver_approved(handle: SubledgerHandle, *, period: str, currency: str, setting: GLSetting) -> Posted:
    """As `post_approved`, by way of the entity's own ledger. What that does not answer to is no failure: it is in `troubles`, and
    the next run goes on.

    Raises: as `post_approved`, and `JournalsRefusedError`, `ConnectionError_` where somebody has to do something,
        `ProviderNotRegisteredError`, `OptionsInvalidError`.
    """
    if handle.kind.lifecycle.posted is None:
        return Posted()
    provider = await for_entity(handle.entity_id, database=handle.database, setting=setting)
    courier = _Courier(handle, period, provider, setting)
    try:
        return await courier.run(currency)
    finally:
        await provider.aclose()


class _Courier:
    def __init__(self, handle: SubledgerHandle, period: str, provider: GLProvider, setting: GLSetting) -> None:
        self._handle, self._period, self._provider = handle, period, provider
        self._entries = provider.journal_entries
        self._outbox = Outbox(handle, period, setting)
        self._settle_s = 0.0 if provider.unique else provider.settle_s
        self._left: set[UUID] = set()
        self._doubts = 0
        self._rows = 0
        self._batches = 0
        self._conflicts: list[str] = []
        self._refused: list[ValidationFailedError] = []

    async def run(self, currency: str) -> Posted:
        if await self._outbox.paused():
            return Posted(waiting=await self._outbox.waiting())
        troubles: list[NtroError] = []
        batches = await Batches.of(self._handle, period=self._period, currency=currency, put=self._outbox.intend, free=FREE)
        try:
            await self._look_again()
            await self._deliver()
            while await batches.post():
                await self._deliver()
            await self._outbox.resume()
        except _LeaveItError as stopped:
            troubles.append(stopped.trouble)
            wait = stopped.trouble.seconds if isinstance(stopped.trouble, RateLimitedError) else None
            if self._rows:
                await self._outbox.resume()
            await self._outbox.pause(stopped.trouble.code, wait)
        self._refuse()
        batches.refuse_the_rest()
        return Posted(self._rows, self._batches, await self._outbox.waiting(), tuple(troubles))

    def _refuse(self) -> None:
        """What a person has to see, once everything else is done."""
        if self._conflicts:
            raise PostingConflictError(conflicts=len(self._conflicts))
        if self._refused:
            which = "; ".join(f"{x.values['external_id']}: {x.values['why']}" for x in self._refused)
            raise JournalsRefusedError(provider=self._provider.name, count=len(self._refused), which=which)

    # ---- sending

    async def _deliver(self) -> None:
        """All that is under way and was not seen to in this run."""
        while True:
            chunk, now = await self._outbox.under_way(leave=list(self._left))
            if not chunk:
                return
            self._left.update(each.id for each in chunk)
            missing = await self._settle(chunk)
            if held := [each for each in missing if each.may_land(now) and not self._provider.unique]:
                await self._outbox.looked(held)
            ready = [each for each in missing if self._provider.unique or not each.may_land(now)]
            doubtful: list[Delivery] = []
            try:
                for start in range(0, len(ready), self._provider.batch):
                    doubtful += await self._send(ready[start : start + self._provider.batch])
            finally:
                if doubtful:
                    await self._settle(doubtful)

    async def _send(self, batch: Sequence[Delivery]) -> list[Delivery]:
        """Returns those of which it is not known whether they are there."""
        begun = time.monotonic()
        claimed = await self._outbox.start(batch, lease_s=_REQUESTS * self._provider.timeout_s + self._provider.settle_s)
        if not claimed:
            return []
        try:
            if time.monotonic() - begun > _SLOW_TO_SEND * self._provider.timeout_s:
                raise LedgerUnreachableError(provider=self._provider.name, why="this process was held up")
            made = await self._entries.create_many([each.proposal for each in claimed], key=_key(claimed))
        except (RateLimitedError, ConnectionError_) as trouble:
            await self._outbox.end(claimed, trouble.code, settle_s=None)
            if isinstance(trouble, TransientError):
                raise _LeaveItError(trouble) from None
            raise
        except OutcomeUnknownError as trouble:
            await self._outbox.end(claimed, trouble.code, settle_s=self._settle_s)
            self._doubts += 1
            if self._doubts >= DOUBTS_IN_A_ROW:
                await self._settle(claimed)
                raise _LeaveItError(trouble) from None
            return claimed
        self._doubts = 0
        return await self._decide(claimed, made)

    async def _decide(self, claimed: Sequence[Delivery], made: Iterable[Made]) -> list[Delivery]:
        answers = {each.external_id: each for each in made}
        refused = [each for each in claimed if (answer := answers.get(each.external_id)) and answer.refused]
        self._refused += [answer.refused for answer in answers.values() if answer.refused]
        if refused:
            await self._outbox.refuse(refused, ValidationFailedError.code)
        # A second request may be answered out of what the ledger remembers of the first, whatever became of that: we look.
        first = {each.external_id: each for each in claimed if each.attempts == 1}
        await self._confirm(
            [(first[x.external_id], x.reference) for x in answers.values() if x.reference and x.external_id in first]
        )
        unclear = [x for x in claimed if x not in refused and (x.external_id not in first or x.external_id not in answers)]
        if unclear:
            await self._outbox.end(unclear, OutcomeUnknownError.code, settle_s=self._settle_s)
        return unclear

    # ---- looking

    async def _settle(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Confirm what is there. Returns what is not."""
        found = await self._find(deliveries)
        there: list[tuple[Delivery, str]] = []
        for each in deliveries:
            standing = sorted(found.get(each.external_id, ()), key=lambda x: x.reference)
            if not standing:
                continue
            if not all(self._same(each, x) for x in standing):
                self._conflicts.append(each.external_id)
                continue
            for double in standing[1:]:
                await self._void(each, double)
            there.append((each, standing[0].reference))
        await self._confirm(there)
        return [each for each in deliveries if not found.get(each.external_id)]

    async def _find(self, deliveries: Sequence[Delivery]) -> dict[str, Sequence[Found]]:
        try:
            return dict(await self._entries.find_many([each.proposal for each in deliveries]))
        except (RateLimitedError, OutcomeUnknownError, LedgerUnreachableError) as trouble:
            raise _LeaveItError(trouble) from None

    def _same(self, delivery: Delivery, found: Found) -> bool:
        try:
            lines = self._entries.lines_of(delivery.proposal)
        except ValidationFailedError:
            return False
        return (found.posting_date, found.lines) == (delivery.proposal.posting_date, lines)

    async def _void(self, delivery: Delivery, double: Found) -> None:
        try:
            gone = await self._entries.void(double.reference)
        except (RateLimitedError, OutcomeUnknownError, LedgerUnreachableError) as trouble:
            raise _LeaveItError(trouble) from None
        await self._outbox.note(delivery, "DOUBLE_VOIDED" if gone else "DOUBLE_STANDS", double.reference)

    async def _look_again(self) -> None:
        """For those that were sent more than once: a request given up for lost may have landed since."""
        while chunk := await self._outbox.to_recheck():
            found = await self._find(chunk)
            for each in chunk:
                standing = found.get(each.external_id, ())
                for double in (x for x in standing if x.reference != each.reference):
                    await self._void(each, double)
                if each.reference and each.reference not in {x.reference for x in standing}:
                    await self._outbox.note(each, "GONE", each.reference)
            await self._outbox.rechecked(chunk)

    async def _confirm(self, there: Sequence[tuple[Delivery, str]]) -> None:
        if there:
            recheck = None if self._provider.unique else max(RECHECK_FACTOR * self._provider.settle_s, SHORTEST_RECHECK_S)
            self._rows += await self._outbox.confirm({x.id: ref for x, ref in there}, [x for x, _ in there], recheck_s=recheck)
            self._batches += 1


def _key(deliveries: Sequence[Delivery]) -> str:
    """The same for a first and a second request, of which the first may still land; then another: what a ledger remembers may be
    an error, or a journal that was voided since.
    """
    pair = max(each.attempts - 1 for each in deliveries) // 2
    return str(uuid.uuid5(_KEYS, f"{pair}," + ",".join(str(each.id) for each in deliveries)))

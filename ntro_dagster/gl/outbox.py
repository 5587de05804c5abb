"""The deliveries of one entity, month and subledger, as the database keeps them: what is on its way to another ledger.

Every change is one statement or one transaction over as many deliveries as there are. `attempts` is how a run knows that no
other has been at work on a delivery since it looked.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from ntro_dagster.gl.batches import NOT_HELD
from ntro_dagster.gl.booking import move_rows, write
from ntro_dagster.gl.providers.resolve import GLSetting
from ntro_dagster.platforms.postgres.database import Actor
from ntro_dagster.subledger.handle import SubledgerHandle
from ntro_dagster.subledger.proposals import JournalProposal

CHUNK = 200
"""Deliveries looked for at a time."""

LEFT_BEHIND = "LEFT_BEHIND"
"""How the attempt of a run that died ends: by a later one."""

FREE = NOT_HELD + sql.SQL(" AND NOT EXISTS (SELECT FROM ledgers.delivery_rows r WHERE r.row_id = t.id AND NOT r.refused)")
"""Approved rows `t` that nothing is made of yet."""

_PATIENT, _IMPATIENT = 20, 40
_PAUSE_S, _LONG_PAUSE_S = 30.0, 120.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """Attributes:
    attempts: how many requests were begun so far.
    in_doubt: whether one of them may still land: until `wait_until`, on the database's clock.
    reference: the ledger's, once it is confirmed.
    """

    id: UUID
    external_id: str
    proposal: JournalProposal
    attempts: int = 0
    wait_until: datetime | None = None
    reference: str | None = None

    def may_land(self, now: datetime) -> bool:
        return self.wait_until is not None and self.wait_until > now


class Outbox:
    def __init__(self, handle: SubledgerHandle, period: str, setting: GLSetting) -> None:
        self._handle, self._database = handle, handle.database
        self._period, self._setting = period, setting
        self._actor = Actor.run(handle.task_id)

    # ---- intents

    async def intend(self, handle: SubledgerHandle, period: str, journals: Sequence[JournalProposal]) -> None:
        """Note what is to be sent, in the transaction that has the rows. Nothing has been sent yet."""
        async with self._database.attempt(keep=False):  # what our own books would not take must not be sent
            await write(handle, period, journals)
        ids = [uuid.uuid4() for _ in journals]
        await self._database.copy_in(
            sql.Identifier("ledgers", "deliveries"),
            ("id", "entity_id", "period", "subledger", "external_id", "provider", "place", "proposal", "run_id"),
            (
                [
                    delivery,
                    handle.entity_id,
                    period,
                    handle.kind.table,
                    journal.external_id,
                    self._setting.provider,
                    self._setting.place,
                    Jsonb(journal.model_dump(mode="json")),
                    handle.task_id,
                ]
                for delivery, journal in zip(ids, journals, strict=True)
            ),
        )
        await self._database.copy_in(
            sql.Identifier("ledgers", "delivery_rows"),
            ("row_id", "delivery_id"),
            ([row, delivery] for delivery, journal in zip(ids, journals, strict=True) for row in journal.rows),
        )

    async def under_way(self, *, leave: Sequence[UUID] = ()) -> tuple[list[Delivery], datetime]:
        """The next ones, in the order of their dates, and the database's clock. Args: `leave`: not these."""
        rows = await self._database.fetch(
            "SELECT id, external_id, proposal, attempts, wait_until, provider_ref, now() AS now FROM ledgers.deliveries "
            "WHERE entity_id = %s AND period = %s AND subledger = %s AND outcome IS NULL AND id <> ALL(%s) "
            "ORDER BY proposal ->> 'posting_date', external_id LIMIT %s",
            [self._handle.entity_id, self._period, self._handle.kind.table, list(leave), CHUNK],
        )
        return [_delivery(row) for row in rows], rows[0]["now"] if rows else datetime.now(UTC)

    async def waiting(self) -> int:
        row = await self._database.fetch_single(
            "SELECT count(*) AS waiting FROM ledgers.deliveries "
            "WHERE entity_id = %s AND period = %s AND subledger = %s AND outcome IS NULL",
            [self._handle.entity_id, self._period, self._handle.kind.table],
        )
        return int(row["waiting"])

    # ---- attempts

    async def start(self, deliveries: Sequence[Delivery], *, lease_s: float) -> list[Delivery]:
        """Claim them, before anything is sent: for `lease_s` no other run sends them. Those that another has are left out."""
        rows = await self._database.fetch(
            """WITH claimed AS (
                   UPDATE ledgers.deliveries d
                      SET attempts = d.attempts + 1, wait_until = clock_timestamp() + make_interval(secs => %(lease)s)
                     FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS w (id, attempts)
                    WHERE d.id = w.id AND d.attempts = w.attempts AND d.outcome IS NULL RETURNING d.id
               ), left_behind AS (
                   UPDATE ledgers.delivery_attempts a SET code = %(left)s FROM claimed c
                    WHERE a.delivery_id = c.id AND a.ended_at IS NULL
               )
               INSERT INTO ledgers.delivery_attempts (delivery_id, run_id)
               SELECT id, %(run)s FROM claimed RETURNING delivery_id AS id""",
            self._of(deliveries) | {"lease": lease_s, "left": LEFT_BEHIND},
        )
        claimed = {row["id"] for row in rows}
        return [_again(each) for each in deliveries if each.id in claimed]

    async def end(self, deliveries: Sequence[Delivery], code: str, *, settle_s: float | None) -> None:
        """Note how attempts ended. Args: `settle_s`: how long they may still land; None: nothing was done."""
        await self._database.execute(
            """WITH ended AS (
                   UPDATE ledgers.deliveries d SET wait_until = clock_timestamp() + make_interval(secs => %(settle)s::float8)
                     FROM unnest(%(ids)s::uuid[], %(attempts)s::int[]) AS w (id, attempts)
                    WHERE d.id = w.id AND d.attempts = w.attempts AND d.outcome IS NULL RETURNING d.id
               )
               UPDATE ledgers.delivery_attempts a SET code = %(code)s FROM ended e
                WHERE a.delivery_id = e.id AND a.ended_at IS NULL""",
            self._of(deliveries) | {"settle": settle_s, "code": code},
        )

    async def looked(self, deliveries: Sequence[Delivery]) -> None:
        """That they were looked for, and are not there: what a dead run left open is ended, the doubt stays."""
        await self._database.execute(
            "UPDATE ledgers.delivery_attempts SET code = %s WHERE delivery_id = ANY(%s) AND ended_at IS NULL",
            [LEFT_BEHIND, [each.id for each in deliveries]],
        )

    # ---- decisions

    async def confirm(self, references: Mapping[UUID, str], deliveries: Sequence[Delivery], *, recheck_s: float | None) -> int:
        """Journal, delivery and rows in one transaction. Returns the rows that this posted.

        Args: `recheck_s`: look again so much later, those of which more than one request was begun.

        Raises: `PostingConflictError`, `RefusedByDatabaseError`.
        """
        async with self._database.transaction(self._actor):
            rows = await self._database.fetch(
                "SELECT id FROM ledgers.deliveries WHERE id = ANY(%s) AND outcome IS NULL ORDER BY id FOR UPDATE",
                [list(references)],
            )
            open_ids = {row["id"] for row in rows}
            now = [each for each in deliveries if each.id in open_ids]
            if not now:
                return 0
            journals = [each.proposal for each in now]
            await write(self._handle, self._period, journals)
            await self._database.execute(
                "UPDATE ledgers.deliveries d SET outcome = 'CONFIRMED', provider_ref = w.reference, "
                "recheck_at = CASE WHEN d.attempts > 1 OR EXISTS (SELECT FROM ledgers.deliveries g "
                "WHERE g.external_id = d.external_id AND g.code = 'GIVEN_UP' AND g.attempts > 0) "
                "THEN now() + make_interval(secs => %(recheck)s::float8) END "
                "FROM unnest(%(ids)s::uuid[], %(references)s::text[]) AS w (id, reference) WHERE d.id = w.id",
                {"ids": [x.id for x in now], "references": [references[x.id] for x in now], "recheck": recheck_s},
            )
            await self._end_all(now, "CONFIRMED")
            await move_rows(self._handle, journals)
        return sum(len(journal.rows) for journal in journals)

    async def refuse(self, deliveries: Sequence[Delivery], code: str) -> None:
        """The ledger will not have them: their rows are free again, and held until something changes."""
        async with self._database.transaction(self._actor):
            await self._database.execute(
                "UPDATE ledgers.deliveries SET outcome = 'REFUSED', code = %s WHERE id = ANY(%s) AND outcome IS NULL",
                [code, [each.id for each in deliveries]],
            )
            await self._end_all(deliveries, code)

    async def _end_all(self, deliveries: Sequence[Delivery], code: str) -> None:
        await self._database.execute(
            "UPDATE ledgers.delivery_attempts SET code = %s WHERE delivery_id = ANY(%s) AND ended_at IS NULL",
            [code, [each.id for each in deliveries]],
        )

    # ---- later looks

    async def to_recheck(self) -> list[Delivery]:
        rows = await self._database.fetch(
            "SELECT id, external_id, proposal, attempts, wait_until, provider_ref FROM ledgers.deliveries "
            "WHERE entity_id = %s AND period = %s AND subledger = %s AND recheck_at <= now() AND (provider, place) = (%s, %s) "
            "ORDER BY proposal ->> 'posting_date', external_id LIMIT %s",
            [self._handle.entity_id, self._period, self._handle.kind.table, self._setting.provider, self._setting.place, CHUNK],
        )
        return [_delivery(row) for row in rows]

    async def rechecked(self, deliveries: Sequence[Delivery]) -> None:
        await self._database.execute(
            "UPDATE ledgers.deliveries SET recheck_at = NULL WHERE id = ANY(%s)", [[each.id for each in deliveries]]
        )

    async def note(self, delivery: Delivery, code: str, reference: str) -> None:
        """What a look found: DOUBLE_VOIDED, DOUBLE_STANDS or GONE."""
        await self._database.execute(
            "INSERT INTO ledgers.delivery_findings (delivery_id, code, provider_ref, run_id) VALUES (%s, %s, %s, %s)",
            [delivery.id, code, reference, self._handle.task_id],
        )

    # ---- pauses

    async def paused(self) -> bool:
        row = await self._database.fetch_one(
            "SELECT 1 FROM ledgers.gl_pauses WHERE entity_id = %s AND until > now()", [self._handle.entity_id]
        )
        return row is not None

    async def pause(self, code: str, seconds: float | None = None) -> None:
        """Leave the ledger alone: as long as it asked for, else the longer the longer it has not answered. Not at all at first:
        it may be back by the next tick."""
        await self._database.execute(
            """INSERT INTO ledgers.gl_pauses AS p (entity_id, until, failures, code)
               VALUES (%(entity)s, now() + make_interval(secs => coalesce(%(seconds)s::float8, 0)), 1, %(code)s)
               ON CONFLICT (entity_id) DO UPDATE SET failures = p.failures + 1, code = EXCLUDED.code,
                   until = now() + make_interval(secs => coalesce(%(seconds)s::float8,
                       CASE WHEN p.failures < %(few)s THEN 0 WHEN p.failures < %(many)s THEN %(short)s ELSE %(long)s END))""",
            {
                "entity": self._handle.entity_id,
                "seconds": seconds,
                "code": code,
                "few": _PATIENT,
                "many": _IMPATIENT,
                "short": _PAUSE_S,
                "long": _LONG_PAUSE_S,
            },
        )

    async def resume(self) -> None:
        """It answers."""
        await self._database.execute(
            "UPDATE ledgers.gl_pauses SET failures = 0, until = now() WHERE entity_id = %s AND failures > 0",
            [self._handle.entity_id],
        )

    def _of(self, deliveries: Sequence[Delivery]) -> dict[str, Any]:
        return {
            "ids": [each.id for each in deliveries],
            "attempts": [each.attempts for each in deliveries],
            "run": self._handle.task_id,
        }


def _delivery(row: Mapping[str, Any]) -> Delivery:
    proposal = JournalProposal.model_validate(row["proposal"])
    return Delivery(row["id"], row["external_id"], proposal, row["attempts"], row["wait_until"], row["provider_ref"])


def _again(each: Delivery) -> Delivery:
    return Delivery(each.id, each.external_id, each.proposal, each.attempts + 1, each.wait_until)

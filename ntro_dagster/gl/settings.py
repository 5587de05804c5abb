"""Which ledger an entity has, said by the operator; and how it stands with what goes there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from ntro_dagster.errors import UsageError
from ntro_dagster.gl.providers.native import NATIVE
from ntro_dagster.gl.providers.resolve import GLSetting, for_entity, provider_of
from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError, TenantDatabase, translate


class LedgerInDoubtError(UsageError):
    code = "DELIVERIES_UNDER_WAY"
    summary = "it is not known yet whether journals are in the ledger before"
    mend = "`ntro gl status` shows when it will be; nothing was changed"


class NothingHeldError(UsageError):
    code = "NOTHING_HELD_BACK"
    summary = "nothing is held back, and nothing goes to another ledger"
    mend = "`ntro gl status` shows what waits, and for what"


def record(owner_dsn: str, *, provider: str | None, options: Mapping[str, Any], entity_id: UUID | None, by: str) -> str:
    """From now on. Returns which ledger of the provider's it is.

    Args:
        provider: None: the entity has what the whole tenant has.
        entity_id: None: every entity without one of its own.

    Raises: `ProviderNotRegisteredError`, `OptionsInvalidError`, `LedgerInDoubtError`.
    """
    place = "" if provider in {None, NATIVE} else provider_of(GLSetting(str(provider), "", options), entity="x").place
    _insert(owner_dsn, [(entity_id, provider, place, dict(options))], by)
    return place


def repeat(owner_dsn: str, *, entity_id: UUID | None, by: str) -> int:
    """Try again what is held back: something has changed that we cannot see. Ledgers elsewhere are not waited for any longer.

    Returns: rows that are tried again, and ledgers that are asked again.

    Raises: `NothingHeldError`.
    """
    with psycopg.connect(owner_dsn) as owner:
        rows = owner.execute(
            "SELECT DISTINCT ON (entity_id) entity_id, provider, place, options FROM ledgers.gl_settings "
            "WHERE %(one)s::uuid IS NULL OR id IN (SELECT s.id FROM ledgers.gl_setting(%(one)s) s) ORDER BY entity_id, id DESC",
            {"one": entity_id},
        ).fetchall()
        ((released,),) = owner.execute("SELECT ledgers.release_refused(%s, NULL)", [entity_id]).fetchall()
    elsewhere = [row for row in rows if row[1] not in {None, NATIVE}]
    if not elsewhere and not released:
        raise NothingHeldError
    _insert(owner_dsn, elsewhere, by)
    return len(elsewhere) + int(released)


def give_up(owner_dsn: str, *, entity_id: UUID, by: str, reason: str) -> list[str]:
    """Wait no longer for a ledger that will not answer again. The rows of what is under way are free again, and held back until
    the entity has another ledger; what is looked after is looked after no more.

    Returns: external ids of journals of which nobody knows whether that ledger has them.

    Raises: `NothingHeldError`; `LedgerInDoubtError` while a request may still land, which is known within minutes.
    """
    with _refused_in_doubt(), psycopg.connect(owner_dsn) as owner:
        rows = owner.execute(
            "INSERT INTO ledgers.given_up (delivery_id, reason, recorded_by) SELECT id, %s, %s FROM ledgers.deliveries "
            "WHERE entity_id = %s AND (outcome IS NULL OR recheck_at IS NOT NULL) ON CONFLICT DO NOTHING RETURNING delivery_id",
            [reason, by, entity_id],
        ).fetchall()
        if not rows:
            raise NothingHeldError
        known = owner.execute(
            "SELECT external_id FROM ledgers.deliveries WHERE id = ANY(%s) AND outcome = 'REFUSED' AND attempts > 0 ORDER BY 1",
            [[delivery for (delivery,) in rows]],
        ).fetchall()
    return [external_id for (external_id,) in known]


def _insert(owner_dsn: str, rows: list[tuple[Any, ...]], by: str) -> None:
    with _refused_in_doubt(), psycopg.connect(owner_dsn) as owner:
        owner.cursor().executemany(
            "INSERT INTO ledgers.gl_settings (entity_id, provider, place, options, recorded_by) VALUES (%s, %s, %s, %s, %s)",
            [(entity, provider, place, Jsonb(options), by) for entity, provider, place, options in rows],
        )


@contextmanager
def _refused_in_doubt() -> Iterator[None]:
    """Raises: `LedgerInDoubtError` where the database says so."""
    try:
        yield
    except psycopg.Error as error:
        known = translate(error)
        if isinstance(known, RefusedByDatabaseError) and known.code == LedgerInDoubtError.code:
            raise LedgerInDoubtError from None
        raise known or error from None


_LEDGERS = """
    SELECT e.slug AS entity, s.provider, s.place, s.options, s.recorded_by, s.recorded_at,
           p.until, p.code AS pause
      FROM system.entities e CROSS JOIN LATERAL ledgers.gl_setting(e.id) s
      LEFT JOIN ledgers.gl_pauses p ON p.entity_id = e.id AND p.until > now()
     WHERE s.provider <> 'native' AND (%(entity)s::uuid IS NULL OR e.id = %(entity)s) ORDER BY 1"""

_DELIVERIES = """
    SELECT e.slug AS entity, d.period, count(*) FILTER (WHERE d.outcome IS NULL) AS under_way,
           count(*) FILTER (WHERE d.outcome IS NULL AND d.wait_until IS NOT NULL) AS in_doubt,
           count(*) FILTER (WHERE d.outcome = 'CONFIRMED') AS confirmed,
           count(DISTINCT h.delivery_id) AS refused
      FROM ledgers.deliveries d JOIN system.entities e ON e.id = d.entity_id LEFT JOIN ledgers.held_rows h ON h.delivery_id = d.id
     WHERE %(entity)s::uuid IS NULL OR e.id = %(entity)s GROUP BY 1, 2 ORDER BY 2, 1"""

_HELD = """
    SELECT e.slug AS entity, r.period, r.subledger, r.code, count(*) AS rows
      FROM ledgers.held_rows h JOIN ledgers.posting_refusals r ON r.id = h.refusal_id JOIN system.entities e ON e.id = r.entity_id
     WHERE %(entity)s::uuid IS NULL OR e.id = %(entity)s GROUP BY 1, 2, 3, 4 ORDER BY 2, 1, 3, 4"""

_GIVEN_UP = """
    SELECT e.slug AS entity, d.period, d.provider, d.place, d.external_id, g.reason, g.recorded_by, g.recorded_at
      FROM ledgers.given_up g JOIN ledgers.deliveries d ON d.id = g.delivery_id JOIN system.entities e ON e.id = d.entity_id
     WHERE d.code = 'GIVEN_UP' AND d.attempts > 0 AND (%(entity)s::uuid IS NULL OR e.id = %(entity)s) ORDER BY 2, 1, 5"""

_FINDINGS = """
    SELECT e.slug AS entity, d.period, f.code, f.provider_ref, d.external_id, f.at
      FROM ledgers.delivery_findings f JOIN ledgers.deliveries d ON d.id = f.delivery_id
      JOIN system.entities e ON e.id = d.entity_id
     WHERE %(entity)s::uuid IS NULL OR e.id = %(entity)s ORDER BY f.id"""


async def status(database: TenantDatabase, *, entity_id: UUID | None) -> dict[str, list[dict[str, Any]]]:
    """`ledgers`, `deliveries` by entity and month, rows `held` back by reason, journals that ledgers which were `given_up` may
    have, and what later looks found.
    """
    one = {"entity": entity_id}
    return {
        "ledgers": await database.fetch(_LEDGERS, one),
        "deliveries": await database.fetch(_DELIVERIES, one),
        "held": await database.fetch(_HELD, one),
        "given_up": await database.fetch(_GIVEN_UP, one),
        "findings": await database.fetch(_FINDINGS, one),
    }


async def accounts_beside(database: TenantDatabase, entity_id: UUID) -> list[dict[str, Any]]:
    """Our chart beside the accounts of the entity's ledger: `code`, `name`, and what it is called `there`; None: it is not.

    Raises: as `for_entity`, and as `GLProvider.accounts`.
    """
    ours = await database.fetch("SELECT code, name FROM ledgers.accounts WHERE active ORDER BY code")
    provider = await for_entity(entity_id, database=database)
    try:
        there = {account.code: account.name for account in await provider.accounts()}
    finally:
        await provider.aclose()
    known = {row["code"] for row in ours}
    more = [{"code": code, "name": None, "there": name} for code, name in sorted(there.items()) if code not in known]
    return [{**row, "there": there.get(row["code"])} for row in ours] + more

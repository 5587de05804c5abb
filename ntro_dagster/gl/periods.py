"""A month of an entity: OPEN, CLOSING (nothing is posted any more), CLOSED (sealed). ADR 024.

People act, the database checks and moves; a run seals behind them. Nothing here decides what the database does not decide again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import psycopg

from ntro_dagster.boundary.periods import shifted
from ntro_dagster.errors import UsageError
from ntro_dagster.platforms.postgres.database import Actor, RefusedByDatabaseError, TenantDatabase
from ntro_dagster.subledger.review import ReasonMissingError
from ntro_dagster.subledger.row import EXACT


class PeriodStatus(StrEnum):
    OPEN = "OPEN"
    CLOSING = "CLOSING"
    CLOSED = "CLOSED"


class Act(StrEnum):
    CLOSE = "CLOSE"
    ASK_REOPEN = "ASK_REOPEN"
    REOPEN = "REOPEN"


class PeriodNotReadyError(UsageError):
    """Values: `period`, `why`."""

    code = "PERIOD_NOT_READY"
    summary = "the period cannot be closed yet"
    detail = "{period} cannot be closed yet: {why}"
    mend = "`ntro period status` says what to do about each; nothing was changed"


class CloseNeedsReasonError(UsageError):
    """Values: `period`, `why`."""

    code = "CLOSE_NEEDS_A_REASON"
    summary = "something about the period asks for an explanation"
    detail = "{period}: {why}"
    mend = "look into it, or close with a reason that explains it; it is kept for ever"


class ReopeningNotAskedError(UsageError):
    """Values: `period`."""

    code = "REOPENING_NOT_ASKED"
    summary = "nobody has asked for the period to be reopened"
    detail = "nobody has asked for {period} to be reopened since it was closed"
    mend = "one person asks, with a reason; another one confirms"


CHECKLIST: dict[str, tuple[str, str]] = {
    "ROWS_STILL_OPEN": ("Every row is decided and posted", "decide upon the rows that are left, and let approved ones be posted"),
    "DECISIONS_NOT_APPLIED": ("Every decision is applied", "a run does that within seconds"),
    "DOCUMENTS_NOT_STAGED": ("Every document is read", "a run reads them; its failure, if it has one, says why not"),
    "PROPOSALS_OUTSTANDING": ("Everything that rows lead to is proposed", "a run does that once their rows are reviewed"),
    "DELIVERIES_UNDER_WAY": ("Nothing is under way to another ledger", "it is confirmed or refused when that ledger answers"),
    "EARLIER_PERIOD_OPEN": ("Earlier months are closed", "close the earlier months that have journals or undecided rows first"),
    "BOOKS_DO_NOT_BALANCE": ("The trial balance balances", "this must not happen: leave the database as it is, ask its operator"),
    "NOT_TRANSLATED": ("Foreign journals have a rate", "reverse them and enter them again: they are older than rates"),
    "CONTROL_ACCOUNT_DIFFERS": ("Subledgers agree with their control accounts", "`ntro period status` shows both sides"),
    "BANK_DIFFERS": ("The bank agrees, where a balance was recorded", "post what is missing, or say why the statement differs"),
    "NET_ASSETS_MOVED": ("Net assets are plausible", "say why they moved so much since last month"),
}  # fmt: skip
"""What a close looks at, in this order: as a statement that should hold, and what to do where it does not."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that stands against closing. `things`: how many; `answerable`: a reason is enough."""

    code: str
    things: int
    answerable: bool


@dataclass(frozen=True, slots=True)
class Control:
    """A subledger and its control account in one currency: what posted rows add up to, and what they put on the account."""

    subledger: str
    role: str
    currency: str
    posted_rows: Decimal
    account: Decimal

    @property
    def difference(self) -> Decimal:
        return EXACT.subtract(self.posted_rows, self.account)


@dataclass(frozen=True, slots=True)
class BankBalance:
    account_code: str
    currency: str
    statement: Decimal
    books: Decimal

    @property
    def difference(self) -> Decimal:
        return EXACT.subtract(self.statement, self.books)


@dataclass(frozen=True, slots=True)
class PeriodAct:
    id: int
    act: Act
    login: str
    reason: str | None
    asked: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Seal:
    """What a closed month is known by.

    Attributes:
        digest: SHA-256 over the period's journals as they were, computed by the database.
        holds: whether the journals still make it.
    """

    act_id: int
    journals: int
    digest: str
    run_id: UUID
    at: datetime
    holds: bool


@dataclass(frozen=True, slots=True)
class PeriodState:
    """Net assets are in the entity's currency, at the month's end and at that of the month before."""

    entity_id: UUID
    period: str
    status: PeriodStatus
    findings: tuple[Finding, ...]
    controls: tuple[Control, ...]
    banks: tuple[BankBalance, ...]
    net_assets: Decimal
    net_assets_before: Decimal
    acts: tuple[PeriodAct, ...]
    seal: Seal | None

    @property
    def asked(self) -> PeriodAct | None:
        """Who asked for it to be reopened, where nobody has confirmed that yet."""
        return _asked(self.status, self.acts)

    @property
    def ready(self) -> bool:
        return self.status is PeriodStatus.OPEN and all(finding.answerable for finding in self.findings)


async def period_status(database: TenantDatabase, *, entity_id: UUID, period: str) -> PeriodStatus:
    found = await database.fetch_one(
        "SELECT status FROM ledgers.periods WHERE entity_id = %s AND period = %s", [entity_id, period]
    )
    return PeriodStatus(found["status"]) if found else PeriodStatus.OPEN


async def period_list(database: TenantDatabase, *, entity_id: UUID) -> list[dict[str, Any]]:
    """The entity's months with rows, journals or acts: `period`, `status`, `journals`, and who acted last and when."""
    return await database.fetch(
        """WITH months AS (SELECT period FROM system.partition_activity WHERE entity_id = %(entity)s
                           UNION SELECT period FROM ledgers.journals WHERE entity_id = %(entity)s
                           UNION SELECT period FROM ledgers.periods WHERE entity_id = %(entity)s)
           SELECT m.period, coalesce(p.status, 'OPEN') AS status, coalesce(j.journals, 0) AS journals, a.login, a.at
             FROM months m LEFT JOIN ledgers.periods p ON p.entity_id = %(entity)s AND p.period = m.period
             LEFT JOIN (SELECT period, count(*) AS journals FROM ledgers.journals WHERE entity_id = %(entity)s GROUP BY 1) j
                    ON j.period = m.period
             LEFT JOIN LATERAL (SELECT login, at FROM system.period_acts x WHERE x.entity_id = %(entity)s AND x.period = m.period
                                 ORDER BY id DESC LIMIT 1) a ON TRUE
            ORDER BY m.period""",
        {"entity": entity_id},
    )


async def period_state(database: TenantDatabase, *, entity_id: UUID, period: str) -> PeriodState:
    """Everything about the month's close. A closed month is compared with its seal; what is open is looked over."""
    status = await period_status(database, entity_id=entity_id, period=period)
    where: list[Any] = [entity_id, period]
    findings = await find(database, entity_id=entity_id, period=period) if status is PeriodStatus.OPEN else ()
    controls = await database.fetch("SELECT * FROM ledgers.control_accounts(%s, %s)", where)
    banks = await database.fetch("SELECT * FROM ledgers.bank_differences(%s, %s) ORDER BY 1, 2", where)
    worth = await database.fetch_single(
        "SELECT ledgers.net_assets(%s, %s) AS now, ledgers.net_assets(%s, %s) AS before", [*where, entity_id, shifted(period, -1)]
    )
    return PeriodState(
        entity_id,
        period,
        status,
        tuple(findings),
        tuple(Control(**row) for row in controls),
        tuple(BankBalance(**row) for row in banks),
        worth["now"],
        worth["before"],
        await _acts(database, entity_id, period),
        await _seal(database, entity_id, period) if status is PeriodStatus.CLOSED else None,
    )


async def _acts(database: TenantDatabase, entity_id: UUID, period: str) -> tuple[PeriodAct, ...]:
    rows = await database.fetch(
        "SELECT id, act, login, reason, asked, at FROM system.period_acts WHERE entity_id = %s AND period = %s ORDER BY id",
        [entity_id, period],
    )
    return tuple(PeriodAct(**row | {"act": Act(row["act"])}) for row in rows)


def _asked(status: PeriodStatus, acts: Sequence[PeriodAct]) -> PeriodAct | None:
    last = acts[-1] if acts else None
    return last if last and last.act is Act.ASK_REOPEN and status is PeriodStatus.CLOSED else None


async def find(database: TenantDatabase, *, entity_id: UUID, period: str) -> list[Finding]:
    """What stands against closing the month now, in the order of `CHECKLIST`."""
    rows = await database.fetch("SELECT * FROM ledgers.close_findings(%s, %s)", [entity_id, period])
    order = list(CHECKLIST)
    return sorted((Finding(**row) for row in rows), key=lambda finding: order.index(finding.code))


async def _seal(database: TenantDatabase, entity_id: UUID, period: str) -> Seal | None:
    found = await database.fetch_one(
        """SELECT s.act_id, s.journals, encode(s.digest, 'hex') AS digest, s.run_id, s.at,
                  (d.journals, d.digest) = (s.journals, s.digest) AS holds
             FROM ledgers.seals s, ledgers.period_digest(s.entity_id, s.period) d
            WHERE s.entity_id = %s AND s.period = %s ORDER BY s.act_id DESC LIMIT 1""",
        [entity_id, period],
    )
    return Seal(**found) if found else None


async def close_period(database: TenantDatabase, *, entity_id: UUID, period: str, by: str, reason: str | None = None) -> None:
    """From here on nothing is posted to the month. With the desk's role. Args: `by`: the person's login.

    Raises: `PeriodNotReadyError`, `CloseNeedsReasonError`, `RefusedByDatabaseError` (PERIOD_CLOSED, NOT_A_MEMBER, ROLE_MAY_NOT).
    """
    try:
        await _act(database, Act.CLOSE, entity_id=entity_id, period=period, by=by, reason=reason)
    except RefusedByDatabaseError as refused:
        known = {PeriodNotReadyError.code: PeriodNotReadyError, CloseNeedsReasonError.code: CloseNeedsReasonError}
        if (kind := known.get(refused.code)) is None:
            raise
        found = await find(database, entity_id=entity_id, period=period)
        raise kind(period=period, why=_told(found, kind is CloseNeedsReasonError) or refused.values["what"]) from None


async def ask_reopening(database: TenantDatabase, *, entity_id: UUID, period: str, by: str, reason: str) -> None:
    """Raises: `ReasonMissingError`, `RefusedByDatabaseError` (PERIOD_NOT_CLOSED, LATER_PERIOD_CLOSED, NOT_A_MEMBER,
    ROLE_MAY_NOT).
    """
    await _act(database, Act.ASK_REOPEN, entity_id=entity_id, period=period, by=by, reason=reason)


async def confirm_reopening(database: TenantDatabase, *, entity_id: UUID, period: str, by: str, reason: str) -> None:
    """A second person reopens what one has asked for.

    Raises: `ReopeningNotAskedError`, `RefusedByDatabaseError` (MAKER_IS_NOT_CHECKER, and as `ask_reopening`).
    """
    asked = _asked(await period_status(database, entity_id=entity_id, period=period), await _acts(database, entity_id, period))
    if asked is None:
        raise ReopeningNotAskedError(period=period)
    try:
        await _act(database, Act.REOPEN, entity_id=entity_id, period=period, by=by, reason=reason, asked=asked.id)
    except psycopg.errors.UniqueViolation:  # somebody else has confirmed it meanwhile
        raise ReopeningNotAskedError(period=period) from None


async def _act(database: TenantDatabase, act: Act, **said: Any) -> None:
    if act is not Act.CLOSE and not said["reason"].strip():
        raise ReasonMissingError
    await database.execute(
        "INSERT INTO system.period_acts (entity_id, period, act, login, reason, asked) "
        "VALUES (%(entity_id)s, %(period)s, %(act)s, %(by)s, %(reason)s, %(asked)s)",
        {"asked": None, **said, "act": act},
    )


async def seal_closing(database: TenantDatabase, *, entity_id: UUID, period: str, run_id: UUID) -> bool:
    """Seal the month if somebody has closed it and nobody has sealed it yet; with the app's role. Whether it was."""
    async with database.transaction(Actor.run(run_id)):
        sealed = await database.execute(
            """INSERT INTO ledgers.seals (act_id, entity_id, period, run_id)
               SELECT max(a.id), a.entity_id, a.period, %s FROM system.period_acts a
                 JOIN ledgers.periods p ON p.entity_id = a.entity_id AND p.period = a.period AND p.status = 'CLOSING'
                WHERE a.entity_id = %s AND a.period = %s AND a.act = 'CLOSE' GROUP BY a.entity_id, a.period""",
            [run_id, entity_id, period],
        )
    return sealed == 1


def _told(findings: list[Finding], answerable: bool) -> str:
    return "; ".join(
        f"not true: {CHECKLIST[finding.code][0].lower()}" + (f" ({finding.things})" if finding.things > 1 else "")
        for finding in findings
        if finding.answerable is answerable
    )

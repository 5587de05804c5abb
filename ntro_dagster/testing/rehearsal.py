"""A bundle's month-ends, from sample documents to trial balances, in this process: the engine that runs use, without Dagster's
processes, over a throw-away database.

What a run would do in one step is done here in the same order, by the same functions: stage, file decisions, apply them,
post, draw up the trial balance. It is repeated until nothing moves any more, for rows may follow from rows.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from ntro_dagster.bundles import Bundle, RunbookInvalidError, platform_bundle
from ntro_dagster.bundles.parameter_values import Value, typed
from ntro_dagster.bundles.problems import errors
from ntro_dagster.bundles.runbook_md import Frontmatter, read_page
from ntro_dagster.errors import NtroError
from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import TrialBalance, draw_up
from ntro_dagster.orchestration.assets import stage
from ntro_dagster.orchestration.context import EntityRef, RunbookContext
from ntro_dagster.orchestration.derived import derive
from ntro_dagster.orchestration.runbook import Runbook, read_runbook
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.registry import SubledgerType, load_types, subledger_types
from ntro_dagster.subledger.review import apply_signals, file_signal
from ntro_dagster.tenant.deployment import bring_up_to_date
from ntro_dagster.testing.samples import SampleDesk
from ntro_dagster.testing.scenario import Decision, Scenario, scenario_named
from ntro_dagster.testing.scratch import TENANT, scratch_database

MOST_ROUNDS = 8
Say = Callable[[float, str], None]
Counts = dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the timeline. `at`: seconds since the rehearsal began."""

    at: float
    what: str


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of it.

    Attributes:
        counts: for each subledger with rows: rows by status.
        refused: rows of decisions that were refused, by code.
        findings: findings of rows that still need attention, by code.
        balances: balance (debit less credit) of each account that moved, over all entities, by currency.
        reasons: why it did not pass; empty where it did.
    """

    runbook: str
    scenario: str
    seconds: float
    steps: tuple[Step, ...]
    counts: Counts
    refused: dict[str, int]
    findings: dict[str, int]
    balances: dict[str, dict[str, Decimal]]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def rehearse(root: Path, scenario: Scenario | str | Path, *, say: Say | None = None) -> Rehearsal:
    """Run the bundle in `root` through a scenario.

    Args:
        scenario: one of `HAPPY`, `REJECT_ALL`, the name of either, or a scenario file.
        say: called with seconds and text when a step is done.

    Raises: `RunbookInvalidError`, `ScenarioInvalidError`, `ParameterInvalidError`, and what the bundle's migrations, code or
        documents raise.
    """
    chosen = scenario if isinstance(scenario, Scenario) else scenario_named(str(scenario), root)
    begun = time.monotonic()
    with scratch_database() as database, _bound(database.app):
        head = _head(root)
        bundle = Bundle(head.slug, root, f"v_{secrets.token_hex(6)}")  # so that its code is read anew
        parameters = typed(head.parameters, chosen.parameters)
        load_types(platform_bundle())
        bring_up_to_date(database.owner, bundle)
        stage_set = _Stage(head, bundle, read_runbook(bundle), chosen, parameters, database, begun, say)
        stage_set.note("deployed")
        return asyncio.run(stage_set.play(root))


def _head(root: Path) -> Frontmatter:
    page = read_page(root)
    wrong = errors(page.problems)
    if page.head is None or wrong:
        why = f"{wrong[0].file}:{wrong[0].line}: {wrong[0].message}" if wrong else "runbook.md cannot be read"
        raise RunbookInvalidError(slug=root.name, why=why)
    return page.head


@contextmanager
def _bound(app_url: str) -> Iterator[None]:
    """This process works for the throw-away tenant, and for whom it did before afterwards."""
    ours = {"NTRO_TENANT": TENANT, "NTRO_PLATFORM_URL": app_url, "NTRO_SALT": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass
class _Stage:
    """One rehearsal under way."""

    head: Frontmatter
    bundle: Bundle
    runbook: Runbook
    scenario: Scenario
    parameters: dict[str, Value]
    urls: DatabaseCredentials
    begun: float
    say: Say | None
    run_id: UUID = field(default_factory=uuid4)
    steps: list[Step] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    partitions: list[tuple[EntityRef, str]] = field(default_factory=list)
    balances: dict[tuple[str, str], TrialBalance] = field(default_factory=dict)
    unused: list[Decision] = field(default_factory=list)
    decided: set[tuple[str, str, UUID]] = field(default_factory=set)

    @property
    def kinds(self) -> list[SubledgerType]:
        return subledger_types(platform_bundle(), self.bundle)

    def note(self, what: str) -> None:
        step = Step(time.monotonic() - self.begun, what)
        self.steps.append(step)
        if self.say:
            self.say(step.at, what)

    async def play(self, root: Path) -> Rehearsal:
        async with (
            TenantDatabase(self.urls.app) as self.app,
            TenantDatabase(self.urls.app) as self.reader,
            TenantDatabase(self.urls.desk) as self.desk,
        ):
            with tempfile.TemporaryDirectory(prefix="ntro-rehearsal-") as store:
                samples = SampleDesk(root, self.head, self.urls.owner, self.app, Path(store))
                for outcome in await samples.file(self.scenario.documents):
                    self.note(outcome)
                self.partitions = await samples.partitions()
                await self._rounds()
            return await self._report()

    async def _rounds(self) -> None:
        self.unused = list(self.scenario.decisions or ())
        try:
            for _ in range(MOST_ROUNDS):
                before = await self._counts()
                await self._stage()
                await self._decide()
                await self._post()
                if await self._counts() == before:
                    break
            else:
                self.reasons.append(f"rows were still moving after {MOST_ROUNDS} rounds")
            await self._close()
        except NtroError as error:
            self.reasons.append(f"{error.code}: {error.explain()}. {error.advice()}")
        for decision in self.unused:
            where = ", ".join(f"{name}={value}" for name, value in decision.where.items()) or "every row"
            self.reasons.append(f"the decision `{decision.decide}` ({where}) fitted no row")

    def _context(self, entity: EntityRef, period: str) -> RunbookContext:
        return RunbookContext(TENANT, entity, period, self.run_id, self.app, self.reader, parameters=self.parameters)

    async def _stage(self) -> None:
        for entity, period in self.partitions:
            for ledger in self.runbook.ledgers:
                metadata: Any = (await stage(self._context(entity, period), ledger)).metadata
                if metadata["inserted"] or metadata["updated"]:
                    counts = {name: metadata[name] for name in metadata if name.isupper()}
                    self.note(f"staged {ledger.name}{self._of(entity, period)}  {_shown(counts)}")
            for derivation in self.runbook.derivations:
                staged = await derive(self._context(entity, period), derivation)
                if staged and (staged.inserted or staged.updated):
                    self.note(
                        f"derived {derivation.ledger.name}{self._of(entity, period)}  {staged.inserted + staged.updated} rows"
                    )

    async def _decide(self) -> None:
        decisions = list(self.scenario.decisions or ()) if self.scenario.automatic is None else [None]
        for decision in decisions:
            for kind in self.kinds:
                if decision is None:
                    await self._decide_all(kind)
                elif decision.subledger in {None, kind.name} and await self._file(kind, decision):
                    self.unused = [each for each in self.unused if each is not decision]

    async def _decide_all(self, kind: SubledgerType) -> None:
        """The lifecycle's own way: from each status the first step, if a person takes it, or the one that turns a row down."""
        edges = kind.lifecycle.edges
        for status in dict.fromkeys(edge.source for edge in edges):
            leading_on = [edge for edge in edges if edge.source == status]
            if self.scenario.automatic == "reject":
                leading_on = [edge for edge in leading_on if edge.signal == "reject"]
            if leading_on and leading_on[0].signal:
                await self._file(kind, Decision(leading_on[0].signal, {"status": status}, subledger=kind.name))

    async def _file(self, kind: SubledgerType, decision: Decision) -> int:
        """File and apply one decision over the rows that it fits; returns how many."""
        sources = {edge.source for edge in kind.lifecycle.edges if edge.signal == decision.decide}
        if decision.decide == "edit":
            sources = set(kind.lifecycle.editable)
        rows = 0
        for entity, period in self.partitions:
            handle = self._context(entity, period).handle(kind)
            found = await handle.query(period=period, status=sorted(sources))
            # What a decision could not do to a row, it is not asked to do again in the next round.
            ids = [row.id for row in found if _fits(row, decision) and (*decision.key, row.id) not in self.decided]
            if not ids:
                continue
            self.decided |= {(*decision.key, row_id) for row_id in ids}
            filed = await file_signal(
                self.desk,
                kind,
                decision.decide,
                filed_by=decision.person,
                reason=decision.reason,
                values=decision.values or None,
                ids=ids,
            )
            applied = await apply_signals(handle, period=period)
            rows += sum(each.rows for each in filed)
            refused = f"  {applied.refused} refused" if applied.refused else ""
            self.note(
                f"{decision.decide} {kind.name}{self._of(entity, period)} by {decision.person}  {applied.applied} rows{refused}"
            )
        return rows

    async def _post(self) -> None:
        for entity, period in self.partitions:
            run = self._context(entity, period)
            for kind in self.kinds:
                if kind.lifecycle.posted:
                    handle = run.handle(kind)
                    posted = await post_approved(handle, period=period, currency=entity.currency)
                    if posted.rows:
                        self.note(f"posted {kind.name}{self._of(entity, period)}  {posted.rows} rows")

    async def _close(self) -> None:
        for entity, period in self.partitions:
            run = self._context(entity, period)
            balance = await draw_up(self.app, entity_id=entity.id, period=period, run_id=self.run_id, salt=run.salt)
            self.balances[entity.slug, period] = balance
            self.note(f"trial balance{self._of(entity, period)}  {len(balance.lines)} accounts")
            if not balance.balanced:
                self.reasons.append(f"the trial balance of {entity.slug}, {period} does not balance")

    def _of(self, entity: EntityRef, period: str) -> str:
        return "" if len(self.partitions) == 1 else f" {entity.slug} {period}"

    async def _counts(self) -> Counts:
        counts: Counts = {}
        for kind in self.kinds:
            total: Counter[str] = Counter()
            for entity, period in self.partitions:
                handle = self._context(entity, period).handle(kind)
                total.update(await handle.counts(period=period))
            if total:
                counts[kind.name] = dict(total)
        return counts

    async def _report(self) -> Rehearsal:
        counts = await self._counts()
        refused = await self.app.fetch(
            "SELECT code, count(*) AS rows FROM system.signal_rows WHERE outcome = 'REFUSED' GROUP BY 1 ORDER BY 1"
        )
        found = {row["code"]: row["rows"] for row in refused}
        balances = self._balances()
        self._compare(counts, found, balances)
        return Rehearsal(
            runbook=self.head.slug,
            scenario=self.scenario.name,
            seconds=time.monotonic() - self.begun,
            steps=tuple(self.steps),
            counts=counts,
            refused=found,
            findings=await self._findings(),
            balances=balances,
            reasons=tuple(self.reasons),
        )

    def _balances(self) -> dict[str, dict[str, Decimal]]:
        """The last month's balance of each entity, added up."""
        last = {slug: max(period for s, period in self.balances if s == slug) for slug, _ in self.balances}
        total: dict[str, dict[str, Decimal]] = {}
        for slug, period in last.items():
            for line in self.balances[slug, period].lines:
                accounts = total.setdefault(line.currency, {})
                accounts[line.account_code] = accounts.get(line.account_code, Decimal(0)) + line.balance
        return total

    async def _findings(self) -> dict[str, int]:
        codes: Counter[str] = Counter()
        for kind in self.kinds:
            for entity, period in self.partitions:
                handle = self._context(entity, period).handle(kind)
                for row in await handle.query(period=period):
                    codes.update(str(each.get("code")) for each in row.validation_errors or ())
        return dict(sorted(codes.items()))

    def _compare(self, counts: Counts, refused: dict[str, int], balances: dict[str, dict[str, Decimal]]) -> None:
        expected = self.scenario.expect
        if expected.everything_decided:
            self._expect_decided(counts)
        for name, statuses in (expected.counts or {}).items():
            found = counts.get(name, {})
            if found != {status: rows for status, rows in statuses.items() if rows}:
                self.reasons.append(f"{name}: expected {_shown(statuses)}, found {_shown(found)}")
        if expected.refused is not None and dict(expected.refused) != refused:
            self.reasons.append(f"refused: expected {_shown(expected.refused)}, found {_shown(refused)}")
        if expected.trial_balance is not None:
            self._expect_balance(expected.trial_balance, balances)
        if self.scenario.automatic == "reject" and any(balances.values()):
            self.reasons.append("rows were posted although all were turned down")

    def _expect_decided(self, counts: Counts) -> None:
        if not counts:
            self.reasons.append("no row came of the samples: put a document into samples/")
        for kind in self.kinds:
            edges = kind.lifecycle.edges
            for status, rows in counts.get(kind.name, {}).items():
                if any(edge.source == status for edge in edges):
                    self.reasons.append(f"{kind.name}: {rows} rows are still {status}: decide them in a scenario of your own")
                elif self.scenario.automatic == "accept" and kind.lifecycle.posted not in {None, status}:
                    self.reasons.append(f"{kind.name}: {rows} rows ended as {status}, not {kind.lifecycle.posted}")

    def _expect_balance(self, expected: Any, balances: dict[str, dict[str, Decimal]]) -> None:
        if len(balances) > 1:
            self.reasons.append(
                f"the trial balance has several currencies ({', '.join(sorted(balances))}); it cannot be compared"
            )
            return
        found = next(iter(balances.values()), {})
        for account in sorted({*expected, *found}):
            wanted, is_now = expected.get(account, Decimal(0)), found.get(account, Decimal(0))
            if wanted != is_now:
                self.reasons.append(f"account {account}: expected {wanted:f}, found {is_now.normalize():f}")


def _fits(row: Any, decision: Decision) -> bool:
    missing = object()
    return all(str(getattr(row, name, missing)) == str(value) for name, value in decision.where.items())


def _shown(counts: Any) -> str:
    return " ".join(f"{name}={rows}" for name, rows in counts.items() if rows) or "nothing"

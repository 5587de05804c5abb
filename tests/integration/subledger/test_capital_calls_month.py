"""Capital calls from records to closed books, in a real PostgreSQL: called, posted, paid or in default, with interest."""

from __future__ import annotations

import asyncio
import csv
import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
from dagster import DagsterInstance, materialize
from dagster._core.test_utils import create_run_for_test
from ledger_tenant import Tenant
from psycopg.types.json import Jsonb

from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.bundles.parameter_values import typed
from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import TrialBalance, draw_up
from ntro_dagster.ingest.returns import Layout
from ntro_dagster.orchestration.assets import SubledgerAsset, decisions_asset, stage
from ntro_dagster.orchestration.context import EntityRef, RunbookContext
from ntro_dagster.orchestration.due import DueRule, RunUnknownError, as_of, take_due_steps
from ntro_dagster.orchestration.partitions import partition_key
from ntro_dagster.orchestration.runbook import Runbook, read_runbook
from ntro_dagster.orchestration.work import Waiting, Work, waiting
from ntro_dagster.platforms.postgres.database import RefusedByDatabaseError, TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.deployment import deploy
from ntro_dagster.subledger.registry import SubledgerType, subledger_types
from ntro_dagster.subledger.review import apply_signals, file_signal

T = TypeVar("T")
Records = Sequence[Mapping[str, str]]

SLUG = "capital-calls"
SAMPLES = runbook_bundle(SLUG).root / "samples"
JANUARY, FEBRUARY = "2025-01", "2025-02"
LAYOUT = Layout(
    kind="table", encoding="utf-8", delimiter=",", header_line=1, columns=(), width=0, mapping={}, rivals={}, names_entity=True
).as_dict()


def sample(name: str, change: Callable[[dict[str, str]], dict[str, str] | None] = lambda row: row) -> list[dict[str, str]]:
    with (SAMPLES / name / "2025-01" / f"{name}.csv").open(newline="") as table:
        return [changed for row in csv.DictReader(table) if (changed := change(row))]


@pytest.fixture(scope="module")
def deployed(make_database: Callable[[], DatabaseCredentials]) -> DatabaseCredentials:
    credentials = make_database()
    deploy(credentials.owner, platform_bundle(), runbook_bundle(SLUG))
    return credentials


class Fund:
    """One entity of a tenant that runs the runbook, and the steps of its month as runs take them."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.runner = asyncio.Runner()
        self.settings: dict[str, str] = {}
        self.entity = tenant.new_entity()
        (self.slug,) = tenant.fetch("SELECT slug FROM system.entities WHERE id = %s", self.entity)[0]
        self.database, self.reader, self.desk = (tenant.database(role) for role in ("app", "app", "desk"))
        self.runbook: Runbook = read_runbook(runbook_bundle(SLUG))
        self.kinds: dict[str, SubledgerType] = {kind.name: kind for kind in subledger_types(runbook_bundle(SLUG))}

    def await_(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def close(self) -> None:
        for database in (self.database, self.reader, self.desk):
            self.await_(database.close())
        self.runner.close()

    def run(self, period: str) -> RunbookContext:
        entity = EntityRef(self.entity, self.slug, "GBP")
        parameters = typed(self.runbook.head.parameters, self.settings)
        return RunbookContext("acme", entity, period, uuid4(), self.database, self.reader, parameters=parameters)

    def file(self, subledger: str, records: Records, period: str = JANUARY) -> None:
        """Records as filing a document leaves them."""
        document = uuid4()
        with psycopg.connect(self.tenant.credentials.app) as app:
            app.execute(
                "INSERT INTO ingest.submitted_documents "
                "(id, sha256, name, bytes, source, period, layout, records, findings, submitted_by) "
                "VALUES (%s, %s, 'x.csv', 1, %s, %s, %s, %s, '[]', 'user:ann')",
                [document, sha256(document.bytes).digest(), subledger, period, Jsonb(LAYOUT), len(records)],
            )
            app.cursor().executemany(
                "INSERT INTO ingest.submitted_records (id, document_id, line, entity_id, period, raw) "
                "VALUES (gen_random_uuid(), %s, %s, %s, %s, %s)",
                [[document, number, self.entity, period, Jsonb(dict(raw))] for number, raw in enumerate(records, start=2)],
            )
            app.execute(
                "INSERT INTO ingest.intake (document_id, entity_id, subledger, period, records) VALUES (%s, %s, %s, %s, %s)",
                [document, self.entity, self.kinds[subledger].table, period, len(records)],
            )

    def stage(self, subledger: str, period: str = JANUARY) -> None:
        (ledger,) = [each for each in self.runbook.ledgers if each.name == subledger]
        self.await_(_stage(self.run(period), ledger))

    def decide(self, subledger: str, kind: str, *, by: str = "user:bob", period: str = JANUARY, **more: Any) -> int:
        filed = self.await_(
            file_signal(
                self.desk,
                self.kinds[subledger],
                kind,
                filed_by=by,
                reason="because",
                entity_id=self.entity,
                period=period,
                **more,
            )
        )
        self.await_(apply_signals(self.run(period).handle(self.kinds[subledger]), period=period))
        return sum(each.rows for each in filed)

    def post(self, subledger: str, period: str = JANUARY) -> int:
        handle = self.run(period).handle(self.kinds[subledger])
        return self.await_(post_approved(handle, period=period, currency="GBP")).rows

    def take(self, day: date, period: str = JANUARY) -> int:
        handle = self.run(period).handle(self.kinds["capital_call"])
        return self.await_(take_due_steps(handle, self.runbook.rules, period=period, day=day))

    def waits(self, work: Work, day: date | None = None) -> list[str]:
        """Periods of this fund in which work waits."""
        tables = {kind.table: kind.lifecycle for kind in self.kinds.values()}
        questions = [rule.question for rule in self.runbook.rules] if day else []
        found: list[Waiting] = self.await_(waiting(self.database, work, tables, due=questions, day=day))
        return [each.period for each in found if each.entity == self.slug]

    def rows(self, subledger: str, period: str = JANUARY) -> list[Any]:
        return self.await_(self.run(period).handle(self.kinds[subledger]).query(period=period))

    def statuses(self, subledger: str, period: str = JANUARY) -> dict[str, str]:
        rows = self.rows(subledger, period)
        return {getattr(row, "investor", None) or getattr(row, "payer", ""): row.status.value for row in rows}

    def findings(self, subledger: str, period: str = JANUARY) -> dict[str, list[str]]:
        return {
            getattr(row, "investor", None) or getattr(row, "payer", ""): [f["code"] for f in row.validation_errors or []]
            for row in self.rows(subledger, period)
        }

    def close_books(self, period: str = JANUARY) -> TrialBalance:
        return self.await_(draw_up(self.database, entity_id=self.entity, period=period, run_id=uuid4(), salt=b"salt"))

    @property
    def closes(self) -> int:
        ((closes,),) = self.tenant.fetch("SELECT count(*) FROM ledgers.closes WHERE entity_id = %s", self.entity)
        return int(closes)

    def called(self) -> None:
        """Up to calls that were issued."""
        self.file("commitment", sample("commitments"))
        self.stage("commitment")
        assert self.decide("commitment", "approve") == 3
        self.file("capital_call", sample("call-notices"))
        self.stage("capital_call")
        assert self.decide("capital_call", "approve") == 3
        assert self.post("capital_call") == 3


async def _stage(run: RunbookContext, ledger: SubledgerAsset) -> None:
    os.environ.setdefault(RunbookContext.salt_variable, "00")
    await stage(run, ledger)


@pytest.fixture
def fund(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fund]:
    monkeypatch.setenv("NTRO_TENANT", "acme")
    monkeypatch.setenv(RunbookContext.salt_variable, "00")
    fund = Fund(tenant)
    yield fund
    fund.close()


def balances(drawn: TrialBalance) -> dict[str, Decimal]:
    return {line.account_code: line.balance for line in drawn.lines}


def test_a_month_from_notices_to_closed_books(fund: Fund) -> None:
    fund.called()
    calls = {row.investor: row for row in fund.rows("capital_call")}
    assert {name: (f"{row.called:.2f}", f"{row.rounding:.2f}") for name, row in calls.items()} == {
        "Investor A": ("123450.00", "0.00"),
        "Investor B": ("82300.00", "0.00"),
        "Investor C": ("41150.00", "0.00"),
    }
    assert set(fund.statuses("capital_call").values()) == {"AWAITING_BANK"}
    assert fund.closes == 0 and fund.close_books().balanced and fund.closes == 0
    assert fund.waits(Work.CLOSE) == []

    fund.file("call_receipt", sample("call-receipts"))
    fund.stage("call_receipt")
    assert fund.findings("call_receipt") == {
        "Investor A": [],
        "Investor B": ["PAYMENT_PARTIAL"],
        "Investor D": ["CALL_UNKNOWN", *fund.findings("call_receipt")["Investor D"][1:]],
    }
    assert fund.decide("call_receipt", "approve") == 1
    assert fund.decide("call_receipt", "reject", ids=[r.id for r in fund.rows("call_receipt") if r.payer == "Investor D"]) == 1
    assert fund.waits(Work.REVIEW, date(2025, 1, 25)) == []
    assert fund.post("call_receipt") == 1
    assert fund.waits(Work.REVIEW, date(2025, 1, 25)) == [JANUARY]
    assert fund.take(date(2025, 1, 25)) == 1
    assert fund.statuses("capital_call") == {"Investor A": "PAID", "Investor B": "AWAITING_BANK", "Investor C": "AWAITING_BANK"}

    # B's part payment waits for a person, so B is not in default; nor is anybody on the last day of grace.
    assert fund.take(date(2025, 1, 30)) == 0
    assert fund.take(date(2025, 1, 31)) == 1
    assert fund.statuses("capital_call")["Investor C"] == "DEFAULTED"
    assert fund.statuses("capital_call")["Investor B"] == "AWAITING_BANK"
    assert fund.decide("call_receipt", "accept", by="user:ann") == 1
    assert fund.decide("call_receipt", "approve") == 1
    assert fund.post("call_receipt") == 1
    assert fund.waits(Work.REVIEW, date(2025, 1, 31)) == [JANUARY]
    assert fund.take(date(2025, 1, 31)) == 1
    assert fund.take(date(2025, 2, 28)) == 0

    fund.stage("default_interest")
    owed = {row.investor: row for row in fund.rows("default_interest")}
    # Two days, the 30th and the 31st: 32,300 and 41,150 at 8 per cent.
    assert {name: str(row.interest) for name, row in owed.items()} == {
        "Investor B": "14.160000000",
        "Investor C": "18.040000000",
    }
    assert fund.decide("default_interest", "approve") == 2
    assert fund.waits(Work.CLOSE) == []
    assert fund.post("default_interest") == 2
    assert fund.decide("commitment", "reject", period=FEBRUARY) == 0
    assert fund.waits(Work.CLOSE) == [JANUARY]

    drawn = fund.close_books()
    assert fund.closes == 1 and drawn.balanced
    assert balances(drawn) == {
        "1000": Decimal("173450.00"),
        "1210": Decimal("73450.00"),
        "1220": Decimal("32.20"),
        "3100": Decimal("-246900.00"),
        "4200": Decimal("-32.20"),
    }
    assert fund.waits(Work.CLOSE) == []


def test_interest_of_later_months_is_what_earlier_ones_have_not_charged(fund: Fund) -> None:
    fund.called()
    fund.take(date(2025, 2, 1))
    for period in (JANUARY, FEBRUARY):
        fund.stage("default_interest", period)
        assert fund.decide("default_interest", "approve", period=period) == 3
        assert fund.post("default_interest", period) == 3
    january, february = ({row.investor: row for row in fund.rows("default_interest", p)} for p in (JANUARY, FEBRUARY))
    assert (january["Investor A"].days, february["Investor A"].days) == (2, 30)
    total = january["Investor A"].interest + february["Investor A"].interest
    assert total == Decimal("811.73")  # 123,450 x 8% x 30 / 365 = 811.726..., rounded once

    # Money that came in January and is posted only now: February was charged too much of it, and March says so.
    fund.file("call_receipt", sample("call-receipts", lambda row: row if row["payer"] == "Investor A" else None))
    fund.stage("call_receipt")
    fund.decide("call_receipt", "approve")
    fund.post("call_receipt")
    fund.stage("default_interest", "2025-03")
    march = {row.investor: row for row in fund.rows("default_interest", "2025-03")}
    assert march["Investor A"].status == "NEEDS_ATTENTION"
    assert march["Investor A"].interest == -total or march["Investor A"].interest is None


def test_a_call_keeps_the_day_count_with_which_it_was_made(fund: Fund) -> None:
    fund.settings = {"day_count": "ACT-360"}
    fund.called()
    fund.settings = {}
    fund.stage("default_interest")
    owed = {row.investor: row for row in fund.rows("default_interest")}
    assert {row.day_count for row in owed.values()} == {"ACT/360"}
    assert owed["Investor C"].interest == Decimal("18.29")  # 41,150 x 8% x 2 / 360 = 18.288...; 18.04 by 365


def test_staging_interest_again_makes_no_second_row(fund: Fund) -> None:
    fund.called()
    for _ in range(2):
        fund.stage("default_interest")
    assert len(fund.rows("default_interest")) == 3


def test_receipts_that_were_read_too_early_are_matched_when_they_are_read_again(fund: Fund) -> None:
    fund.file("call_receipt", sample("call-receipts"))
    fund.stage("call_receipt")
    assert fund.findings("call_receipt")["Investor A"][0] == "CALL_UNKNOWN"
    fund.called()
    for _ in range(2):
        fund.stage("call_receipt")
        assert fund.statuses("call_receipt")["Investor A"] == "PENDING"
        assert fund.findings("call_receipt")["Investor B"] == ["PAYMENT_PARTIAL"]


def test_a_notice_that_leaves_somebody_out_or_comes_twice_waits_for_a_person(fund: Fund) -> None:
    fund.file("commitment", sample("commitments"))
    fund.stage("commitment")
    fund.decide("commitment", "approve")
    fund.file("capital_call", sample("call-notices", lambda row: row if row["investor"] != "Investor C" else None))
    fund.stage("capital_call")
    assert fund.findings("capital_call") == {"Investor A": ["CALL_INCOMPLETE"], "Investor B": ["CALL_INCOMPLETE"]}
    fund.file("capital_call", sample("call-notices"), FEBRUARY)
    fund.stage("capital_call", FEBRUARY)
    assert fund.findings("capital_call", FEBRUARY) == {
        "Investor A": ["CALL_REPEATED"],
        "Investor B": ["CALL_REPEATED"],
        "Investor C": [],
    }


def test_a_step_is_recorded_with_its_reason_and_day(fund: Fund) -> None:
    fund.called()
    assert fund.take(date(2025, 1, 31)) == 3
    found = fund.tenant.fetch(
        "SELECT DISTINCT c.reason, c.actor_kind, h.from_status, h.to_status FROM system.history h "
        "JOIN system.changes c ON c.id = h.change_id JOIN ledgers.capital_calls__capital_call t ON t.id = h.row_id "
        "WHERE t.entity_id = %s AND h.to_status = 'DEFAULTED'",
        fund.entity,
    )
    assert found == [("not paid when the days of grace were over, as of 2025-01-31", "run", "AWAITING_BANK", "DEFAULTED")]


def test_two_runs_at_once_take_each_step_once(fund: Fund) -> None:
    fund.called()
    handle = fund.run(JANUARY).handle(fund.kinds["capital_call"])

    async def both() -> list[int]:
        async with TenantDatabase(fund.tenant.credentials.app) as other:
            rival = type(handle)(handle.kind, entity_id=fund.entity, task_id=uuid4(), database=other)
            day = date(2025, 1, 31)
            return await asyncio.gather(
                *(take_due_steps(each, fund.runbook.rules, period=JANUARY, day=day) for each in (handle, rival))
            )

    assert sum(fund.await_(both())) == 3
    ((steps,),) = fund.tenant.fetch(
        "SELECT count(*) FROM system.history h JOIN ledgers.capital_calls__capital_call t ON t.id = h.row_id "
        "WHERE t.entity_id = %s AND h.to_status = 'DEFAULTED'",
        fund.entity,
    )
    assert steps == 3


def test_people_may_take_the_steps_too_and_a_run_may_not_undo_them(fund: Fund) -> None:
    fund.called()
    (first, *_) = fund.rows("capital_call")
    assert fund.decide("capital_call", "confirm_payment", ids=[first.id]) == 1
    assert fund.take(date(2025, 1, 31)) == 2
    handle = fund.run(JANUARY).handle(fund.kinds["capital_call"])

    async def undo() -> None:
        async with handle.database.transaction():
            await handle.database.execute(
                "UPDATE ledgers.capital_calls__capital_call SET status = 'DEFAULTED' WHERE id = %s", [first.id]
            )

    with pytest.raises(RefusedByDatabaseError) as refused:
        fund.await_(undo())
    assert refused.value.code == "ROW_IS_FINAL"


def test_a_run_of_dagsters_takes_what_is_due(fund: Fund, monkeypatch: pytest.MonkeyPatch) -> None:
    fund.called()
    monkeypatch.setenv("NTRO_PLATFORM_URL", fund.tenant.credentials.app)
    decisions = decisions_asset(fund.kinds["capital_call"], fund.runbook.rules)
    with DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("acme__entities", [fund.slug])
        for _ in range(2):
            ran = materialize([decisions], partition_key=partition_key(fund.slug, JANUARY), instance=instance)
            counts = ran.asset_materializations_for_node(decisions.op.name)[0].metadata
            assert {name: counts[name].value for name in ("DEFAULTED", "AWAITING_BANK", "signals")} == {
                "DEFAULTED": 3,
                "AWAITING_BANK": 0,
                "signals": 0,
            }
    ((reason,),) = fund.tenant.fetch(
        "SELECT DISTINCT c.reason FROM system.history h JOIN system.changes c ON c.id = h.change_id "
        "JOIN ledgers.capital_calls__capital_call t ON t.id = h.row_id WHERE t.entity_id = %s AND h.to_status = 'DEFAULTED'",
        fund.entity,
    )
    assert reason == f"not paid when the days of grace were over, as of {datetime.now(UTC).date()}"


def test_the_day_is_that_of_the_runs_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    with DagsterInstance.ephemeral() as instance:
        run = create_run_for_test(instance, job_name="month_end")
        assert as_of(instance, run.run_id) == datetime.now(UTC).date()
        with pytest.raises(RunUnknownError):
            as_of(instance, str(uuid4()))


def test_a_rule_names_a_step_that_a_run_may_take(fund: Fund) -> None:
    assert [(due.rule.source, due.rule.target) for due in fund.runbook.rules] == [
        ("AWAITING_BANK", "PAID"),
        ("AWAITING_BANK", "DEFAULTED"),
    ]
    assert all(isinstance(due, DueRule) and isinstance(fund.entity, UUID) for due in fund.runbook.rules)

"""Every published return at hand through a tenant: documents, records, expenses, people's decisions, and all of it again."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import pytest
from published import CATALOGUE_FILES, FEWEST_CERTAIN, SimpleRow, explained, folder, index_of, simple_rows
from published_tenant import MonthEnd, Return, published_returns

from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import trial_balance
from ntro_dagster.ingest.outcome import IngestStatus
from ntro_dagster.ingest.returns import FindingCode, Layout, read_expense
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.orchestration.assets import SubledgerAsset
from ntro_dagster.orchestration.context import RunbookContext
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.registry import subledger_type
from ntro_dagster.subledger.review import apply_signals, file_signal
from ntro_dagster.subledger.staging import Payload

RETURNS = 285 + 3 + 2
DATA_ROWS = 96_265 + 8_223 + 146
CATALOGUE_ROWS = 8
WITHOUT_ENTITY = 33
"""Records without a body in returns that name one on other rows: totals, notes, a repeated header, and fourteen payments."""

ROWS = "ledgers.expenses e ON e.source_ref = 'doc:' || r.document_id || '#L' || r.line"
RECORDS_AND_ROWS = f"ingest.submitted_records r JOIN {ROWS}"


@pytest.fixture(scope="module")
def tenant(
    make_database: Callable[[], DatabaseCredentials], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], MonthEnd]]:
    """Makes tenants without documents."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NTRO_SALT", "5a17")
        yield lambda: MonthEnd(make_database(), DocumentStore(tmp_path_factory.mktemp("documents")))


@pytest.fixture(scope="module")
def month_end(tenant: Callable[[], MonthEnd]) -> MonthEnd:
    """All returns, filed and staged once for the tests of this module, which leave it as it is."""
    everything = tenant()
    asyncio.run(everything.file(published_returns()))
    asyncio.run(everything.stage())
    return everything


@cache
def rows_of(each: Return) -> dict[int, SimpleRow]:
    """The data rows by line, by the second reading."""
    return {row.line: row for row in simple_rows(each.path, index_of(each.dataset)[each.name])}


def delimited(month_end: MonthEnd) -> list[Return]:
    return [each for each in month_end.outcomes if each.path.suffix != ".json"]


def by_document(month_end: MonthEnd, query: str) -> dict[UUID, list[tuple[Any, ...]]]:
    """Rows of a query by their first column."""
    found: dict[UUID, list[tuple[Any, ...]]] = defaultdict(list)
    for document, *row in month_end.stream(query):
        found[document].append(tuple(row))
    return found


def test_the_catalogue_files_are_refused_by_name(month_end: MonthEnd) -> None:
    assert sorted(each.name for each in month_end.refused) == CATALOGUE_FILES
    for each, error in month_end.refused.items():
        assert error.code == "DOCUMENT_NOT_A_RETURN"
        assert each.path.name in error.explain()
        assert not month_end.fetch("SELECT FROM ingest.submitted_documents WHERE name = %s", each.path.name)


def test_every_data_row_of_every_file_is_a_record_exactly_once(month_end: MonthEnd) -> None:
    assert len(month_end.outcomes) + len(month_end.refused) == RETURNS
    records = by_document(month_end, "SELECT document_id, line, raw FROM ingest.submitted_records")
    assert month_end.fetch("SELECT count(*) FROM ingest.submitted_documents") == [(len(month_end.outcomes),)]
    empty = {month_end.document(each) for each, outcome in month_end.outcomes.items() if outcome.status is IngestStatus.EMPTY}
    assert records.keys() == {month_end.document(each) for each in month_end.outcomes} - empty
    for each in delimited(month_end):
        rows, stored = rows_of(each), records.get(month_end.document(each), [])
        assert len(rows) == len(stored) == int(index_of(each.dataset)[each.name]["data_rows"]), each.name
        assert {line for line, _ in stored} == rows.keys(), each.name
        for line, raw in stored:
            assert sorted(filter(str.strip, raw.values())) == sorted(filter(str.strip, rows[line].cells)), (each.name, line)
    assert sum(map(len, records.values())) == DATA_ROWS - CATALOGUE_ROWS


def test_every_record_is_a_row_or_says_why_not(month_end: MonthEnd) -> None:
    kinds = month_end.fetch(
        f"""
        SELECT r.entity_id IS NULL, e.id IS NULL,
               e.id IS NULL OR (e.entity_id, e.period, e.event_id) = (r.entity_id, r.period, r.id),
               e.status,
               e.status = 'NEEDS_ATTENTION' AND jsonb_array_length(e.validation_errors) > 0 AND e.raw_payload = r.raw,
               r.findings #>> '{{0,code}}',
               count(*)
          FROM ingest.submitted_records r LEFT JOIN {ROWS} GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 7"""
    )
    homeless, doubtful, certain = kinds
    assert homeless == (True, True, True, None, None, "ENTITY_MISSING", WITHOUT_ENTITY)
    assert doubtful[:-1] == (False, False, True, "NEEDS_ATTENTION", True, None)
    assert certain[:-1] == (False, False, True, "PENDING", False, None)
    assert month_end.fetch("SELECT count(*) FROM ledgers.expenses") == [(doubtful[-1] + certain[-1],)], "and no other row"


def test_records_without_an_entity_name_none(month_end: MonthEnd) -> None:
    for raw, layout in month_end.stream(
        "SELECT r.raw, d.layout FROM ingest.submitted_records r JOIN ingest.submitted_documents d ON d.id = r.document_id "
        "WHERE r.entity_id IS NULL"
    ):
        heading = layout["mapping"]["entity"]
        assert raw.get(heading, "").strip() in {"", heading}


def readable_totals(month_end: MonthEnd) -> Mapping[UUID, Decimal]:
    """Per document, what its payments come to: rows of the ledger, and records that have no entity yet."""
    totals: dict[UUID, Decimal] = defaultdict(Decimal)
    totals |= dict(
        month_end.fetch(
            f"SELECT r.document_id, sum(e.amount_gross) FROM {RECORDS_AND_ROWS} "
            'WHERE e.amount_gross IS NOT NULL AND NOT coalesce(e.validation_errors @> \'[{"code": "NOT_A_PAYMENT"}]\', FALSE) '
            "GROUP BY 1"
        )
    )
    for document, raw, layout in month_end.stream(
        "SELECT d.id, r.raw, d.layout FROM ingest.submitted_records r JOIN ingest.submitted_documents d ON d.id = r.document_id "
        "WHERE r.entity_id IS NULL"
    ):
        reading = read_expense(raw, Layout.from_dict(layout), currency="GBP")
        amount = reading.payload["amount_gross"]
        if isinstance(amount, Decimal) and FindingCode.NOT_A_PAYMENT not in {finding.code for finding in reading.findings}:
            totals[document] += amount
    return totals


def test_every_file_adds_up_to_its_control_total_or_the_difference_is_explained(month_end: MonthEnd) -> None:
    totals = readable_totals(month_end)
    known = {(name, Decimal(expected)): Decimal(ours) for name, what, expected, ours in explained() if what == "sum"}
    differing = {}
    for each in delimited(month_end):
        expected = Decimal(index_of(each.dataset)[each.name]["sum_amount"])
        if totals.get(month_end.document(each), Decimal(0)) != expected:
            differing[each.name, expected] = totals[month_end.document(each)]
    assert differing == known


def test_json_returns_add_up_to_what_they_state(month_end: MonthEnd) -> None:
    totals = readable_totals(month_end)
    treasury = [each for each in month_end.outcomes if each.path.suffix == ".json"]
    assert len(treasury) == len(list(folder("hmt-spend-json").glob("*.json"))) == 2
    for each in treasury:
        stated = json.loads(each.path.read_text(), parse_float=Decimal)["metadata"]
        document = month_end.document(each)
        assert totals[document] == round(Decimal(stated["financial_summary"]["total_amount_gbp"]), 2)
        assert month_end.outcomes[each].parsed_rows == stated["record_counts"]["transaction_count"]
        assert month_end.fetch("SELECT findings FROM ingest.submitted_documents WHERE id = %s", document) == [([],)]


def test_no_pending_row_has_a_wrong_amount_date_or_vendor(month_end: MonthEnd) -> None:
    pending = by_document(
        month_end,
        "SELECT r.document_id, r.line, e.amount_gross, e.expense_date, e.vendor, e.currency, e.validation_errors "
        f"FROM {RECORDS_AND_ROWS} WHERE e.status = 'PENDING'",
    )
    certain: Counter[str] = Counter()
    wrong = []
    for each in delimited(month_end):
        for line, amount, day, vendor, *others in pending[month_end.document(each)]:
            certain[each.dataset] += 1
            if {"amount_gross": amount, "expense_date": day, "vendor": vendor} != rows_of(each)[line].stated or others != [
                "GBP",
                None,
            ]:
                wrong.append((each.name, line))
    assert wrong == []
    assert certain["uk-spend-25k"] >= FEWEST_CERTAIN
    assert certain["epsrc-spend"] > 7_900
    for each in set(month_end.outcomes) - set(delimited(month_end)):
        rows = json.loads(each.path.read_text(), parse_float=Decimal)["data"]
        for line, amount, day, vendor, *_ in pending[month_end.document(each)]:
            row = rows[line - 1]
            assert (amount, day.isoformat(), vendor) == (row["amount_gbp"], row["date"], " ".join(row["supplier"].split()))


def test_negative_amounts_wait_with_a_code_of_their_own(month_end: MonthEnd) -> None:
    assert not month_end.fetch("SELECT FROM ledgers.expenses WHERE amount_gross < 0 AND status <> 'NEEDS_ATTENTION'")
    coded = 'e.validation_errors @> \'[{"code": "AMOUNT_NEGATIVE", "field": "amount_gross"}]\''
    assert not month_end.fetch(
        f"SELECT FROM ledgers.expenses e WHERE (amount_gross < 0) IS DISTINCT FROM {coded} AND amount_gross < 0"
    )
    found = dict(month_end.fetch(f"SELECT r.document_id, count(*) FROM {RECORDS_AND_ROWS} WHERE {coded} GROUP BY 1"))
    for each in delimited(month_end):
        assert found.get(month_end.document(each), 0) == int(index_of(each.dataset)[each.name]["negative"]), each.name


def test_the_ledger_adds_up_in_sql_as_in_python(month_end: MonthEnd) -> None:
    sums: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
    for *key, amount in month_end.stream(
        "SELECT entity_id, period, status, currency, amount_gross FROM ledgers.expenses WHERE amount_gross IS NOT NULL"
    ):
        sums[tuple(key)] += amount
    in_sql = month_end.fetch(
        "SELECT entity_id, period, status, currency, sum(amount_gross) FROM ledgers.expenses WHERE amount_gross IS NOT NULL "
        "GROUP BY 1, 2, 3, 4"
    )
    assert {tuple(key): total for *key, total in in_sql} == sums
    assert all(total == round(total, 2) for (_, _, status, _), total in sums.items() if status == "PENDING"), "whole pennies"


@pytest.mark.long
def test_doing_everything_again_changes_nothing(month_end: MonthEnd) -> None:
    before = month_end.fingerprint()
    assert before["ingest.submitted_records"][0] == DATA_ROWS - CATALOGUE_ROWS
    again = MonthEnd(month_end.credentials, month_end.store)
    asyncio.run(again.file(published_returns()))
    assert {outcome.status for outcome in again.outcomes.values()} == {IngestStatus.DUPLICATE}
    assert again.refused.keys() == month_end.refused.keys()
    assert {each: again.document(each) for each in again.outcomes} == {
        each: month_end.document(each) for each in month_end.outcomes
    }
    staged = asyncio.run(again.stage())
    assert staged == {"inserted": 0, "updated": 0, "untouched": DATA_ROWS - CATALOGUE_ROWS - WITHOUT_ENTITY}
    assert month_end.fingerprint() == before


ANN, BOB = "user:ann", "user:bob"
OF_EACH = 40
"""Rows of the body that each kind of decision is taken over."""


async def decide(month_end: MonthEnd) -> dict[str, list[UUID]]:
    """People at work on the rows of every partition. Returns the rows they touched, by what they did."""
    kind = subledger_type("expenses")
    everyone: dict[str, list[UUID]] = {}
    rows = {
        status: [
            row for (row,) in month_end.fetch("SELECT id FROM ledgers.expenses WHERE status = %s ORDER BY md5(id::text)", status)
        ]
        for status in ("PENDING", "NEEDS_ATTENTION")
    }

    def take(status: str) -> list[UUID]:
        taken, rows[status] = rows[status][:OF_EACH], rows[status][OF_EACH:]
        return taken

    decisions: list[tuple[str, str, dict[str, Any]]] = [
        ("edit", "PENDING", {"filed_by": ANN, "reason": "wording", "values": {"notes": "as on the invoice"}}),
        ("edit", "NEEDS_ATTENTION", {"filed_by": ANN, "reason": "from the bank", "values": {"vendor": "Fern & Sons"}}),
        ("accept", "NEEDS_ATTENTION", {"filed_by": ANN, "reason": "invoice seen", "values": {
            "amount_gross": "12.50", "vendor": "Fern & Sons", "currency": "GBP", "expense_date": "2012-01-31"}}),
        ("reject", "PENDING", {"filed_by": BOB, "reason": "paid twice"}),
        ("reject", "NEEDS_ATTENTION", {"filed_by": BOB, "reason": "credit note"}),
        ("exclude", "PENDING", {"filed_by": BOB, "reason": "not ours"}),
        ("approve", "PENDING", {"filed_by": BOB}),
    ]  # fmt: skip
    async with TenantDatabase(month_end.credentials.desk) as desk:
        for signal, status, options in decisions:
            everyone[f"{signal} {status}"] = ids = take(status)
            filed = await file_signal(desk, kind, signal, ids=ids, **options)
            assert sum(each.rows for each in filed) == OF_EACH
    applied = refused = 0
    async for run in month_end.partitions():
        done = await apply_signals(run.open("expenses"), period=run.period)
        applied, refused = applied + done.applied, refused + done.refused
    assert (applied, refused) == (len(decisions) * OF_EACH, 0)
    return everyone


def read_otherwise(ledger: SubledgerAsset) -> SubledgerAsset:
    """The runbook as a later release might have it: every record is read into other notes."""

    async def author(run: RunbookContext) -> AsyncIterator[Payload]:
        async for payload in ledger.author(run):
            assert isinstance(payload, Payload)
            values = {**payload.values, "notes": "read by a later release"}
            yield Payload(values, payload.source_ref, payload.findings, payload.raw)

    return replace(ledger, author=author)


def test_running_partitions_again_touches_no_row_that_a_person_has_decided_upon(tenant: Callable[[], MonthEnd]) -> None:
    body = tenant()
    asyncio.run(body.file([each for each in published_returns() if each.name.startswith("fco/")]))
    asyncio.run(body.stage())
    everyone = asyncio.run(decide(body))
    touched = [row for rows in everyone.values() for row in rows]
    history = "SELECT * FROM system.history WHERE row_id = ANY(%s) ORDER BY change_id, row_id"
    ledger = "SELECT * FROM ledgers.expenses WHERE id = ANY(%s) ORDER BY id"
    before = (body.fetch(history, touched), body.fetch(ledger, touched))
    assert len(touched) == len(set(touched)) == 7 * OF_EACH
    by_status = Counter(row[0] for row in body.fetch("SELECT status FROM ledgers.expenses WHERE id = ANY(%s)", touched))
    assert by_status == {
        "PENDING": 2 * OF_EACH, "NEEDS_ATTENTION": OF_EACH, "REJECTED": 2 * OF_EACH, "EXCLUDED": OF_EACH, "APPROVED": OF_EACH,
    }  # fmt: skip
    staged = asyncio.run(body.stage(read_otherwise(body.expenses)))
    rows = body.fetch("SELECT count(*) FROM ledgers.expenses")[0][0]
    assert staged == {"inserted": 0, "updated": rows - len(touched), "untouched": len(touched)}
    assert (body.fetch(history, touched), body.fetch(ledger, touched)) == before
    others = body.fetch(
        "SELECT notes, count(*) FROM ledgers.expenses e JOIN system.history h ON h.row_id = e.id AND h.action = 'EDIT' "
        "WHERE e.id <> ALL(%s) GROUP BY 1",
        touched,
    )
    assert others == [("read by a later release", rows - len(touched))], "the run did write, and left its record"


def test_what_is_approved_is_posted_to_the_penny(tenant: Callable[[], MonthEnd]) -> None:
    body = tenant()

    async def months() -> Decimal:
        await body.file([each for each in published_returns() if each.name.startswith("hm-treasury/")])
        await body.stage()
        async with TenantDatabase(body.credentials.desk) as desk:
            await file_signal(desk, subledger_type("expenses"), "approve", filed_by=BOB)
        owed = Decimal(0)
        async for run in body.partitions():
            handle = run.open("expenses")
            await apply_signals(handle, period=run.period)
            for _ in range(2):
                await post_approved(handle, period=run.period, currency=run.entity.currency)
            balance = await trial_balance(run.database, entity_id=run.entity.id, period=run.period)
            assert balance.balanced
            owed += sum(line.credit for line in balance.lines if line.account_code == "2000")
        return owed

    owed = asyncio.run(months())
    posted = by_document(
        body,
        f"SELECT r.document_id, r.line FROM {RECORDS_AND_ROWS} WHERE e.status = 'POSTED'",
    )
    second = [
        rows_of(each)[line].stated["amount_gross"] for each in delimited(body) for (line,) in posted.get(body.document(each), ())
    ]
    assert len(second) > 1_200
    assert owed == sum(amount for amount in second if isinstance(amount, Decimal))

"""Payloads in, rows out: nothing lost, nothing doubled, nothing wrong let through."""

from __future__ import annotations

import asyncio
import json
import math
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from ledger_tenant import PERIOD, Tenant

from ntro_dagster.subledger import Row, SubledgerHandle
from ntro_dagster.subledger.handle import FieldUnknownError, RowElsewhereError
from ntro_dagster.subledger.staging import CHUNK, SourceRefRepeatedError, Staged

GOOD: dict[str, Any] = {"vendor": "Smith", "amount_gross": Decimal("120"), "vat_amount": Decimal("20"), "currency": "GBP"}


def payload(line: int = 1, **values: Any) -> dict[str, Any]:
    return GOOD | {"source_ref": f"doc:1#L{line}"} | values


def stage(
    tenant: Tenant, entity: UUID, payloads: Iterable[Mapping[str, Any]], *, name: str = "expenses", period: str = PERIOD
) -> Staged:
    async def run() -> Staged:
        async with tenant.database() as database:
            return await tenant.handle(entity, name=name, database=database).stage(payloads, period=period)

    return asyncio.run(run())


def rows(tenant: Tenant, entity: UUID, *, name: str = "expenses") -> list[Any]:
    async def run() -> list[Row]:
        async with tenant.database() as database:
            return await tenant.handle(entity, name=name, database=database).query()

    return asyncio.run(run())


def records(tenant: Tenant, entity: UUID) -> int:
    (count,) = tenant.fetch(
        "SELECT count(*) FROM system.history WHERE row_id IN (SELECT id FROM ledgers.expenses WHERE entity_id = %s)", entity
    )
    return int(count[0])


def codes(row: Any) -> set[tuple[str, str | None]]:
    return {(finding["code"], finding["field"]) for finding in row.validation_errors}


def restored(value: Any) -> Any:
    """The inverse of `jsonable`, for what it escapes."""
    if isinstance(value, list):
        return [restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$json" in value:
        return json.loads(value["$json"])
    if "$int" in value:
        return int(value["$int"], 16)
    if "$items" in value:
        return {restored(key): restored(item) for key, item in value["$items"]}
    return {key: restored(item) for key, item in value.items()}


def test_a_payload_that_satisfies_its_type_is_pending(tenant: Tenant, entity: UUID) -> None:
    staged = stage(tenant, entity, [payload(expense_date="2025-01-31", notes="x")])
    (row,) = rows(tenant, entity)
    assert (staged.payloads, staged.inserted, staged.needs_attention, staged.untouched) == (1, 1, 0, 0)
    assert (row.status, row.amount_gross, row.expense_date) == ("PENDING", Decimal(120), date(2025, 1, 31))
    assert (row.raw_payload, row.validation_errors, row.made_by, row.period) == (None, None, None, PERIOD)


INVALID: list[tuple[dict[str, Any], tuple[str, str | None]]] = [
    ({"vendor": None}, ("INVALID_REQUIRED_MISSING", None)),
    ({"vendor": ""}, ("INVALID_REQUIRED_MISSING", None)),
    ({"vendor": 7}, ("INVALID_STRING_TYPE", "vendor")),
    ({"amount_gross": "12,50"}, ("INVALID_DECIMAL_PARSING", "amount_gross")),
    ({"amount_gross": "0.1234567891"}, ("INVALID_DECIMAL_MAX_PLACES", "amount_gross")),
    ({"amount_gross": Decimal("0.1234567891")}, ("INVALID_DECIMAL_MAX_PLACES", "amount_gross")),
    ({"amount_gross": "1" * 30}, ("INVALID_DECIMAL_WHOLE_DIGITS", "amount_gross")),
    ({"amount_gross": "NaN"}, ("INVALID_FINITE_NUMBER", "amount_gross")),
    ({"amount_gross": Decimal("sNaN")}, ("INVALID_FINITE_NUMBER", "amount_gross")),
    ({"amount_gross": "Infinity"}, ("INVALID_FINITE_NUMBER", "amount_gross")),
    ({"amount_gross": math.inf}, ("INVALID_FLOAT_AS_MONEY", "amount_gross")),
    ({"amount_gross": -5}, ("INVALID_AMOUNT_NOT_POSITIVE", None)),
    ({"vat_amount": 121}, ("INVALID_VAT_OUT_OF_RANGE", None)),
    ({"currency": "pounds"}, ("INVALID_STRING_PATTERN_MISMATCH", "currency")),
    ({"expense_date": "31/01/2025"}, ("INVALID_DATE_FROM_DATETIME_PARSING", "expense_date")),
    ({"confidence": 2}, ("INVALID_LESS_THAN_EQUAL", "confidence")),
    ({"event_id": "x"}, ("INVALID_UUID_PARSING", "event_id")),
    ({"invoice": "x"}, ("FIELD_UNKNOWN", "invoice")),
    ({"status": "APPROVED"}, ("FIELD_UNKNOWN", "status")),
    ({"status": "NEEDS_ATTENTION", "vendor": None}, ("FIELD_UNKNOWN", "status")),
    ({"approved_by": "user:boss"}, ("FIELD_UNKNOWN", "approved_by")),
    ({"posted_to_gl": True}, ("FIELD_UNKNOWN", "posted_to_gl")),
    ({"id": "00000000-0000-0000-0000-000000000000"}, ("FIELD_UNKNOWN", "id")),
    ({"vendor": "a\0b"}, ("TEXT_NOT_STORABLE", "vendor")),
    ({"vendor": "a\ud800b"}, ("TEXT_NOT_STORABLE", "vendor")),
    ({"line_items": [{"text": "a\0b"}]}, ("TEXT_NOT_STORABLE", "line_items")),
    ({"line_items": [{"text": "\udfff"}]}, ("TEXT_NOT_STORABLE", "line_items")),
    ({"line_items": [{"price": math.inf}]}, ("TEXT_NOT_STORABLE", "line_items")),
    ({"line_items": [{"price": 10**5000}]}, ("TEXT_NOT_STORABLE", "line_items")),
    ({"amount_gross": 10**40}, ("INVALID_DECIMAL_MAX_DIGITS", "amount_gross")),
    ({"amount_gross": 10**5000}, ("INVALID_DECIMAL_MAX_DIGITS", "amount_gross")),
    ({"notes": {"a": [1, {"b\0": "c"}]}}, ("INVALID_STRING_TYPE", "notes")),
]


@pytest.mark.parametrize(
    ("broken", "code"), INVALID, ids=[f"{number}-{code[0]}-{code[1]}" for number, (_, code) in enumerate(INVALID)]
)
def test_one_that_does_not_waits_for_a_person_with_its_raw_and_without_stopping_the_others(
    tenant: Tenant, entity: UUID, broken: dict[str, Any], code: tuple[str, str | None]
) -> None:
    staged = stage(tenant, entity, [payload(1), payload(2, **broken), payload(3)])
    before, row, after = sorted(rows(tenant, entity), key=lambda row: row.source_ref)
    assert (staged.inserted, staged.needs_attention) == (3, 1)
    assert (before.status, row.status, after.status) == ("PENDING", "NEEDS_ATTENTION", "PENDING")
    assert code in codes(row)
    assert staged.codes[code[0]] == 1
    raw = restored(row.raw_payload)
    assert raw.keys() == {*GOOD, *broken}
    for name, value in broken.items():
        assert raw[name] == (str(value) if isinstance(value, Decimal) else value), name
    # what stands on its own is filled in, so that a person repairs one field and not all
    assert row.vendor == ("Smith" if "vendor" not in broken else row.vendor)
    assert row.currency == ("GBP" if "currency" not in broken else row.currency)
    assert row.approved_by is None


def test_the_raw_may_be_given_beside_the_values(tenant: Tenant, entity: UUID) -> None:
    raw = {"Betrag": "x\0y", "n": math.inf, "blob": b"\xff", "when": date(2025, 1, 1), "$json": 1, "k\0": {"$items": 2}, "s": {1}}
    stage(tenant, entity, [payload(amount_gross="?", raw=raw)])
    (row,) = rows(tenant, entity)
    kept = restored(row.raw_payload)
    assert kept["blob"] == {"$base64": "/w=="}
    assert kept | {"blob": b"\xff"} == raw | {"when": "2025-01-01", "s": [1]}


def test_a_payload_nested_beyond_reason_does_not_stop_the_batch(tenant: Tenant, entity: UUID) -> None:
    nested: Any = []
    for _ in range(5000):
        nested = [nested]
    assert stage(tenant, entity, [payload(1, vendor=None, raw={"x": nested}), payload(2)]).inserted == 2


def test_a_source_that_cannot_be_written_down_is_escaped(tenant: Tenant, entity: UUID) -> None:
    staged = stage(tenant, entity, [payload() | {"source_ref": "doc:\0\ud800"}])
    (row,) = rows(tenant, entity)
    assert staged.inserted == 1
    assert row.source_ref == "doc:\\x00\\ud800"
    assert ("TEXT_NOT_STORABLE", "source_ref") in codes(row)


def test_findings_send_a_row_to_a_person_even_if_it_satisfies_its_type(tenant: Tenant, entity: UUID) -> None:
    doubt = {"code": "VENDOR_GUESSED", "field": "vendor", "message": "read from a stamp\0"}
    staged = stage(tenant, entity, [payload(findings=[doubt])])
    (row,) = rows(tenant, entity)
    assert (row.status, row.vendor, staged.codes) == ("NEEDS_ATTENTION", "Smith", {"VENDOR_GUESSED": 1})
    assert restored(row.validation_errors) == [doubt]


def test_a_check_that_crashes_is_a_finding(tenant: Tenant, entity: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of an author's that does not cope with one value; as it happens, with an amount of nothing."""
    model = tenant.handle(entity).kind.model
    validate = model.model_validate

    def crashes(values: dict[str, Any]) -> Row:
        if values.get("amount_gross") == "":
            raise ZeroDivisionError("secret 42")
        return validate(values)

    monkeypatch.setattr(model, "model_validate", crashes)
    staged = stage(tenant, entity, [payload(1, amount_gross=""), payload(2)])
    assert (staged.inserted, staged.codes) == (2, {"VALIDATION_CRASHED": 1})
    broken, good = rows(tenant, entity)
    assert (broken.status, broken.raw_payload["amount_gross"], good.status) == ("NEEDS_ATTENTION", "", "PENDING")
    assert "secret" not in str(broken.validation_errors)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"lines": [{"account_code": "1", "debit": "1"}, {"account_code": "2", "credit": "2"}]}, "INVALID_UNBALANCED"),
        ({"lines": [{"account_code": "1", "debit": "0.0000000001"}] * 2}, "INVALID_LINES_NOT_POSTABLE"),
        ({"lines": [{"account_code": 5, "debit": "1"}, {"account_code": "2", "credit": "1"}]}, "INVALID_LINES_NOT_POSTABLE"),
        ({"lines": [{"account_code": "1", "debit": "Infinity"}] * 2}, "INVALID_LINE_AMOUNT_UNREADABLE"),
        (
            {"lines": [{"account_code": "1", "debit": "9" * 29}, {"account_code": "2", "credit": "9" * 29 + ".1"}]},
            "INVALID_UNBALANCED",
        ),
        ({"posting_date": "2025-02-01"}, "INVALID_POSTING_DATE_OUTSIDE_PERIOD"),
    ],
)
def test_a_journal_that_could_not_be_posted_is_not_pending(
    tenant: Tenant, entity: UUID, change: dict[str, Any], code: str
) -> None:
    lines = [{"account_code": "2000", "debit": "1"}, {"account_code": "2000", "credit": "1"}]
    stage(tenant, entity, [{"source_ref": "a", "lines": lines} | change], name="journal_proposals")
    (row,) = rows(tenant, entity, name="journal_proposals")
    assert (row.status, {found for found, _ in codes(row)}) == ("NEEDS_ATTENTION", {code})


@pytest.mark.parametrize("amount", ["0.000000001", "99999999999999999999999999999.999999999", "1E+5", "120.0000000000000"])
def test_an_amount_comes_back_exactly(tenant: Tenant, entity: UUID, amount: str) -> None:
    stage(tenant, entity, [payload(amount_gross=amount, vat_amount=None)])
    (row,) = rows(tenant, entity)
    assert (row.status, row.amount_gross) == ("PENDING", Decimal(amount))


# Again


def test_staging_again_changes_nothing_and_records_nothing(tenant: Tenant, entity: UUID) -> None:
    batch = [payload(line, amount_gross=line) for line in range(20, 30)] + [payload(40, vendor=None), payload(41, oops="\0")]
    stage(tenant, entity, batch)
    before, recorded = rows(tenant, entity), records(tenant, entity)
    again = stage(tenant, entity, batch)
    assert (again.inserted, again.updated, again.untouched) == (0, 0, len(batch))
    assert rows(tenant, entity) == before
    assert records(tenant, entity) == recorded == len(batch)


def test_a_better_reading_updates_a_row_that_no_person_has_touched(tenant: Tenant, entity: UUID) -> None:
    stage(tenant, entity, [payload(1, vendor=None), payload(2), payload(3, vendor=None)])
    staged = stage(tenant, entity, [payload(1), payload(2, amount_gross=130), payload(3, vendor=None, amount_gross=7)])
    first, second, third = rows(tenant, entity)
    assert (staged.inserted, staged.updated) == (0, 3)
    assert (first.status, first.vendor, first.validation_errors) == ("PENDING", "Smith", None)
    assert (second.status, second.amount_gross) == ("PENDING", Decimal(130))
    assert (third.status, third.amount_gross) == ("NEEDS_ATTENTION", Decimal(7))


def test_a_doubt_is_put_beside_a_pending_row_whose_content_stays(tenant: Tenant, entity: UUID) -> None:
    stage(tenant, entity, [payload()])
    for _ in range(2):
        stage(tenant, entity, [payload(amount_gross="999", vendor=None)])
    (row,) = rows(tenant, entity)
    assert (row.status, row.amount_gross, row.vendor) == ("PENDING", Decimal(120), "Smith")
    assert ("INVALID_REQUIRED_MISSING", None) in codes(row)
    assert records(tenant, entity) == 2
    stage(tenant, entity, [payload()])
    assert rows(tenant, entity)[0].validation_errors is None


@pytest.mark.parametrize("decision", ["edit", "accept", "approve", "reject", "exclude", "post"])
@pytest.mark.parametrize("reading", [{"amount_gross": 999}, {"vendor": None}], ids=["better", "worse"])
def test_what_a_person_touched_is_left_alone(tenant: Tenant, entity: UUID, decision: str, reading: dict[str, Any]) -> None:
    stage(tenant, entity, [payload(vendor=None) if decision == "accept" else payload()])
    (row,) = rows(tenant, entity)
    if decision in {"edit", "accept"}:
        signal = tenant.file(decision, [row.id], by="user:ann")
        with tenant.connect("app") as app:
            app.execute("SELECT set_config('ntro.signal_id', %s, TRUE)", [str(signal)])
            moved = ", status = 'PENDING', validation_errors = NULL" if decision == "accept" else ""
            app.execute(f"UPDATE ledgers.expenses SET vendor = 'Ann', made_by = 'user:ann'{moved} WHERE id = %s", [row.id])
    else:
        tenant.decide("approve" if decision == "post" else decision, row.id)
        if decision == "post":
            tenant.post(entity, row.id)
    before, recorded = rows(tenant, entity), records(tenant, entity)
    assert stage(tenant, entity, [payload(**reading)]).untouched == 1
    assert rows(tenant, entity) == before
    assert records(tenant, entity) == recorded


# One source twice


@pytest.mark.parametrize("apart", [1, CHUNK], ids=["in one chunk", "across chunks"])
def test_the_same_payload_twice_is_one_row(tenant: Tenant, entity: UUID, apart: int) -> None:
    batch = [payload(line) for line in range(apart)] + [payload(0)]
    staged = stage(tenant, entity, batch)
    assert (staged.inserted, staged.updated, staged.untouched) == (apart, 0, 1)
    assert records(tenant, entity) == apart


@pytest.mark.parametrize("apart", [1, CHUNK], ids=["in one chunk", "across chunks"])
@pytest.mark.parametrize("second", [{"amount_gross": 7}, {"vendor": None}], ids=["other content", "broken"])
def test_two_payloads_of_one_source_that_differ_are_refused_not_merged(
    tenant: Tenant, entity: UUID, second: dict[str, Any], apart: int
) -> None:
    batch = [payload(line) for line in range(apart)] + [payload(0, **second)]
    with pytest.raises(SourceRefRepeatedError) as refused:
        stage(tenant, entity, batch)
    assert refused.value.values == {"source_ref": "doc:1#L0"}
    assert rows(tenant, entity) == []


def test_one_source_makes_one_row_per_entity_and_period(tenant: Tenant, entity: UUID) -> None:
    other = tenant.new_entity()
    for target, period in ((entity, PERIOD), (entity, "2025-02"), (other, PERIOD)):
        assert stage(tenant, target, [payload()], period=period).inserted == 1


# Size and failure


def test_memory_stays_flat(tenant: Tenant, entity: UUID) -> None:
    def peak(count: int, period: str) -> int:
        tracemalloc.start()
        stage(tenant, entity, (payload(line) for line in range(count)), period=period)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(CHUNK, "2024-01")
    small, large = peak(2 * CHUNK, "2024-02"), peak(8 * CHUNK, "2024-03")
    assert large < small * 1.25


@pytest.mark.long
def test_memory_stays_flat_for_a_large_file(tenant: Tenant, entity: UUID) -> None:
    tracemalloc.start()
    assert stage(tenant, entity, (payload(line) for line in range(200_000))).inserted == 200_000
    _, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert highest < 150 * 2**20


@pytest.mark.parametrize("after", [1, CHUNK - 1, CHUNK + 1, 2 * CHUNK])
def test_payloads_that_fail_on_the_way_leave_nothing(tenant: Tenant, entity: UUID, after: int) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        for line in range(after):
            yield payload(line)
        raise OSError("the document ended early")

    async def run() -> Staged:
        async with tenant.database() as database:
            handle: SubledgerHandle = tenant.handle(entity, database=database)
            with pytest.raises(OSError, match="ended early"):
                await handle.stage(broken(), period=PERIOD)
            return await handle.stage([payload(1)], period=PERIOD)  # the connection is fit for the next batch

    assert asyncio.run(run()).inserted == 1
    assert len(rows(tenant, entity)) == 1
    assert records(tenant, entity) == 1


def test_rows_given_complete_keep_their_ids(tenant: Tenant, entity: UUID) -> None:
    async def run() -> tuple[int, int, UUID]:
        async with tenant.database() as database:
            handle = tenant.handle(entity, database=database)
            row = handle.kind.model.model_validate(
                GOOD | {"id": uuid4(), "entity_id": entity, "period": PERIOD, "task_id": uuid4()}
            )
            return await handle.insert(row), await handle.insert([row]), (await handle.get(row.id)).id

    inserted, again, found = asyncio.run(run())
    assert (inserted, again) == (1, 0)
    assert found == rows(tenant, entity)[0].id


def test_rows_of_another_entity_are_not_stored(tenant: Tenant, entity: UUID) -> None:
    async def run() -> None:
        async with tenant.database() as database:
            handle = tenant.handle(entity, database=database)
            mine, other = (
                handle.kind.model.model_validate(GOOD | {"id": uuid4(), "entity_id": owner, "period": PERIOD, "task_id": uuid4()})
                for owner in (entity, tenant.new_entity())
            )
            await handle.insert([mine, other])

    with pytest.raises(RowElsewhereError):
        asyncio.run(run())
    assert rows(tenant, entity) == []


def test_only_content_fields_are_set(tenant: Tenant, entity: UUID) -> None:
    async def run() -> None:
        async with tenant.database() as database:
            await tenant.handle(entity, database=database).edit([tenant.new_row(entity)], {"approved_by": "user:boss"})

    with pytest.raises(FieldUnknownError):
        asyncio.run(run())

"""What a member is told of first signatures, of what was taken back, and of a month before it is posted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import PERIOD

from ntro_dagster.desk.row_models import RowModels, ValuesNotCheckedError


def slug_of(desk: DeskAtWork, entity: UUID) -> str:
    with psycopg.connect(desk.tenant.credentials.owner) as owner:
        found = owner.execute("SELECT slug FROM system.entities WHERE id = %s", [entity]).fetchone()
    assert found
    return str(found[0])


def limit(desk: DeskAtWork, amount: int | None) -> None:
    with psycopg.connect(desk.tenant.credentials.owner) as owner:
        owner.execute(
            "INSERT INTO system.approval_limit_changes (currency, amount, recorded_by) VALUES ('GBP', %s, 'test')", [amount]
        )


@pytest.fixture
def two_above_a_pound(desk: DeskAtWork) -> Iterator[None]:
    limit(desk, 1)
    yield
    limit(desk, None)


@pytest.mark.usefixtures("two_above_a_pound")
def test_who_has_signed_is_not_asked_again(desk: DeskAtWork, ann: Browser, bob: Browser, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    of = f"?entity={slug_of(desk, entity)}"
    (signal,) = ann.decide("approve", [row]).json()["signals"]
    desk.apply(entity)
    (shown,) = ann.post("/v1/subledgers/expenses/rows", {"ids": [str(row)]}).json()["rows"]
    assert (shown["status"], shown["signed_by"]) == ("PENDING", ["user:ann"])
    assert ann.ids(f"{of}&group=ready") == []
    assert ann.ids(f"{of}&group=waiting") == bob.ids(f"{of}&group=ready") == [row]
    assert "signed, a second approver is needed" in ann.get("/").text
    (became,) = ann.get(f"/v1/signals?ids={signal['id']}").json()
    assert (became["signed"], became["refused"]) == (1, [])


def test_what_was_taken_back_is_no_refusal(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    row = desk.tenant.new_row(entity)
    (signal,) = ann.decide("approve", [row]).json()["signals"]
    assert ann.post(f"/v1/signals/{signal['id']}/withdraw").status_code == 200
    (became,) = ann.get(f"/v1/signals?ids={signal['id']}").json()
    assert became["refused"] == []
    assert became["withdrawn_at"]
    assert "1 taken back" in ann.get("/").text


def test_the_books_if_all_were_approved(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    desk.tenant.new_row(entity)
    desk.tenant.new_row(entity, status="NEEDS_ATTENTION")
    part = ann.get(f"/entities/{slug_of(desk, entity)}/periods/{PERIOD}/tie-out").text
    assert "1 open rows" in part
    assert "1 in doubt move nothing yet" in part
    assert "debit = credit" in part
    stranger = Browser(desk.url, desk.host)
    refused = stranger.get(f"/entities/{slug_of(desk, entity)}/periods/{PERIOD}/tie-out", headers={"HX-Request": "true"})
    assert (refused.status_code, refused.headers["HX-Redirect"]) == (401, "/login")


def test_an_answer_that_nobody_read_is_not_for_who_asks_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer is longer than the pipe allows; the process is another one for the next question."""
    row = {
        "id": str(uuid4()),
        "entity_id": str(uuid4()),
        "task_id": str(uuid4()),
        "period": PERIOD,
        "vendor": "A",
        "currency": "GBP",
    }

    async def ask() -> None:
        models = RowModels()
        monkeypatch.setattr("ntro_dagster.desk.row_models.LONGEST_ANSWER", 64)
        try:
            with pytest.raises(ValuesNotCheckedError):
                await models.errors(
                    "expenses", row, {"amount_gross": "many", "vat_amount": "much", "currency": "pounds"}, "PENDING"
                )
            monkeypatch.setattr("ntro_dagster.desk.row_models.LONGEST_ANSWER", 1 << 20)
            lines, unable = await models.movements(
                "expenses",
                [row | {"amount_gross": "5", "expense_date": "2026-03-01"}],
                "GBP",
                {"CREDITORS": "2000", "SUSPENSE": "5999"},
            )
            assert (sum((line.debit for line in lines), Decimal(0)), unable) == (Decimal(5), 0)
        finally:
            await models.close()

    asyncio.run(ask())

"""The board shows a page of entities, however many there are, and the months that have work."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from desk_at_work import Browser, DeskAtWork

from ntro_dagster.desk import month
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import subledger_type

MONTHS = ("2001-03", "2001-04", "2001-06")


@pytest.fixture
def entities(desk: DeskAtWork) -> list[UUID]:
    """One whose months are drawn up, one with a row left, one without work; all with the same word in their name."""
    made = [desk.tenant.new_entity() for _ in range(3)]
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.entities SET name = name || ' ' || %s WHERE id = ANY(%s)", [made[0].hex, made])
    for period in MONTHS:
        desk.tenant.new_row(made[0], period=period)
    desk.tenant.new_row(made[1], period=MONTHS[-1])
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.partition_activity SET closed_change = last_change WHERE entity_id = %s", [made[0]])
    return made


def board(desk: DeskAtWork, **asked: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        async with desk.tenant.database("desk") as database:
            described = TypeDescription.of(subledger_type("expenses"))
            return await month.board(database, {"expenses": described}, MONTHS[-1], **asked)

    return asyncio.run(run())


def slugs(desk: DeskAtWork, *entities: UUID) -> list[str]:
    return sorted(desk.slug(each) for each in entities)


def test_the_months_are_the_last_ones_with_work(desk: DeskAtWork, entities: list[UUID]) -> None:
    found = board(desk, find=entities[0].hex)
    assert found["periods"][-3:] == list(MONTHS)
    states = {row["slug"]: [cell and cell["state"] for cell in row["cells"]][-3:] for row in found["entities"]}
    done, left, none = (desk.slug(each) for each in entities)
    assert states == {done: ["READY", "READY", "READY"], left: [None, None, "OPEN"], none: [None, None, None]}


def test_pages_hold_every_entity_once(desk: DeskAtWork, entities: list[UUID], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(month, "ENTITIES", 2)
    one, two = (board(desk, find=entities[0].hex, page=page) for page in (1, 2))
    assert [row["slug"] for row in (*one["entities"], *two["entities"])] == slugs(desk, *entities)
    assert [(page["first"], page["found"], page["more"]) for page in (one, two)] == [(1, 3, True), (3, 3, False)]


def test_what_is_left_to_do_can_be_asked_for(desk: DeskAtWork, entities: list[UUID]) -> None:
    found = board(desk, find=entities[0].hex.upper(), unfinished=True)
    assert [row["slug"] for row in found["entities"]] == slugs(desk, entities[1])


def test_the_page_finds_and_leads_on(ann: Browser, desk: DeskAtWork, entities: list[UUID]) -> None:
    told = ann.get(f"/board?until={MONTHS[-1]}&find={entities[0].hex}&unfinished=true").text
    assert desk.slug(entities[1]) in told
    assert desk.slug(entities[0]) not in told
    assert "No entity is like that" in ann.get(f"/board?until={MONTHS[-1]}&find=nobody+at+all").text
    assert ann.get("/board?page=0").status_code == 422

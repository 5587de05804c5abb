"""A month is closed and reopened at the desk: by who may, when it is ready, with what is asked for."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import PERIOD

from ntro_dagster.gl.periods import seal_closing


def where(entity: UUID) -> str:
    return f"/v1/entities/{entity}/periods/{PERIOD}"


def act(browser: Browser, entity: UUID, kind: str, reason: str = "because") -> requests.Response:
    return browser.post(f"{where(entity)}/acts", {"act": kind, "reason": reason})


def standing(browser: Browser, entity: UUID) -> dict[str, Any]:
    answer = browser.get(where(entity))
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def seal(desk: DeskAtWork, entity: UUID) -> None:
    async def run() -> bool:
        async with desk.tenant.database() as database:
            return await seal_closing(database, entity_id=entity, period=PERIOD, run_id=uuid4())

    assert asyncio.run(run())


def test_a_month_is_closed_sealed_and_reopened_by_two(desk: DeskAtWork, ann: Browser, bob: Browser, entity: UUID) -> None:
    desk.tenant.row_in("POSTED", entity)
    assert standing(ann, entity)["ready"]
    assert act(ann, entity, "CLOSE").json()["status"] == "CLOSING"
    seal(desk, entity)
    closed = standing(bob, entity)
    assert (closed["status"], closed["seal"]["journals"], closed["seal"]["holds"]) == ("CLOSED", 1, True)
    assert act(ann, entity, "ASK_REOPEN").json()["reopening_asked_by"] == "user:ann"
    assert act(ann, entity, "REOPEN").json()["error"] == "MAKER_IS_NOT_CHECKER"
    assert act(bob, entity, "REOPEN").json()["status"] == "OPEN"


def test_what_is_not_ready_says_what_is_left(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    desk.tenant.row_in("PENDING", entity)
    refused = act(ann, entity, "CLOSE")
    assert (refused.status_code, refused.json()["error"]) == (409, "PERIOD_NOT_READY")
    assert "every row is decided and posted" in refused.json()["message"]
    (finding,) = standing(ann, entity)["findings"]
    assert (finding["code"], finding["things"], finding["answerable"]) == ("ROWS_STILL_OPEN", 1, False)


@pytest.mark.parametrize(("who", "status"), [("pat", 403), ("eve", 403)])
def test_who_may_not_close(desk: DeskAtWork, entity: UUID, who: str, status: int, request: pytest.FixtureRequest) -> None:
    browser: Browser = request.getfixturevalue(who)
    refused = act(browser, entity, "CLOSE")
    assert (refused.status_code, refused.json()["error"]) == (status, "ROLE_MAY_NOT")


def test_a_program_closes_nothing(desk: DeskAtWork, entity: UUID) -> None:
    refused = act(desk.program(), entity, "CLOSE")
    assert (refused.status_code, refused.json()["error"]) == (403, "ROLE_MAY_NOT")


def test_an_entity_that_is_not_here(ann: Browser) -> None:
    assert standing_code(ann, uuid4()) == 404
    assert act(ann, uuid4(), "CLOSE").status_code == 404


def standing_code(browser: Browser, entity: UUID) -> int:
    return browser.get(where(entity)).status_code


# The page's part of it


def part(browser: Browser, desk: DeskAtWork, entity: UUID) -> str:
    return browser.get(f"/entities/{desk.slug(entity)}/periods/{PERIOD}/close").text


def press(browser: Browser, desk: DeskAtWork, entity: UUID, kind: str, reason: str = "") -> str:
    page = f"{browser.url}/entities/{desk.slug(entity)}/periods/{PERIOD}/close"
    answer = browser.session.post(page, data={"act": kind, "reason": reason, "csrf": browser.csrf}, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_buttons_of_a_month(desk: DeskAtWork, ann: Browser, bob: Browser, pat: Browser, entity: UUID) -> None:
    desk.tenant.row_in("POSTED", entity)
    assert f"Close {PERIOD}" in part(ann, desk, entity)
    assert f"Close {PERIOD}" not in part(pat, desk, entity)
    closing = press(ann, desk, entity, "CLOSE")
    assert "a run is sealing it" in closing
    assert 'hx-trigger="every 2s"' in closing
    seal(desk, entity)
    sealed = part(ann, desk, entity)
    assert "the seal holds" in sealed
    sheet = ann.get(f"/entities/{desk.slug(entity)}/periods/{PERIOD}/sign-off").text
    assert f"{PERIOD} is closed" in sheet
    assert "closed by user:ann" in sheet
    assert "the seal holds" in sheet
    assert "hx-get" not in sealed
    assert f"Ask to reopen {PERIOD}" in part(pat, desk, entity)
    press(pat, desk, entity, "ASK_REOPEN", "an <b>invoice</b> came late")
    asked = part(bob, desk, entity)
    assert "an &lt;b&gt;invoice&lt;/b&gt; came late" in asked
    assert f"Reopen {PERIOD}" in asked
    assert "another approver confirms" in part(pat, desk, entity)
    assert "can be closed" in press(bob, desk, entity, "REOPEN", "agreed")


def test_a_refusal_keeps_what_was_typed(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    desk.tenant.row_in("POSTED", entity)
    press(ann, desk, entity, "CLOSE")
    refused = press(ann, desk, entity, "ASK_REOPEN", "too early")
    assert 'role="alert"' in refused
    seal(desk, entity)
    assert "a second person" not in part(ann, desk, entity)


def test_a_form_of_somebody_elses_closes_nothing(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    desk.tenant.row_in("POSTED", entity)
    page = f"{ann.url}/entities/{desk.slug(entity)}/periods/{PERIOD}/close"
    assert ann.session.post(page, data={"act": "CLOSE", "csrf": "0" * 64}, timeout=30).status_code == 403
    assert standing(ann, entity)["status"] == "OPEN"


def test_the_board_tells_posted_from_closed(desk: DeskAtWork, ann: Browser, entity: UUID) -> None:
    desk.tenant.row_in("POSTED", entity)
    slug = desk.slug(entity)
    assert act(ann, entity, "CLOSE").status_code == 200
    assert f"{slug} {PERIOD}: closed" in " ".join(ann.get(f"/board?until={PERIOD}").text.split())

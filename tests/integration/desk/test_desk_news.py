"""What has changed since a member looked: by view, for each member, and nothing of their own."""

from __future__ import annotations

from uuid import UUID, uuid4

import psycopg
import pytest
from desk_at_work import Browser, DeskAtWork
from ledger_tenant import refusal

LOOK = "/v1/subledgers/expenses/look"


def change(browser: Browser) -> int:
    return int(browser.get("/v1/subledgers/expenses/index").headers["X-Ntro-Change"])


def look(desk: DeskAtWork, browser: Browser, entity: UUID | None = None, period: str | None = None, at: int | None = None) -> int:
    view = {"entity": desk.slug(entity) if entity else None, "period": period}
    return browser.post(LOOK, {**view, "change": change(browser) if at is None else at}).status_code


def news(desk: DeskAtWork, browser: Browser, entity: UUID, **more: str) -> set[UUID]:
    query = "&".join(f"{name}={value}" for name, value in {"entity": desk.slug(entity), "group": "changed", **more}.items())
    found = set(browser.ids(f"?{query}"))
    shown = {UUID(row["id"]) for row in browser.rows(browser.ids(f"?entity={desk.slug(entity)}")) if row["changed"]}
    assert more or shown == found, "marks and filter are one"
    return found


@pytest.fixture
def fresh(desk: DeskAtWork) -> Browser:
    """A member who has never looked."""
    login = f"user:new-{uuid4().hex[:8]}"
    desk.tenant.add_members({login: "approver"})
    with desk.tenant.as_owner() as owner:
        owner.execute(
            "UPDATE system.members SET password_hash = (SELECT password_hash FROM system.members WHERE login = 'user:ann') "
            "WHERE login = %s",
            [login],
        )
    return desk.logged_in(login.removeprefix("user:"))


def test_who_never_looked_has_no_news(desk: DeskAtWork, fresh: Browser, entity: UUID) -> None:
    desk.tenant.new_row(entity)
    assert news(desk, fresh, entity) == set()


def test_new_and_changed_rows_are_news_until_the_next_look(
    desk: DeskAtWork, fresh: Browser, ann: Browser, pat: Browser, entity: UUID
) -> None:
    old, edited = desk.tenant.new_row(entity), desk.tenant.new_row(entity)
    assert look(desk, fresh, entity) == 204
    assert news(desk, fresh, entity) == set()
    new = desk.tenant.new_row(entity)
    assert pat.decide("edit", [edited], values={"notes": "x"}).status_code == 201
    assert news(desk, fresh, entity) == {new}, "what is filed has changed nothing yet"
    desk.apply(entity)
    assert news(desk, fresh, entity) == {new, edited}
    assert fresh.get(f"/v1/subledgers/expenses/groups?entity={desk.slug(entity)}").json()["changed"]["count"] == 2
    assert look(desk, fresh, entity) == 204
    assert news(desk, fresh, entity) == set()
    assert old not in news(desk, ann, entity)


def test_my_own_decisions_are_no_news_to_me(desk: DeskAtWork, fresh: Browser, ann: Browser, entity: UUID) -> None:
    mine, theirs = desk.tenant.new_row(entity), desk.tenant.new_row(entity)
    look(desk, fresh, entity)
    look(desk, ann, entity)
    assert fresh.decide("reject", [mine]).status_code == 201
    assert ann.decide("reject", [theirs]).status_code == 201
    desk.apply(entity)
    assert news(desk, fresh, entity) == {theirs}
    assert news(desk, ann, entity) == {mine}


def test_a_look_covers_the_views_within_its_own_and_no_other(desk: DeskAtWork, fresh: Browser, entity: UUID) -> None:
    other = desk.tenant.new_entity()
    look(desk, fresh)
    january, february = desk.tenant.new_row(entity), desk.tenant.new_row(entity, period="2025-02")
    elsewhere = desk.tenant.new_row(other)
    assert news(desk, fresh, entity) == {january, february}
    look(desk, fresh, entity, "2025-01")
    assert news(desk, fresh, entity) == {february}
    assert news(desk, fresh, entity, period="2025-01") == set()
    assert news(desk, fresh, entity, period="2025-02") == {february}
    assert news(desk, fresh, other) == {elsewhere}
    look(desk, fresh, entity)
    assert (news(desk, fresh, entity), news(desk, fresh, other)) == (set(), {elsewhere})
    look(desk, fresh, period="2025-01")
    assert news(desk, fresh, other) == set()


def test_a_look_goes_neither_back_nor_ahead(desk: DeskAtWork, fresh: Browser, entity: UUID) -> None:
    desk.tenant.new_row(entity)
    before = change(fresh)
    later = desk.tenant.new_row(entity)
    look(desk, fresh, entity)
    look(desk, fresh, entity, at=before)
    assert news(desk, fresh, entity) == set()
    look(desk, fresh, entity, at=2**60)
    after = desk.tenant.new_row(entity)
    assert news(desk, fresh, entity) == {after}
    assert later != after


def test_a_change_that_commits_late_is_not_passed_over(desk: DeskAtWork, fresh: Browser, entity: UUID) -> None:
    slow = desk.tenant.connect("app")
    row = desk.tenant.new_row(entity, connection=slow)
    desk.tenant.new_row(desk.tenant.new_entity())
    look(desk, fresh, entity)
    slow.commit()
    slow.close()
    assert row in news(desk, fresh, entity)


def test_a_look_long_ago_counts_no_more(desk: DeskAtWork, fresh: Browser, entity: UUID) -> None:
    look(desk, fresh, entity)
    row = desk.tenant.new_row(entity)
    assert news(desk, fresh, entity) == {row}
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.looks SET at = now() - interval '46 days' WHERE entity_id = %s", [entity])
    assert news(desk, fresh, entity) == set()


def test_news_of_all_entities(desk: DeskAtWork, fresh: Browser, entity: UUID) -> None:
    """Who looked at some of it sees what changed there; who looked at all of it sees all that changed."""

    def everywhere(**more: str) -> set[UUID]:
        return set(fresh.ids("?" + "&".join(f"{name}={value}" for name, value in {"group": "changed", **more}.items())))

    other = desk.tenant.new_entity()
    look(desk, fresh, entity, "2025-01")
    january, _ = desk.tenant.new_row(entity), desk.tenant.new_row(entity, period="2025-02")
    elsewhere = desk.tenant.new_row(other)
    assert everywhere() == everywhere(period="2025-01") == {january}
    look(desk, fresh, period="2025-01")
    later, february = desk.tenant.new_row(other), desk.tenant.new_row(other, period="2025-02")
    assert everywhere() == everywhere(period="2025-01") == {later}
    look(desk, fresh, other)
    again = desk.tenant.new_row(other, period="2025-02")
    assert everywhere() == everywhere(period="2025-02") == {again}
    look(desk, fresh)
    assert everywhere() == set()
    last = desk.tenant.new_row(entity, period="2025-03")
    assert everywhere() == everywhere(period="2025-03") == {last}
    assert not {elsewhere, february} & everywhere()


def test_views_that_are_none(desk: DeskAtWork, fresh: Browser, entity: UUID) -> None:
    for body, status in (
        ({"entity": "nobody", "change": 1}, 404),
        ({"period": "2025-13", "change": 1}, 422),
        ({"change": -1}, 422),
        ({}, 422),
    ):
        assert fresh.post(LOOK, body).status_code == status, body
    assert fresh.post("/v1/subledgers/nothing/look", {"change": 1}).status_code == 404
    with psycopg.connect(desk.tenant.credentials.desk) as sql:
        assert refusal(sql, "UPDATE system.looks SET login = 'user:ann'") == "InsufficientPrivilege"
        assert refusal(sql, "DELETE FROM system.looks") == "InsufficientPrivilege"


def test_a_filter_with_a_percent_sign_is_a_filter(ann: Browser) -> None:
    for asked in ("groups?entity=%25", "index?entity=a%25s&group=changed"):
        assert ann.get(f"/v1/subledgers/expenses/{asked}").status_code == 200

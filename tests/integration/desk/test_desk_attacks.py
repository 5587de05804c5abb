"""Attacks on a desk by who should not be at it: other sites' pages, stolen and planted sessions, guesses at the door."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest
from desk_at_work import HOST, PASSWORD, Browser, DeskAtWork
from ledger_tenant import Tenant

from ntro_dagster.bundles import platform_bundle
from ntro_dagster.desk import counter
from ntro_dagster.desk.counter import LoginsBusyError
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.deployment import deploy

ROWS = "/v1/subledgers/expenses/rows"


def error(answer: object) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]  # type: ignore[attr-defined]


def cookie(desk: DeskAtWork, value: str) -> Browser:
    """A browser with that cookie and nothing else."""
    stranger = desk.browser()
    stranger.session.headers["Cookie"] = f"ntro_desk={value}"
    return stranger


# Pages of other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{HOST}.evil.example"},
        {"Origin": f"http://{HOST}:1"},
        {"Origin": "http://other.localhost"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_decides_nothing(desk: DeskAtWork, ann: Browser, headers: dict[str, str]) -> None:
    assert error(ann.post(ROWS, {"ids": []}, headers=headers)) == (403, "CROSS_SITE")
    assert (
        desk.browser()
        .session.post(f"{desk.url}/login", data={"name": "ann", "password": PASSWORD}, headers={"Host": desk.host, **headers})
        .status_code
        == 403
    )


def test_our_own_page_may(desk: DeskAtWork, ann: Browser) -> None:
    answer = ann.post(ROWS, {"ids": []}, headers={"Origin": f"http://{desk.host}", "Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 200


@pytest.mark.parametrize("token", ["", "0" * 64, "é"])
def test_without_the_token_of_the_page_nothing_is_filed(
    desk: DeskAtWork, ann: Browser, bob: Browser, entity: UUID, token: str
) -> None:
    row = desk.tenant.new_row(entity)
    (seen,) = ann.rows([row])
    decision = {"kind": "reject", "reason": "x", "rows": [{"id": seen["id"], "digest": seen["digest"]}]}
    path = "/v1/subledgers/expenses/signals"
    for wrong in (token.encode(), bob.csrf.encode()):
        assert error(ann.post(path, decision, headers={"X-Ntro-CSRF": wrong})) == (403, "CSRF")
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = ann.session.post(
            desk.url + path, data=b'--x--\r\n{"kind": "reject"}', headers={"Content-Type": kind}, timeout=30
        )
        assert error(answer) in {(403, "CSRF"), (400, "BODY_INVALID")}
    assert ann.rows([row])[0]["waiting"] is None


def test_nothing_is_done_by_looking(desk: DeskAtWork, ann: Browser) -> None:
    """An image or a link on another site can only GET."""
    routes = desk.browser().get("/v1/openapi.json").json()["paths"]
    for path in routes:
        if "get" not in routes[path] and "{" not in path:
            assert ann.get(path).status_code == 405
    assert ann.get("/logout").status_code == 405
    assert ann.get("/v1/me").status_code == 200


# Sessions


def test_a_planted_session_is_not_the_victims(desk: DeskAtWork) -> None:
    attacker, victim = desk.logged_in("pat"), desk.browser()
    planted = attacker.token
    victim.session.cookies.set("ntro_desk", planted, domain=HOST)
    assert victim.log_in("ann").status_code == 303
    assert victim.token != planted
    assert attacker.get("/v1/me").status_code == 401


def test_cookies_are_for_browsers_and_keys_for_programs(desk: DeskAtWork, ann: Browser) -> None:
    assert cookie(desk, desk.key).get("/v1/me").status_code == 401
    assert Browser(desk.url, desk.host, key=ann.token).get("/v1/me").status_code == 401
    assert desk.program().get("/v1/me").json()["kind"] == "key"
    for key in ("", "x", "\xff", desk.key + "x", desk.key.upper()):
        program = desk.browser()
        program.session.headers["Authorization"] = f"Bearer {key}".encode("latin-1")
        assert program.get("/v1/me").status_code == 401
    stranger = desk.browser()
    stranger.session.cookies.set("ntro_desk", desk.key, domain=HOST)
    assert stranger.log_in("pat").status_code == 303  # what the browser brought ends, but a key is not a session
    assert desk.program().get("/v1/me").status_code == 200
    assert desk.program().post("/logout").status_code == 303
    assert desk.program().get("/v1/me").status_code == 200


@pytest.mark.parametrize(
    "happens",
    [
        "expires_at = now() - INTERVAL '1 second', made_at = now() - INTERVAL '2 hours'",
        "seen_at = now() - INTERVAL '121 minutes'",
        "ended_at = now()",
    ],
)
def test_a_session_ends(desk: DeskAtWork, happens: str) -> None:
    browser = desk.logged_in("pat")
    assert browser.get("/v1/me").status_code == 200
    with desk.tenant.as_owner() as owner:
        assert (
            owner.execute(
                f"UPDATE system.desk_sessions SET {happens} WHERE digest = %s",
                [hashlib.sha256(browser.token.encode()).digest()],
            ).rowcount
            == 1
        )
    assert browser.get("/v1/me").status_code == 401
    assert browser.get("/history").headers["Location"] == "/login?next=%2Fhistory"


def test_a_member_who_left_is_out_at_once(desk: DeskAtWork) -> None:
    browser = desk.logged_in("adm")
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.members SET active = FALSE WHERE login = 'user:adm'")
    try:
        assert browser.get("/v1/me").status_code == 401
        assert desk.browser().log_in("adm").status_code == 401
    finally:
        with desk.tenant.as_owner() as owner:
            owner.execute("UPDATE system.members SET active = TRUE WHERE login = 'user:adm'")


def test_logging_out_ends_it_for_whoever_copied_the_cookie(desk: DeskAtWork) -> None:
    browser = desk.logged_in("pat")
    copied = cookie(desk, browser.token)
    assert copied.get("/v1/me").status_code == 200
    assert browser.post("/logout").status_code == 303
    assert copied.get("/v1/me").status_code == 401
    assert desk.browser().post("/logout").status_code == 303


def test_another_tenants_session_is_nobody_here(
    desk: DeskAtWork, ann: Browser, make_database: Callable[[], DatabaseCredentials], tmp_path: Path
) -> None:
    credentials = make_database()
    deploy(credentials.owner, platform_bundle())
    with DeskAtWork.served(Tenant(credentials), tmp_path) as other:
        assert cookie(other, ann.token).get("/v1/me").status_code == 401
        assert Browser(other.url, other.host, key=desk.key).get("/v1/me").status_code == 401
        assert other.logged_in("ann").get("/v1/me").status_code == 200


def test_the_cookie_and_what_may_be_kept(desk: DeskAtWork, ann: Browser) -> None:
    set_cookie = desk.browser().log_in("ann").headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in set_cookie.split(";")}
    assert "domain" not in set_cookie.lower()
    for path in ("/v1/me", "/history", "/v1/subledgers/expenses/index", "/login"):
        answer = ann.get(path)
        assert answer.headers["Cache-Control"] == "no-store", path
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "evil.example", "other.localhost", f"{HOST}.evil.example", f"{HOST}:1", ""]
)
def test_a_name_bound_to_our_address_is_not_ours(desk: DeskAtWork, ann: Browser, host: str) -> None:
    for path in ("/v1/me", "/login", "/static/desk.css"):
        answer = ann.session.get(desk.url + path, headers={"Host": host, "X-Forwarded-Host": HOST}, timeout=30)
        assert answer.status_code == 421
        assert "Set-Cookie" not in answer.headers


# Log-in


@pytest.mark.parametrize(
    "target",
    ["http://evil.example/", "//evil.example", "/\\evil.example", "/%2Fevil.example", "/%5Cevil.example",
     "/\t/evil.example", "/%09/evil.example",
     "javascript:alert(1)", "%2F%2Fevil.example", "/\r\nSet-Cookie: a=b", "", "evil.example", "/%0d%0aX: y"],
)  # fmt: skip
def test_a_log_in_leads_nowhere_else(desk: DeskAtWork, target: str) -> None:
    answer = desk.browser().log_in("pat", next=target)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "X" not in answer.headers


def test_a_log_in_leads_where_the_member_wanted(desk: DeskAtWork) -> None:
    wanted = "/subledgers/expenses?entity=a&q=Low+%26+Co%25"
    sent = desk.browser().get(wanted).headers["Location"]
    assert sent.startswith("/login?next=%2Fsubledgers")
    assert desk.browser().log_in("pat", next=wanted).headers["Location"] == wanted


def test_who_is_a_member_cannot_be_told(desk: DeskAtWork) -> None:
    """By words, by status, by time. Programs and members without a password answer alike."""
    with desk.tenant.as_owner() as owner:
        owner.execute(
            "INSERT INTO system.members (login, name, role, created_by) "
            "VALUES ('user:new', 'N', 'approver', 'x') ON CONFLICT DO NOTHING"
        )
    took: dict[str, list[float]] = {}
    pages = set()
    for _ in range(3):
        for name in ("bob", "nobody", "new", "bot"):
            began = time.perf_counter()
            answer = desk.browser().log_in(name, "not the password")
            took.setdefault(name, []).append(time.perf_counter() - began)
            pages.add((answer.status_code, answer.text))
    assert len(pages) == 1
    quick, slow = min(map(min, took.values())), statistics.median(took["bob"])
    assert quick > slow / 4, took


def test_passwords_cannot_be_guessed_in_numbers(desk: DeskAtWork) -> None:
    """One after the other, or all at once."""
    with ThreadPoolExecutor(16) as pool:
        burst = [answer.status_code for answer in pool.map(lambda n: desk.browser().log_in("guessed", f"wrong {n}"), range(30))]
    assert burst.count(401) <= 10
    assert set(burst) == {401, 429}
    with desk.tenant.as_owner() as owner:
        owner.execute("INSERT INTO system.failed_logins (login) SELECT 'user:adm' FROM generate_series(1, 10)")
    assert desk.browser().log_in("adm").status_code == 429
    with desk.tenant.as_owner() as owner:
        owner.execute("UPDATE system.failed_logins SET at = now() - INTERVAL '16 minutes'")
    assert desk.browser().log_in("adm").status_code == 303


def test_a_queue_that_is_full_asks_to_come_back(desk: DeskAtWork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody failed: it is not the quarter of an hour of those who guess."""
    monkeypatch.setattr(counter, "MOST_WAITING", 0)
    answer = desk.browser().log_in("eve")
    assert (answer.status_code, LoginsBusyError.summary.capitalize() in answer.text) == (503, True)
    assert 'name="password"' in answer.text, "the page itself, to try again"
    assert answer.headers["Retry-After"] == str(counter.COMES_ROUND_S)


@pytest.mark.parametrize(
    "name", ["ann\x00", "a" * 81, "user:user:ann", "ann' OR TRUE --", "\ud800".encode("utf-8", "surrogatepass")]
)
def test_names_that_are_none(desk: DeskAtWork, name: str) -> None:
    assert desk.browser().log_in(name).status_code in {401, 422}

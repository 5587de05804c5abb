"""Approved rows in the ledger of somebody else: every one, once, whatever that ledger does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from elsewhere import (
    assert_in_both,
    assert_nothing_half,
    deliveries,
    findings,
    keep_at,
    options_for,
    place_for,
    run,
    run_until_posted,
    statuses,
)
from ledger_tenant import Tenant, approved
from misbehaving_ledger import SECRETS, WRITES, Elsewhere, misbehaving_ledger

from ntro_dagster.gl.booking import PostingConflictError
from ntro_dagster.gl.delivery import JournalsRefusedError
from ntro_dagster.gl.providers.errors import ConnectionError_
from ntro_dagster.gl.providers.provider import JournalEntries
from ntro_dagster.gl.providers.resolve import GLSetting, provider_of
from ntro_dagster.subledger.proposals import JournalEntryLineItem, JournalProposal

HTTP = ("xero", "erpnext")


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    with misbehaving_ledger() as running:
        yield running


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=HTTP)
def provider(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(provider: str) -> str:
    return place_for(provider)


def kept_at(tenant: Tenant, entity: UUID, provider: str, elsewhere: Elsewhere, place: str, **options: Any) -> None:
    keep_at(tenant, entity, provider, options_for(provider, elsewhere, place, **options))


def test_rows_are_posted_in_both_ledgers(tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    approved(tenant, entity, 7)
    approved(tenant, entity, 3, amount_gross="12.34", vat_amount="1.05", category="5000")
    posted = run(tenant, entity)
    assert (posted.rows, posted.waiting, posted.troubles) == (10, 0, ())
    assert_in_both(tenant, entity, elsewhere, place, 10)
    assert {attempts for _, _, attempts, _ in deliveries(tenant, entity)} == {1}
    assert run(tenant, entity).rows == 0
    here = tenant.fetch(
        "SELECT l.account_code, sum(l.debit - l.credit) FROM ledgers.journals j "
        "JOIN ledgers.journal_lines l ON l.journal_id = j.id WHERE j.entity_id = %s GROUP BY 1 ORDER BY 1",
        entity,
    )
    assert asyncio.run(balances(provider, elsewhere, place, on=date(2025, 1, 31))) == here
    assert asyncio.run(balances(provider, elsewhere, place, on=date(2024, 12, 31))) == []


async def balances(provider: str, elsewhere: Elsewhere, place: str, *, on: date) -> list[tuple[str, Decimal]]:
    """By account code, as the ledger says."""
    there = provider_of(GLSetting(provider, place, options_for(provider, elsewhere, place)), entity="x")
    try:
        return sorted((each.account.split(" - ")[0], each.balance) for each in await there.trial_balance(on))
    finally:
        await there.aclose()


@pytest.mark.parametrize("word", WRITES)
def test_each_way_of_misbehaving(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, *, provider: str, place: str, word: str
) -> None:
    """Once, at the first request; then it behaves."""
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, script=[word], silence_s=1.5, late_s=0.9)
    approved(tenant, entity, 3)
    run(tenant, entity)
    assert_nothing_half(tenant, entity)
    run_until_posted(tenant, entity, 3, within_s=10)
    assert_in_both(tenant, entity, elsewhere, place, 3)
    assert elsewhere.state(place)["calls"].count(f"write {word}") >= 1
    assert findings(tenant, entity) == []


@pytest.mark.parametrize("word", ["500", "reset", "429", "silence"])
def test_a_look_that_fails_sends_nothing(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, *, provider: str, place: str, word: str
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, read_script=["ok", word] if provider == "erpnext" else [word], silence_s=1.5)
    approved(tenant, entity, 2)
    assert run(tenant, entity).troubles
    assert elsewhere.state(place)["journals"] == []
    run_until_posted(tenant, entity, 2, within_s=10)
    assert_in_both(tenant, entity, elsewhere, place, 2)


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=pytest.mark.long if seed > 1 else ()) for seed in range(5)])
def test_misbehaving_all_the_time(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, *, provider: str, place: str, seed: int
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place, timeout_seconds=0.4, settle_seconds=0.4)
    elsewhere.mood(
        place,
        seed=seed,
        writes=dict.fromkeys(WRITES, 1.0) | {"ok": 3.0},
        reads={"ok": 5, "500": 1, "reset": 1, "429": 1},
        silence_s=0.6,
        late_s=0.5,
        retry_after="0",
    )
    approved(tenant, entity, 5)
    run_until_posted(tenant, entity, 5, within_s=120)
    assert_in_both(tenant, entity, elsewhere, place, 5)


def test_a_pause_that_is_asked_for_is_kept(tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, script=["429"], retry_after="3600")
    approved(tenant, entity, 2)
    (trouble,) = run(tenant, entity).troubles
    assert (trouble.code, trouble.values["seconds"]) == ("GL_RATE_LIMITED", 3600)
    calls = elsewhere.state(place)["calls"]
    assert run(tenant, entity).waiting == 2
    assert elsewhere.state(place)["calls"] == calls
    keep_at(tenant, entity, provider, options_for(provider, elsewhere, place))  # the operator knows better
    run_until_posted(tenant, entity, 2, within_s=10)


def test_a_request_that_lands_long_after_it_was_given_up_is_repaired(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str
) -> None:
    """Nothing prevents this at a ledger that takes an id twice. It is found, and the double is voided."""
    kept_at(tenant, entity, provider, elsewhere, place, timeout_seconds=0.3, settle_seconds=0.2)
    elsewhere.mood(place, script=["commit_late"], silence_s=0.5, late_s=2.5, remembers=0)
    approved(tenant, entity, 1)
    run_until_posted(tenant, entity, 1, within_s=10)
    eventually_two(elsewhere, place)
    assert run(tenant, entity).rows == 0  # not yet time to look again
    with tenant.as_owner() as owner:
        owner.execute(
            "UPDATE ledgers.deliveries SET recheck_at = now() WHERE entity_id = %s AND recheck_at IS NOT NULL", [entity]
        )
    run(tenant, entity)
    assert findings(tenant, entity) == ["DOUBLE_VOIDED"]
    assert_in_both(tenant, entity, elsewhere, place, 1)


def eventually_two(elsewhere: Elsewhere, place: str) -> None:
    deadline = time.monotonic() + 10
    while len(elsewhere.standing(place)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_ledger_that_takes_an_id_once_is_sent_again_at_once(tenant: Tenant, entity: UUID, elsewhere: Elsewhere) -> None:
    place = place_for("erpnext")
    kept_at(tenant, entity, "erpnext", elsewhere, place, unique=True, settle_seconds=3600)
    elsewhere.mood(place, unique=True, script=["silence", "commit_then_silence"], silence_s=1.0)
    approved(tenant, entity, 2)
    run_until_posted(tenant, entity, 2, within_s=10)
    assert_in_both(tenant, entity, elsewhere, place, 2)


def test_what_the_ledger_refuses_is_not_sent_again_until_something_changes(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, unknown_accounts=["5000"])
    approved(tenant, entity, 2)
    (bad,) = approved(tenant, entity, category="5000")
    with pytest.raises(JournalsRefusedError) as refused:
        run(tenant, entity)
    assert str(bad) in refused.value.explain() and str(bad) not in str(refused.value)
    assert statuses(tenant, entity) == {"POSTED": 2, "APPROVED": 1}
    calls = elsewhere.state(place)["calls"]
    for _ in range(3):
        assert run(tenant, entity).rows == 0
    assert [x for x in elsewhere.state(place)["calls"] if x.startswith("write")] == [x for x in calls if x.startswith("write")]
    elsewhere.mood(place)  # somebody adds the account there, and says so here
    keep_at(tenant, entity, provider, options_for(provider, elsewhere, place))
    assert run(tenant, entity).rows == 1
    assert_in_both(tenant, entity, elsewhere, place, 3)


def test_a_refused_row_can_be_taken_back(tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, unknown_accounts=["5000"])
    (bad,) = approved(tenant, entity, category="5000")
    with pytest.raises(JournalsRefusedError):
        run(tenant, entity)
    tenant.decide("undo", bad)
    tenant.decide("approve", bad)
    with pytest.raises(JournalsRefusedError):  # tried anew: something had changed
        run(tenant, entity)
    assert tenant.fetch("SELECT count(*) FROM ledgers.deliveries WHERE entity_id = %s", entity) == [(2,)]


def test_what_rounds_is_refused_before_it_is_sent(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    approved(tenant, entity, amount_gross="10.005", vat_amount=None)
    with pytest.raises(JournalsRefusedError, match="GL_JOURNALS_REFUSED"):
        run(tenant, entity)
    assert elsewhere.state(place)["journals"] == []


def test_another_journal_under_our_id_is_a_conflict(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    (row,) = approved(tenant, entity)
    lines = (
        JournalEntryLineItem(account_code="5999", debit=Decimal(121)),
        JournalEntryLineItem(account_code="2000", credit=Decimal(121)),
    )
    other = JournalProposal(
        external_id="x", row_id=row, posting_date=date(2025, 1, 31), description="x", currency="GBP", lines=lines
    )
    known = provider_of(GLSetting(provider, place, options_for(provider, elsewhere, place)), entity="x")
    reference = asyncio.run(create(known.journal_entries, other, f"expenses:{row}"))
    with pytest.raises(PostingConflictError):
        run(tenant, entity)
    assert statuses(tenant, entity) == {"APPROVED": 1}
    assert [each["reference"] for each in elsewhere.standing(place)] == [reference]
    assert asyncio.run(known.journal_entries.void(reference))  # somebody clears it up there
    run_until_posted(tenant, entity, 1, within_s=10)
    assert_in_both(tenant, entity, elsewhere, place, 1)


async def create(entries: JournalEntries, proposal: JournalProposal, external_id: str) -> str:
    await entries.find_many([proposal])
    reference = await entries.create(proposal, external_id=external_id)
    found = await entries.find_by_external_id(external_id, proposal)
    assert found and found.reference == reference
    assert await entries.find_by_external_id("another", proposal) is None
    return reference


def test_a_secret_that_is_not_accepted_stops_and_tells(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, *, provider: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    approved(tenant, entity)
    with monkeypatch.context() as patched:
        patched.setenv(f"NTRO_SECRET_{provider.upper()}", "stolen:wrong")
        with pytest.raises(ConnectionError_) as refused:
            run(tenant, entity)
    assert "stolen" not in refused.value.explain() + str(refused.value)
    assert run(tenant, entity).rows == 1


def test_the_whole_tenants_setting_and_an_entitys_own(tenant: Tenant, elsewhere: Elsewhere, provider: str, place: str) -> None:
    one, other = tenant.new_entity(), tenant.new_entity()
    try:
        keep_at(tenant, None, provider, options_for(provider, elsewhere, place))
        keep_at(tenant, other, "native")
        approved(tenant, one, 2)
        approved(tenant, other, 3)
        assert (run(tenant, one).rows, run(tenant, other).rows) == (2, 3)
        assert len(elsewhere.standing(place)) == 2
    finally:
        keep_at(tenant, None, "native")


def test_a_ledger_is_not_changed_while_it_is_in_doubt(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, script=["commit_late"], silence_s=1.5, late_s=2.5)
    approved(tenant, entity, 1)
    run(tenant, entity)
    with pytest.raises(psycopg.Error, match="DELIVERIES_UNDER_WAY"):
        keep_at(tenant, entity, "native")
    run_until_posted(tenant, entity, 1, within_s=20)
    with pytest.raises(psycopg.Error, match="DELIVERIES_UNDER_WAY"):  # it was sent twice: it is to be looked for again
        keep_at(tenant, entity, "native")
    with tenant.as_owner() as owner:
        owner.execute("UPDATE ledgers.deliveries SET recheck_at = now() WHERE entity_id = %s", [entity])
    run(tenant, entity)
    keep_at(tenant, entity, "native")


def test_what_was_never_sent_goes_to_the_new_ledger(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, read_script=["500"] * 9)
    approved(tenant, entity, 2)
    assert run(tenant, entity).waiting == 2
    keep_at(tenant, entity, "native")
    assert run(tenant, entity).rows == 2
    assert [(outcome, code) for outcome, code, *_ in deliveries(tenant, entity)] == [("REFUSED", "LEDGER_CHANGED")] * 2


def test_rows_under_way_stay_approved(tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, read_script=["500"] * 9)
    (row,) = approved(tenant, entity)
    run(tenant, entity)
    with pytest.raises(psycopg.Error, match="DELIVERY_UNDER_WAY"):
        tenant.decide("undo", row)
    with pytest.raises(psycopg.Error, match="DELIVERY_UNDER_WAY"):
        tenant.post(entity, row)
    assert statuses(tenant, entity) == {"APPROVED": 1}


def test_runs_at_once_send_each_journal_once(
    tenant: Tenant, entity: UUID, elsewhere: Elsewhere, provider: str, place: str
) -> None:
    kept_at(tenant, entity, provider, elsewhere, place)
    elsewhere.mood(place, slow_s=0.05)
    approved(tenant, entity, 12)
    with ThreadPoolExecutor(4) as pool:
        posted = [each.result().rows for each in [pool.submit(run, tenant, entity) for _ in range(4)]]
    assert sum(posted) + run(tenant, entity).rows == 12
    assert_in_both(tenant, entity, elsewhere, place, 12)
    assert len(elsewhere.state(place)["journals"]) == 12


def test_what_a_ledger_remembers_of_a_voided_journal_is_not_believed(tenant: Tenant, entity: UUID, elsewhere: Elsewhere) -> None:
    place = place_for("xero")
    kept_at(tenant, entity, "xero", elsewhere, place, settle_seconds=0.1)
    elsewhere.mood(place, script=["commit_then_silence"], read_script=["ok", "500"], silence_s=1.0, remembers=1.0)
    approved(tenant, entity)
    run(tenant, entity)
    (lost,) = elsewhere.standing(place)
    known = provider_of(GLSetting("xero", place, elsewhere.xero(place)), entity="x")
    assert asyncio.run(known.journal_entries.void(lost["reference"]))
    run_until_posted(tenant, entity, 1, within_s=10)
    assert_in_both(tenant, entity, elsewhere, place, 1)
    assert elsewhere.standing(place)[0]["reference"] != lost["reference"]

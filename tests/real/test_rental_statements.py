"""Two years of 26 landlords through nav-monthly-journals. What is expected is computed here anew, with csv and Decimal alone."""

from __future__ import annotations

import asyncio
import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from uuid import uuid4

import pytest
from rented_tenant import SOURCES, Rented, folder

from ntro_dagster.gl.net_assets import net_assets
from ntro_dagster.gl.posting import post_approved
from ntro_dagster.gl.trial_balance import draw_up
from ntro_dagster.ingest.outcome import IngestStatus
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.orchestration.context import EntityRef
from ntro_dagster.orchestration.derived import derive
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials

LANDLORDS, MONTHS, LET = 26, 24, 440
"""Of 624 landlord-months, so many have rents: most landlords began to let during 2022."""
RECONCILED, LATE, FAILED, NOT_TO_VENDORS = 438, 39, 23, 39

Key = tuple[str, str]
NOTHING = Decimal(0)


@cache
def table(name: str) -> list[dict[str, str]]:
    with (folder() / name).open(newline="") as lines:
        return list(csv.DictReader(lines))


def sums(name: str, month: str, amount: str, **only: str) -> dict[Key, Decimal]:
    found: dict[Key, Decimal] = defaultdict(Decimal)
    for row in table(name):
        if all(row[column] == value for column, value in only.items()):
            found[row["landlord_id"], row[month][:7]] += Decimal(row[amount])
    return found


def following(month: str) -> str:
    months = sorted({row["month"] for row in table("rent_rows.csv")})
    return [*months, ""][months.index(month) + 1]


@cache
def payouts() -> dict[Key, dict[str, str]]:
    """Each landlord-month's own payout: where it has none, the earlier one of the two in the month after."""
    arrived: dict[Key, list[dict[str, str]]] = defaultdict(list)
    for row in sorted(table("landlord_payouts.csv"), key=lambda row: row["date"]):
        arrived[row["landlord_id"], row["month"]].append(row)
    return {
        (landlord, month): arrived[landlord, month][-1]
        if (landlord, month) in arrived
        else arrived[landlord, following(month)][0]
        for landlord, month in collected()
    }


@cache
def collected() -> dict[Key, Decimal]:
    return sums("rent_rows.csv", "month", "amount_received")


@cache
def repaired() -> dict[Key, Decimal]:
    return sums("maintenance.csv", "date", "amount", maintenance_type="vendor_payment")


@cache
def late() -> set[Key]:
    return {key for key, payout in payouts().items() if payout["month"] != key[1]}


@cache
def differing() -> dict[Key, Decimal]:
    """Landlord-months whose payout states other repairs than were paid: the difference. Nothing else differs."""
    found = {}
    for key, payout in payouts().items():
        gross, fee, maintenance, net = (
            Decimal(payout[c]) for c in ("gross_collected", "management_fee", "maintenance_expenses", "net_payout")
        )
        assert gross == collected()[key]
        assert fee == (gross * Decimal(payout["management_fee_rate"])).quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert net == gross - fee - maintenance
        if maintenance != repaired().get(key, NOTHING):
            found[key] = maintenance - repaired().get(key, NOTHING)
    return found


@pytest.fixture(scope="module")
def rented(make_database: Callable[[], DatabaseCredentials], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rented]:
    """Everything filed, staged, reviewed and proposed, once for the tests of this module."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NTRO_SALT", "5a17")
        tenant = Rented(make_database(), DocumentStore(tmp_path_factory.mktemp("documents")))
        asyncio.run(everything(tenant))
        yield tenant


async def everything(tenant: Rented) -> None:
    for name, source in SOURCES.items():
        outcome = await tenant.file(folder() / name, source)
        assert (outcome.status, outcome.parsed_rows, outcome.rejected_rows) == (IngestStatus.ACCEPTED, len(table(name)), None)
    assert await tenant.stage() == Counter(inserted=1394 + 156 + 440)
    assert await tenant.waiting() == [], "nothing is proposed while rows wait for a person"
    rental, repairs, statements = tenant.inputs
    assert await tenant.decide(repairs, "reject", status="NEEDS_ATTENTION") == NOT_TO_VENDORS
    assert await tenant.decide(rental, "approve", status="PENDING") == 1394
    assert await tenant.decide(repairs, "approve", status="PENDING") == 156 - NOT_TO_VENDORS
    assert await tenant.decide(statements, "approve", status="PENDING") == 440
    assert len(await tenant.waiting()) == LET
    assert (await tenant.derive())["updated"] == 0


@pytest.fixture(scope="module")
def books(rented: Rented) -> dict[Key, dict[str, Decimal]]:
    """What the proposals of each landlord-month book: account -> debit less credit."""
    found: dict[Key, dict[str, Decimal]] = {}
    for landlord, period, account, amount in rented.fetch(
        "SELECT e.name, p.period, l ->> 'account_code', sum((l ->> 'debit')::numeric - (l ->> 'credit')::numeric) "
        "FROM ledgers.journal_proposals p JOIN system.entities e ON e.id = p.entity_id "
        "CROSS JOIN jsonb_array_elements(p.lines) l GROUP BY 1, 2, 3"
    ):
        found.setdefault((landlord, period), defaultdict(Decimal))[account] = amount
    return found


def findings(tenant: Rented, code: str) -> list[tuple[str, str, dict[str, str]]]:
    """Landlord, the month in which it is said, and the finding."""
    return [
        (landlord, period, finding)
        for landlord, period, finding in tenant.fetch(
            "SELECT e.name, p.period, f FROM ledgers.journal_proposals p JOIN system.entities e ON e.id = p.entity_id "
            "CROSS JOIN jsonb_array_elements(p.validation_errors) f WHERE f ->> 'code' = %s ORDER BY 1, 2, f ->> 'amount'",
            code,
        )
    ]


def test_every_landlord_month_reconciles_or_says_why(rented: Rented, books: dict[Key, dict[str, Decimal]]) -> None:
    landlords = {row["landlord_id"] for row in table("rent_rows.csv")}
    months = {row["month"] for row in table("rent_rows.csv")}
    assert (len(landlords), len(months), len(collected())) == (LANDLORDS, MONTHS, LET)
    assert books.keys() == collected().keys(), "a month without rents has no journals, every other one has"
    said = Counter(
        (landlord, period, Decimal(finding["amount"])) for landlord, period, finding in findings(rented, "REPAIRS_DIFFER")
    )
    assert said == Counter(
        (landlord, payouts()[landlord, month]["month"], amount) for (landlord, month), amount in differing().items()
    )
    for code in ("GROSS_DIFFERS", "FEE_DIFFERS", "NET_DIFFERS", "STATEMENT_UNEXPECTED", "FEE_RATE_CHANGED"):
        assert findings(rented, code) == []
    assert len(collected()) - len(differing()) == RECONCILED
    assert sorted(differing().values()) == [Decimal(-236), Decimal(236)], "repaired in one month, deducted in the one before"


def test_a_payout_that_came_a_month_late_is_said_in_both_months(rented: Rented) -> None:
    assert len(late()) == LATE
    missing = {(landlord, period) for landlord, period, _ in findings(rented, "PAYOUT_MISSING")}
    assert missing == late()
    arrived = {(landlord, finding["month"]): (period, finding) for landlord, period, finding in findings(rented, "PAYOUT_LATE")}
    assert arrived.keys() == late()
    for key, (period, finding) in arrived.items():
        assert finding["arrived"] == period == following(key[1])
        assert Decimal(finding["amount"]) == Decimal(payouts()[key]["net_payout"])
        assert finding["message"] == f"payout of {key[1]} arrived in {period}"


def test_where_no_statement_has_come_yet_the_fee_waits_for_the_first(
    rented: Rented, books: dict[Key, dict[str, Decimal]]
) -> None:
    first = {landlord: min(month for who, month in collected() if who == landlord) for landlord, _ in collected()}
    unknown = sorted((landlord, month) for landlord, month in first.items() if (landlord, month) in late())
    assert [(landlord, period) for landlord, period, _ in findings(rented, "FEE_RATE_UNKNOWN")] == unknown
    for landlord, month in unknown:
        own, after = (Decimal(payouts()[landlord, each]["management_fee"]) for each in (month, following(month)))
        assert books[landlord, month]["5210"] == 0
        assert books[landlord, following(month)]["5210"] == own + after


def test_income_is_what_was_due_and_a_failed_payment_is_owed(books: dict[Key, dict[str, Decimal]]) -> None:
    rent, fees = sums("rent_rows.csv", "month", "monthly_rent"), defaultdict[Key, Decimal](Decimal)
    for fee in ("late_fee", "nsf_fee"):
        for key, amount in sums("rent_rows.csv", "month", fee).items():
            fees[key] += amount
    for key, accounts in books.items():
        assert -accounts["4100"] == rent[key]
        assert -accounts["4110"] == fees[key]
        assert accounts["1100"] == 0, "what is not paid in its month is arrears"


def test_arrears_grow_older_month_by_month(books: dict[Key, dict[str, Decimal]]) -> None:
    unpaid: dict[Key, Decimal] = defaultdict(Decimal)
    failed = [row for row in table("rent_rows.csv") if row["status"] == "failed"]
    for row in failed:
        unpaid[row["landlord_id"], row["month"]] += Decimal(row["monthly_rent"]) + Decimal(row["nsf_fee"])
    assert len(failed) == FAILED
    months = ["", *sorted({row["month"] for row in table("rent_rows.csv")})]
    running: dict[Key, Decimal] = defaultdict(Decimal)
    in_arrears = 0
    for landlord, month in sorted(books):
        before = months[months.index(month) - 1]
        older = sum((amount for (who, when), amount in unpaid.items() if who == landlord and when < before), NOTHING)
        for account in ("1110", "1120", "1130"):
            running[landlord, account] += books[landlord, month][account]
        aged = [running[landlord, account] for account in ("1110", "1120", "1130")]
        assert aged == [unpaid[landlord, month], unpaid[landlord, before], older]
        in_arrears += any(aged)
    assert in_arrears == sum(
        any(who == landlord and when <= month for who, when in {key for key, amount in unpaid.items() if amount})
        for landlord, month in books
    )


def test_the_agents_control_account_holds_what_is_late_and_nothing_else(books: dict[Key, dict[str, Decimal]]) -> None:
    held: dict[str, Decimal] = defaultdict(Decimal)
    fees_waiting = {(landlord, month) for landlord, month in late() if books[landlord, month]["5210"] == 0}
    for landlord, month in sorted(books):
        held[landlord] += books[landlord, month]["1200"]
        if (landlord, month) not in late():
            expected = NOTHING
        else:
            fee = NOTHING if (landlord, month) in fees_waiting else Decimal(payouts()[landlord, month]["management_fee"])
            expected = collected()[landlord, month] - fee - repaired().get((landlord, month), NOTHING)
        assert held[landlord] == expected
    assert set(held.values()) == {NOTHING}


def test_proposing_again_changes_nothing(rented: Rented) -> None:
    async def again() -> Counter[str]:
        totals: Counter[str] = Counter()
        async with rented.connected() as (database, reader):
            for entity_id, slug, period in rented.fetch(
                "SELECT e.id, e.slug, d.period FROM system.derivations d JOIN system.entities e ON e.id = d.entity_id "
                "WHERE d.period < '2022-10'"
            ):
                staged = await derive(rented.run(EntityRef(entity_id, slug, "USD"), period, database, reader), rented.derivation)
                assert staged is not None
                totals.update(inserted=staged.inserted, updated=staged.updated, untouched=staged.untouched)
        return totals

    before = rented.fetch("SELECT count(*), max(updated_at) FROM ledgers.journal_proposals")
    assert set((+asyncio.run(again())).keys()) == {"untouched"}
    assert rented.fetch("SELECT count(*), max(updated_at) FROM ledgers.journal_proposals") == before


WHOLE_WAY = {
    "LL0001": ("2022-01", "2022-02", "2022-03"),
    "LL0024": ("2022-10", "2022-11", "2022-12", "2023-01", "2023-02", "2023-03"),
}
"""A payout that came late; a payment that failed."""


@pytest.mark.parametrize("landlord", WHOLE_WAY)
def test_the_whole_way_to_the_net_asset_value(rented: Rented, landlord: str) -> None:
    months = WHOLE_WAY[landlord]
    keys = [(landlord, month) for month in months]
    due, cash, fees, owed = NOTHING, NOTHING, NOTHING, NOTHING
    for row in table("rent_rows.csv"):
        if (row["landlord_id"], row["month"]) in keys:
            asked = sum(Decimal(row[column]) for column in ("monthly_rent", "late_fee", "nsf_fee"))
            due += asked
            owed += asked - Decimal(row["amount_received"])
    for row in table("landlord_payouts.csv"):
        if (row["landlord_id"], row["month"]) in keys:
            cash += Decimal(row["net_payout"])
            fees += Decimal(row["management_fee"])
    repairs = sum((repaired().get(key, NOTHING) for key in keys), NOTHING)

    async def close() -> list[Decimal]:
        kind, values = rented.proposals, []
        ((entity_id, slug),) = rented.fetch("SELECT id, slug FROM system.entities WHERE name = %s", landlord)
        for month in months:
            where = {"entity_id": entity_id, "period": month}
            await rented.decide(kind, "accept", status="NEEDS_ATTENTION", filed_by="user:ann", **where)
            await rented.decide(kind, "approve", status="PENDING", **where)
            async with rented.connected() as (database, reader):
                run = rented.run(EntityRef(entity_id, slug, "USD"), month, database, reader)
                assert (await post_approved(run.handle(kind), period=month, currency="USD")).rows
                balance = await draw_up(database, run_id=uuid4(), salt=b"salt", **where)
            assert balance.balanced
            (worth,) = net_assets(balance)
            values.append(worth.value)
        accounts = {line.account_code: line.balance for line in balance.lines}
        assert accounts["1000"] == cash
        assert accounts.get("1200", NOTHING) == 0
        assert sum((accounts.get(code, NOTHING) for code in ("1100", "1110", "1120", "1130")), NOTHING) == owed
        assert -sum(amount for line, amount in accounts.items() if line.startswith("4")) == due
        return values

    values = asyncio.run(close())
    assert values[-1] == due - fees - repairs == cash + owed
    assert rented.fetch(
        "SELECT count(*) FROM ledgers.closes c JOIN system.entities e ON e.id = c.entity_id WHERE e.name = %s", landlord
    ) == [(len(months),)]

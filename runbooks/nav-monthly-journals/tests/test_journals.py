"""The calculations, without a database: ageing, rounding, late payouts."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ntro_dagster.bundles import Bundle
from ntro_dagster.testing import rehearse

BUNDLE = Bundle("nav-monthly-journals", Path(__file__).parents[1])
figures, ageing, reconciliation, journals = (BUNDLE.load(name) for name in ("figures", "ageing", "reconciliation", "journals"))

D = Decimal


def rent(period: str, received: str = "1000", *, unit: str = "2A", fees: str = "0") -> Any:
    return figures.Rent(period, unit, D(1000), D(fees), D(received))


def statement(
    period: str, gross: str = "1000", *, day: int = 28, rate: str = "0.08", maintenance: str = "0", ref: str = ""
) -> Any:
    fee = figures.fee_of(D(gross), D(rate))
    paid_on = date(int(period[:4]), int(period[5:]), day)
    net = D(gross) - fee - D(maintenance)
    return figures.Statement(period, ref or f"t{day:02d}", paid_on, D(gross), D(rate), fee, D(maintenance), net)


def books(period: str, rents: list[Any], statements: list[Any] = [], repairs: list[Any] = []) -> dict[str, Any]:  # noqa: B006
    made = {journal.ref: journal for journal in journals.Books(period, rents, repairs, statements).journals()}
    for journal in made.values():
        assert sum(journal.amounts.values()) == 0, "every journal balances"
    return made


def codes(journal: Any) -> list[str]:
    return [finding["code"] for finding in journal.findings]


# -- rounding


@pytest.mark.parametrize(
    ("gross", "rate", "fee"),
    [
        ("14012.00", "0.08", "1120.96"),
        ("0.0625", "0.08", "0.01"),
        ("100.05", "0.1", "10.01"),
        ("100.15", "0.1", "10.02"),
        ("0", "0.08", "0"),
    ],
)
def test_the_fee_is_rounded_half_up(gross: str, rate: str, fee: str) -> None:
    assert figures.fee_of(D(gross), D(rate)) == D(fee)


def test_one_amount_has_one_text() -> None:
    assert [figures.written(D(text)) for text in ("10", "10.000000000", "-0.5", "1.2345", "1E+3")] == [
        "10.00",
        "10.00",
        "-0.50",
        "1.2345",
        "1000.00",
    ]


# -- ageing


def aged(period: str, rents: list[Any]) -> tuple[Decimal, ...]:
    found = ageing.arrears_at_end_of(period, rents)
    return found.days_30, found.days_60, found.days_90_plus


def test_what_is_unpaid_grows_older() -> None:
    rents = [rent("2022-01", "0", fees="35"), rent("2022-02"), rent("2022-03", "400"), rent("2022-04")]
    assert [aged(f"2022-0{month}", rents) for month in range(1, 6)] == [
        (1035, 0, 0),
        (0, 1035, 0),
        (600, 0, 1035),
        (0, 600, 1035),
        (0, 0, 1635),
    ]


def test_ages_cross_the_turn_of_the_year() -> None:
    assert aged("2023-01", [rent("2022-11", "0"), rent("2022-12", "0")]) == (0, 1000, 1000)


def test_what_is_paid_beyond_the_month_settles_the_oldest_and_then_what_comes() -> None:
    rents = [rent("2022-01", "0"), rent("2022-02", "0"), rent("2022-03", "2500"), rent("2022-04", "3000"), rent("2022-05", "200")]
    assert aged("2022-03", rents) == (0, 500, 0)
    assert aged("2022-04", rents) == (0, 0, 0)
    assert aged("2022-05", rents) == (0, 0, 0), "1500 were paid ahead"


def test_one_units_surplus_is_not_anothers() -> None:
    assert aged("2022-01", [rent("2022-01", "0", unit="1"), rent("2022-01", "2000", unit="2")]) == (1000, 0, 0)


def test_the_arrears_journal_moves_only_what_grew_older() -> None:
    rents = [rent("2022-01", "0"), rent("2022-02")]
    january, february = (books(month, rents)["arrears"].amounts for month in ("2022-01", "2022-02"))
    assert january == {"1110": 1000, "1120": 0, "1130": 0, "1100": -1000}
    assert february == {"1110": -1000, "1120": 1000, "1130": 0, "1100": 0}


# -- reconciliation


def test_a_month_that_reconciles_has_nothing_to_say() -> None:
    made = books("2022-01", [rent("2022-01")], [statement("2022-01", maintenance="50")], [figures.Repair("2022-01", "2A", D(50))])
    assert made.keys() == {"rent", "receipts", "fee", "repairs", "payout:t28"}
    assert all(not journal.findings for journal in made.values())
    assert sum(journal.amounts.get("1200", 0) for journal in made.values()) == 0


def test_every_difference_has_both_sides() -> None:
    stated = figures.Statement("2022-01", "t", date(2022, 1, 28), D(900), D("0.08"), D(80), D(10), D(800))
    (journal,) = [made for ref, made in books("2022-01", [rent("2022-01")], [stated]).items() if ref.startswith("payout")]
    assert {f["code"]: (f["amount"], f["stated"], f["ours"]) for f in journal.findings} == {
        "GROSS_DIFFERS": ("-100.00", "900.00", "1000.00"),
        "FEE_DIFFERS": ("8.00", "80.00", "72.00"),
        "NET_DIFFERS": ("-10.00", "800.00", "810.00"),
        "REPAIRS_DIFFER": ("10.00", "10.00", "0.00"),
    }


def test_a_failed_payment_is_income_and_arrears() -> None:
    made = books("2022-01", [rent("2022-01", "0", fees="35")], [statement("2022-01", "0")])
    assert made["rent"].amounts == {"1100": 1035, "4100": -1000, "4110": -35}
    assert made["arrears"].amounts["1110"] == 1035
    assert made.keys() == {"rent", "arrears"}


def test_repairs_above_what_came_in_are_paid_by_the_landlord() -> None:
    made = books(
        "2022-01", [rent("2022-01")], [statement("2022-01", maintenance="2000")], [figures.Repair("2022-01", "2A", D(2000))]
    )
    assert made["payout:t28"].amounts == {"1000": -1080, "1200": 1080}


# -- late payouts


def test_a_payout_that_comes_a_month_late_is_said_in_both_months() -> None:
    rents = [rent(f"2022-0{month}") for month in (1, 2, 3)]
    statements = [statement("2022-01"), statement("2022-03", day=2), statement("2022-03", day=30)]
    february, march = books("2022-02", rents[:2], statements[:1]), books("2022-03", rents, statements)
    assert codes(february["fee"]) == ["PAYOUT_MISSING"]
    assert february["fee"].amounts["5210"] == 80, "at the rate of the latest statement"
    assert february["fee"].findings[0]["amount"] == "920.00"
    (late,) = march["payout:t02"].findings
    assert (late["code"], late["message"]) == ("PAYOUT_LATE", "payout of 2022-02 arrived in 2022-03")
    assert (march["payout:t30"].findings, march["fee"].amounts["5210"]) == ([], 80)


def test_what_is_its_own_is_told_by_the_amount_before_the_date() -> None:
    rents = [rent("2022-01"), rent("2022-02", "700")]
    statements = [statement("2022-02", "700", day=1), statement("2022-02", "1000", day=28)]
    made = books("2022-02", rents, statements)
    assert (codes(made["payout:t01"]), codes(made["payout:t28"])) == ([], ["PAYOUT_LATE"])


def test_the_first_rate_comes_with_the_first_statement() -> None:
    rents = [rent("2022-01"), rent("2022-02")]
    january = books("2022-01", rents[:1])
    assert codes(january["receipts"]) == ["PAYOUT_MISSING", "FEE_RATE_UNKNOWN"]
    assert "fee" not in january
    made = books("2022-02", rents, [statement("2022-02", day=1), statement("2022-02")])
    assert made["fee"].amounts["5210"] == 160


def test_one_statement_alone_that_is_an_earlier_months() -> None:
    rents = [rent("2022-01"), rent("2022-02", "700")]
    made = books("2022-02", rents, [statement("2022-02", "1000")])
    assert codes(made["payout:t28"]) == ["PAYOUT_LATE"]
    assert "PAYOUT_MISSING" in codes(made["fee"])


def test_one_too_many_is_not_spread_over_months() -> None:
    made = books("2022-01", [rent("2022-01")], [statement("2022-01", day=20), statement("2022-01", day=28)])
    assert (codes(made["payout:t20"]), codes(made["payout:t28"])) == (["STATEMENT_UNEXPECTED"], [])
    assert made["fee"].amounts["5210"] == 80, "the fee is charged once"


def test_a_rate_that_changes_is_said() -> None:
    rents = [rent("2022-01"), rent("2022-02")]
    made = books("2022-02", rents, [statement("2022-01"), statement("2022-02", rate="0.1")])
    assert codes(made["payout:t28"]) == ["FEE_RATE_CHANGED"]


def test_the_samples_go_all_the_way() -> None:
    root = Path(__file__).parents[1]
    found = rehearse(root, root / "tests" / "samples.yaml")
    assert found.passed, found.reasons
    assert found.counts["journal_proposals"] == {"POSTED": 24}
    assert found.balances["GBP"]["1200"] == 0, "the agent has paid out all that he took"

"""Dates: every way of writing seen in published returns; two meanings are no meaning."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntro_dagster.ingest.finding import FindingCode
from ntro_dagster.ingest.returns.dates import is_month_first_only, is_written_date, plausible, read_date


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("05/04/2013", date(2013, 4, 5)),
        ("5/4/2013", date(2013, 4, 5)),
        ("02/04/12", date(2012, 4, 2)),
        ("05-Apr-12", date(2012, 4, 5)),
        ("05-Oct-2010", date(2010, 10, 5)),
        ("25/Jun/2012 ", date(2012, 6, 25)),
        ("5 April 2013", date(2013, 4, 5)),
        ("7-Sept-2013", date(2013, 9, 7)),
        ("April 5, 2013", date(2013, 4, 5)),
        ("28.08.2013", date(2013, 8, 28)),
        ("28-08-2013", date(2013, 8, 28)),
        ("2013-08-28", date(2013, 8, 28)),
        ("2013-08-28T00:00:00Z", date(2013, 8, 28)),
        ("28/08/2013 00:00", date(2013, 8, 28)),
        ("28/08/2013 12:30:00 PM", date(2013, 8, 28)),
        ("41426", date(2013, 6, 1)),
        ("41426.0", date(2013, 6, 1)),
        ("8/28/2013", date(2013, 8, 28)),
        ("29/02/2012", date(2012, 2, 29)),
    ],
)
def test_reads_what_is_certain(text: str, day: date) -> None:
    assert read_date(text, doubtful=False) == (day, None)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", FindingCode.DATE_MISSING),
        ("  ", FindingCode.DATE_MISSING),
        ("n/a", FindingCode.DATE_MISSING),
        ("May-10", FindingCode.DATE_WITHOUT_DAY),
        ("June 2010", FindingCode.DATE_WITHOUT_DAY),
        ("06/2010", FindingCode.DATE_WITHOUT_DAY),
        ("31/02/2013", FindingCode.DATE_UNREADABLE),
        ("29/02/2013", FindingCode.DATE_UNREADABLE),
        ("31-Jun-13", FindingCode.DATE_UNREADABLE),
        ("13/13/2013", FindingCode.DATE_UNREADABLE),
        ("00/01/2013", FindingCode.DATE_UNREADABLE),
        ("01/01/0000", FindingCode.DATE_UNREADABLE),
        ("2013/28/08", FindingCode.DATE_UNREADABLE),
        ("5-Foo-13", FindingCode.DATE_UNREADABLE),
        ("Foo-13", FindingCode.DATE_UNREADABLE),
        ("Legal Help", FindingCode.DATE_UNREADABLE),
        ("178829", FindingCode.DATE_UNREADABLE),
        ("99999", FindingCode.DATE_UNREADABLE),
        ("12345", FindingCode.DATE_UNREADABLE),
        ("20130828", FindingCode.DATE_UNREADABLE),
        ("8//09/2013", FindingCode.DATE_AMBIGUOUS),
    ],
)
def test_never_guesses(text: str, code: FindingCode) -> None:
    assert read_date(text, doubtful=False) == (None, code)


def test_a_misspelt_date_with_one_meaning_is_filled_in_and_flagged() -> None:
    assert read_date("8//28/2013", doubtful=True) == (date(2013, 8, 28), FindingCode.DATE_MALFORMED)


def test_a_year_nobody_meant_is_flagged() -> None:
    assert read_date("01/04/2104", doubtful=False) == (date(2104, 4, 1), FindingCode.DATE_OUT_OF_RANGE)


def test_doubt_touches_only_dates_with_two_meanings() -> None:
    assert read_date("05/04/2013", doubtful=True) == (None, FindingCode.DATE_AMBIGUOUS)
    assert read_date("04/04/2013", doubtful=True) == (date(2013, 4, 4), None)
    assert read_date("28/04/2013", doubtful=True) == (date(2013, 4, 28), None)
    assert read_date("05-Apr-13", doubtful=True) == (date(2013, 4, 5), None)
    assert read_date("2013-04-05", doubtful=True) == (date(2013, 4, 5), None)


def test_tells_month_first_dates() -> None:
    assert is_month_first_only("8/28/2013")
    assert is_month_first_only("8//28/2013")
    assert not is_month_first_only("28/8/2013")
    assert not is_month_first_only("4/5/2013")
    assert not is_month_first_only("28-Aug-13")


def test_a_bare_number_is_not_a_written_date() -> None:
    assert is_written_date("06/03/2013")
    assert not is_written_date("41426")
    assert not is_written_date("May-10")


def test_plausible_is_two_years_either_way() -> None:
    assert plausible(date(2013, 3, 31), "2012-01"), "a financial year filed under its first month"
    assert plausible(date(2011, 4, 1), "2013-04")
    assert not plausible(date(2011, 3, 31), "2013-04")
    assert not plausible(date(2001, 1, 28), "2011-01")


@given(
    day=st.dates(min_value=date(2000, 1, 1), max_value=date(2049, 12, 31)),
    form=st.sampled_from(["%d/%m/%Y", "%d/%m/%y", "%d-%b-%y", "%d-%b-%Y", "%d.%m.%Y", "%Y-%m-%d", "%d %B %Y",
                          "%d/%m/%Y 00:00", "%d/%b/%Y "]),
)  # fmt: skip
def test_what_is_written_is_read_back(day: date, form: str) -> None:
    assert read_date(day.strftime(form), doubtful=False) == (day, None)


@given(st.dates(min_value=date(2000, 1, 1), max_value=date(2049, 12, 31)))
def test_serial_numbers_count_from_the_end_of_1899(day: date) -> None:
    assert read_date(str((day - date(1899, 12, 30)) // timedelta(days=1)), doubtful=False) == (day, None)


@given(text=st.text(max_size=14), doubtful=st.booleans())
def test_any_text_gets_an_answer(text: str, doubtful: bool) -> None:
    reading = read_date(text, doubtful=doubtful)
    assert reading.value is not None or reading.code is not None

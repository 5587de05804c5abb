"""Exchange rates, written down by a tenant's operator with the owner's credential. Said once: a correction is a later record."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from ntro_dagster.errors import UsageError
from ntro_dagster.gl.accounts import chart_of
from ntro_dagster.subledger.row import CurrencyCode

COLUMNS = ("from", "to", "on", "rate", "source")


class RateInvalidError(UsageError):
    """Values: `where`, `why`."""

    code = "RATE_INVALID"
    summary = "that is not an exchange rate"
    detail = "{where}: {why}"
    mend = "a rate is how many units of the second currency one of the first is worth, above zero; nothing was recorded"


class Rate(BaseModel):
    """Units of `to` for one of `origin`, on a day."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: CurrencyCode = Field(alias="from")
    to: CurrencyCode
    on: date
    rate: Annotated[Decimal, Field(gt=0, max_digits=38, decimal_places=18, allow_inf_nan=False)]
    source: Annotated[str, Field(min_length=1, pattern=r"\S")]

    @model_validator(mode="after")
    def _two(self) -> Rate:
        if self.origin == self.to:
            raise PydanticCustomError("one_currency", "both currencies are the same")
        return self


@dataclass(frozen=True, slots=True)
class Recorded:
    """`known`: of a day, currencies and source for which the same was said last."""

    new: int
    known: int


def parsed(said: dict[str, Any], where: str) -> Rate:
    """Raises: `RateInvalidError`."""
    try:
        return Rate.model_validate(said)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        raise RateInvalidError(where=where, why=f"{'.'.join(map(str, found['loc']))} {found['msg']}".strip()) from None


def read_rates(path: Path) -> list[Rate]:
    """Of a CSV with the columns `from, to, on, rate, source`. Raises: `RateInvalidError` for the first line that is none."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if set(reader.fieldnames or ()) != set(COLUMNS):
            raise RateInvalidError(where=f"{path.name} line 1", why=f"the header names {', '.join(COLUMNS)}")
        return [parsed(dict(row), f"{path.name} line {reader.line_num}") for row in reader]


def record(owner: str, rates: Iterable[Rate], *, by: str) -> Recorded:
    """All of them or none. What is the last word on a day already is not said again. Args: `owner`: URL of the owner's role."""
    said = list(rates)
    columns = [
        [rate.origin for rate in said],
        [rate.to for rate in said],
        [rate.on for rate in said],
        [rate.rate for rate in said],
        [rate.source.strip() for rate in said],
    ]
    with chart_of(owner, by) as connection, connection.cursor(row_factory=dict_row) as cursor:
        new = cursor.execute(
            """INSERT INTO ledgers.exchange_rates (from_currency, to_currency, on_date, rate, source, recorded_by)
               SELECT n.origin, n.target, n.day, n.rate, n.source, %s
                 FROM unnest(%s::text[], %s::text[], %s::date[], %s::numeric[], %s::text[])
                      WITH ORDINALITY AS n (origin, target, day, rate, source, place)
                WHERE (n.rate, n.source) IS DISTINCT FROM (
                      SELECT (r.rate, r.source) FROM ledgers.exchange_rates r
                       WHERE r.from_currency = n.origin AND r.to_currency = n.target AND r.on_date = n.day
                       ORDER BY r.id DESC LIMIT 1)
                ORDER BY place""",
            [by, *columns],
        ).rowcount
    return Recorded(new, len(said) - new)


def listed(owner: str, *, origin: str | None, to: str | None, limit: int) -> Sequence[dict[str, Any]]:
    """The last records first."""
    with chart_of(owner, "") as connection:
        return connection.execute(
            """SELECT from_currency, to_currency, on_date, rate, source, recorded_by, recorded_at FROM ledgers.exchange_rates
                WHERE (%(origin)s::text IS NULL OR from_currency = %(origin)s) AND (%(to)s::text IS NULL OR to_currency = %(to)s)
                ORDER BY on_date DESC, id DESC LIMIT %(limit)s""",
            {"origin": origin, "to": to, "limit": limit},
        ).fetchall()

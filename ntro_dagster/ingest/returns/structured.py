"""Returns of one JSON object per row, with the totals their publisher states."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ntro_dagster.ingest.finding import Finding, FindingCode
from ntro_dagster.ingest.returns.amounts import MINOR_DIGITS, read_amount
from ntro_dagster.ingest.returns.errors import DocumentTooLargeError, DocumentUnreadableError, NotAReturnError
from ntro_dagster.ingest.returns.header import chosen_columns, header_of, stated_currencies, unique_names
from ntro_dagster.ingest.returns.layout import Layout
from ntro_dagster.ingest.returns.survey import Survey, survey
from ntro_dagster.ingest.returns.vocabulary import vocabulary

MAX_JSON_BYTES = 32 * 1024 * 1024
"""JSON is read as a whole and takes about ten times its size."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""What JSON can write down with an escape, and neither UTF-8 nor PostgreSQL can hold."""


@dataclass(frozen=True)
class Controls:
    """What the publisher states about the rows, beside what they come to. None where nothing is stated."""

    stated_rows: int | None
    found_rows: int
    stated_total: Decimal | None
    found_total: Decimal

    def findings(self) -> tuple[Finding, ...]:
        """One for each figure that differs.

        Publishers' programs add up in binary floating point (14204796.489999998): a stated total counts to the second
        decimal, or to the last one its rows use, with no tolerance beyond.
        """
        differing = []
        if self.stated_rows is not None and self.stated_rows != self.found_rows:
            differing.append(Finding.of(FindingCode.CONTROL_COUNT_DIFFERS))
        if self.stated_total is not None and round(self.stated_total, self._decimals) != self.found_total:
            differing.append(Finding.of(FindingCode.CONTROL_TOTAL_DIFFERS, "amount_gross"))
        return tuple(differing)

    @property
    def _decimals(self) -> int:
        exponent = self.found_total.as_tuple().exponent
        return max(MINOR_DIGITS, -exponent) if isinstance(exponent, int) else MINOR_DIGITS


def open_structured(content: Path, encoding: str, *, name: str) -> tuple[Layout, Survey, Controls, tuple[dict[str, str], ...]]:
    """Layout, survey, controls and rows of a JSON document. Numbers keep the text they are written in.

    Raises:
        DocumentTooLargeError: over `MAX_JSON_BYTES`.
        DocumentUnreadableError: not JSON, or not in UTF-8, which RFC 8259 requires.
        NotAReturnError: no list of rows, or rows without an amount.
    """
    document = _parsed(content, encoding, name)
    rows = _rows(document, name)
    if rows is None:
        raise NotAReturnError(name=name)
    columns = columns_of(rows)
    header = header_of(columns)
    if not header.is_of_a_return:
        raise NotAReturnError(name=name)
    seen = survey(header, ([row.get(column, "") for column in columns] for row in rows))
    places, rivals = chosen_columns(header, seen.filled)
    original = dict(zip(header.columns, columns, strict=True))
    mapping = {canonical: original[column] for canonical, column in places.items()}
    layout = Layout(
        kind="json",
        encoding=encoding,
        delimiter="",
        header_line=0,
        columns=columns,
        width=len(columns),
        mapping=mapping,
        rivals={canonical: tuple(original[name] for name in names) for canonical, names in rivals.items()},
        date_order=seen.date_order(mapping.get("expense_date"), columns),
        names_entity=seen.is_filled(mapping.get("entity"), columns),
        currencies=stated_currencies(mapping),
    )
    return layout, seen, _controls(document, layout, rows), rows


def rows_of_json(content: Path, encoding: str, *, name: str) -> tuple[dict[str, str], ...] | None:
    """The objects of a JSON list, each value as the text it is written in; None where there is no list of objects.

    Raises: `DocumentTooLargeError`, `DocumentUnreadableError`.
    """
    return _rows(_parsed(content, encoding, name), name)


def columns_of(rows: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for row in rows for key in row))


def _rows(document: Any, name: str) -> tuple[dict[str, str], ...] | None:
    listed = _rows_of(document)
    if listed is None:
        return None
    rows = tuple({key: _as_text(value) for key, value in row.items()} for row in listed)
    for ordinal, row in enumerate(rows, start=1):
        if any(_UNSTORABLE.search(text) for pair in row.items() for text in pair):
            raise DocumentUnreadableError(name=name, line=ordinal, reason="a row holds escapes that are no characters")
    return rows


def _parsed(content: Path, encoding: str, name: str) -> Any:
    size = content.stat().st_size
    if size > MAX_JSON_BYTES:
        raise DocumentTooLargeError(name=name, size=size, limit=MAX_JSON_BYTES)
    if not encoding.startswith("utf-8"):
        raise DocumentUnreadableError(name=name, line=1, reason="JSON must be UTF-8")
    try:
        return json.loads(
            content.read_text(encoding=encoding),
            parse_float=str,
            parse_int=str,
            parse_constant=str,
            object_pairs_hook=_keeping_repeated_keys,
        )
    except json.JSONDecodeError as error:
        raise DocumentUnreadableError(name=name, line=error.lineno, reason="not well-formed JSON") from None
    except RecursionError:
        raise DocumentUnreadableError(name=name, line=1, reason="nested too deeply") from None


def _keeping_repeated_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    return dict(zip(unique_names(key for key, _ in pairs), (value for _, value in pairs), strict=True))


def _rows_of(document: Any) -> list[dict[str, Any]] | None:
    candidates = [document]
    if isinstance(document, Mapping):
        candidates = [document.get(key) for key in vocabulary().rows]
    for candidate in candidates:
        if isinstance(candidate, list) and all(isinstance(row, dict) for row in candidate):
            return candidate
    return None


def _as_text(value: Any) -> str:
    """Verbatim text of a value; nested values as JSON, so that nothing is lost."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _controls(document: Any, layout: Layout, rows: Iterable[Mapping[str, str]]) -> Controls:
    amounts = [read_amount(row.get(layout.mapping.get("amount_gross", ""), "")).value for row in rows]
    stated_rows = read_amount(_stated(document, "rows")).value
    return Controls(
        stated_rows=None if stated_rows is None else int(stated_rows),
        found_rows=len(amounts),
        stated_total=read_amount(_stated(document, "total")).value,
        found_total=sum((amount for amount in amounts if amount is not None), Decimal(0)),
    )


def _stated(document: Any, figure: str) -> str:
    for key in vocabulary().controls[figure]:
        document = document.get(key) if isinstance(document, Mapping) else None
    return document if isinstance(document, str) else ""

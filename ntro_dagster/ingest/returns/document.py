"""Step one: a document becomes records, nothing read into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ntro_dagster.ingest.finding import Finding, FindingCode
from ntro_dagster.ingest.returns.content import MAX_LINE_BYTES, encoding_of, is_json
from ntro_dagster.ingest.returns.delimited import delimited_records, open_delimited
from ntro_dagster.ingest.returns.layout import Layout
from ntro_dagster.ingest.returns.structured import Controls, open_structured
from ntro_dagster.ingest.returns.vocabulary import folded, vocabulary


class ReturnRecord(NamedTuple):
    """One row as published.

    Attributes:
        line: 1-based physical line the row starts on; in JSON the 1-based position of the row.
        raw: heading (spaces evened out) -> cell, verbatim. Blank cells under a blank heading are left out; nothing with
            text is. A row longer than the header has a key outside `Layout.within`, a shorter one lacks keys.
        entity: body that spent, as named in the row; None when it names none.
        period: its month, where the rows of a document name their months and this one names one.
    """

    line: int
    raw: dict[str, str]
    entity: str | None
    period: str | None = None


@dataclass(frozen=True)
class SpendReturn:
    """One published return: its layout and its rows.

    Attributes:
        name: name it was handed in under.
        layout: how to read its rows; keep it with the document.
        record_count: rows with any text, totals and notes included.
        blank_lines: rows without, below the header.
        findings: about the document as a whole.
        controls: figures its publisher states; None when the format has none.
    """

    name: str
    layout: Layout
    record_count: int
    blank_lines: int
    findings: tuple[Finding, ...]
    controls: Controls | None
    _rows: Callable[[], Iterator[tuple[int, dict[str, str]]]]

    def records(self) -> Iterator[ReturnRecord]:
        """Every row, in order, one at a time. May be called again: the file is read anew."""
        heading = self.layout.mapping.get("entity", "")
        for line, raw in self._rows():
            yield ReturnRecord(line, raw, named(raw.get(heading, ""), heading))


def named(cell: str, heading: str) -> str | None:
    """The body a cell names; None when it is blank, says so (`n/a`), or repeats its own heading."""
    name = cell.strip()
    says_nothing = not name or name.casefold() in vocabulary().blank or folded(name) == folded(heading)
    return None if says_nothing else name


def open_return(content: Path, *, name: str) -> SpendReturn:
    """Looks a document over, and refuses it or says how it is laid out.

    Reads the file twice and holds one block or row at a time (JSON: the whole, within its own limit), so memory does not
    grow with the document.

    Args:
        content: file with the bytes as received.
        name: name the publisher gave it, for messages; the format is told from the content, not from the name.

    Raises:
        DocumentRefusedError: see errors.py for the kinds.
    """
    if is_json(content):
        encoding = encoding_of(content, name=name, max_line=None)
        layout, seen, controls, listed = open_structured(content, encoding, name=name)
        return SpendReturn(
            name=name,
            layout=layout,
            record_count=len(listed),
            blank_lines=0,
            findings=(*_findings(layout, seen.records), *controls.findings()),
            controls=controls,
            _rows=lambda: ((ordinal, dict(row)) for ordinal, row in enumerate(listed, start=1)),
        )
    encoding = encoding_of(content, name=name, max_line=MAX_LINE_BYTES)
    layout, seen = open_delimited(content, encoding, name=name)
    return SpendReturn(
        name=name,
        layout=layout,
        record_count=seen.records,
        blank_lines=seen.blank_lines,
        findings=_findings(layout, seen.records),
        controls=None,
        _rows=lambda: delimited_records(content, layout, name=name),
    )


def _findings(layout: Layout, records: int) -> tuple[Finding, ...]:
    if layout.names_entity or not records:
        return ()
    return (Finding.of(FindingCode.ENTITY_MISSING, "entity"),)

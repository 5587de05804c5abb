"""The words of published returns, from `columns.yaml`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

_SOURCE = Path(__file__).with_name("columns.yaml")
_LEADING_NUMBER = re.compile(r"^\s*[0-9]+[.)]?\s+")
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[\W_]+")


def folded(text: str) -> str:
    """`text` without case, spaces, punctuation, currency signs or a leading number: what spellings are compared by."""
    return _NEITHER_LETTER_NOR_DIGIT.sub("", _LEADING_NUMBER.sub("", text).casefold())


@dataclass(frozen=True)
class Vocabulary:
    """What the reader knows about wording.

    Attributes:
        columns: folded spelling -> (canonical column, rank); the lower rank wins.
        blank: case-folded cells that mean nothing.
        withheld: folded names that stand for a name not published.
        totals: folded openings of lines that are no payments.
        months: lower-case month name -> 1..12.
        currencies: sign or lower-case code -> ISO 4217 codes it may stand for.
        controls: control figure -> path to it in a JSON return.
        rows: keys under which a JSON return keeps its rows.
    """

    columns: Mapping[str, tuple[str, int]]
    blank: frozenset[str]
    withheld: frozenset[str]
    totals: frozenset[str]
    months: Mapping[str, int]
    currencies: Mapping[str, frozenset[str]]
    controls: Mapping[str, Sequence[str]]
    rows: Sequence[str]

    def column(self, heading: str) -> tuple[str, int] | None:
        """Canonical column and rank of a heading; None when the heading is unknown."""
        return self.columns.get(folded(heading))

    def currencies_in(self, heading: str) -> frozenset[str]:
        """Currencies a heading may state (`Amount (£)` -> GBP); empty when it states none."""
        words = re.findall(r"[A-Za-z]+|[^\w\s]", heading.casefold().replace("_", " "))
        return frozenset().union(*(self.currencies[word] for word in words if word in self.currencies))


@cache
def vocabulary() -> Vocabulary:
    """The one vocabulary, read once."""
    words: dict[str, Any] = yaml.safe_load(_SOURCE.read_text(encoding="utf-8"))
    return Vocabulary(
        columns={
            folded(spelling): (canonical, rank)
            for canonical, spellings in words["columns"].items()
            for rank, spelling in enumerate(spellings)
        },
        blank=frozenset(words["blank"]),
        withheld=frozenset(map(folded, words["withheld"])),
        totals=frozenset(map(folded, words["totals"])),
        months=words["months"],
        currencies={sign: frozenset(codes) for sign, codes in words["currencies"].items()},
        controls=words["controls"],
        rows=words["rows"],
    )

"""How the documents of a source are read: what a runbook's frontmatter says of it, as data.

    sources:
      agent-rents: {reader: table, entity: landlord_id, period: month}

A source of which nothing is said is read as spending returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from ntro_dagster.errors import UsageError


class Reader(StrEnum):
    SPEND_RETURN = "spend-return"
    """Published spending returns: headings as the world writes them, one month a document."""
    TABLE = "table"
    """A header row and one record per line, kept as text; entity and month of each record stand in columns of it."""


class SourceInvalidError(UsageError):
    """Values: `source`, `why`."""

    code = "SOURCE_INVALID"
    summary = "a runbook does not say properly how a source is read"
    detail = "source {source}: {why}"
    mend = "docs/runbooks.md, 'Tables', shows how a source is declared"


@dataclass(frozen=True, slots=True)
class Source:
    """
    Attributes:
        entity: column that names a record's entity; None: a document is one entity's, named when it is filed.
        period: column whose text begins with a record's month, `YYYY-MM`; None: a document is one month's.
    """

    reader: Reader = Reader.SPEND_RETURN
    entity: str | None = None
    period: str | None = None

    @classmethod
    def of(cls, name: str, declared: Mapping[str, Any]) -> Source:
        """Raises `SourceInvalidError`."""
        unknown = sorted(declared.keys() - {"reader", "entity", "period"})
        if unknown:
            raise SourceInvalidError(source=name, why=f"nothing is known by the name of {', '.join(map(str, unknown))}")
        if declared.get("reader") not in set(Reader):
            raise SourceInvalidError(source=name, why=f"`reader` is one of {', '.join(Reader)}")
        columns = {each: declared.get(each) for each in ("entity", "period")}
        for each, column in columns.items():
            if column is not None and (not isinstance(column, str) or not column.strip()):
                raise SourceInvalidError(source=name, why=f"`{each}` names a column")
        source = cls(Reader(declared["reader"]), **columns)
        if source.reader is not Reader.TABLE and (source.entity or source.period):
            raise SourceInvalidError(source=name, why=f"a {source.reader} finds entity and period by itself")
        return source

    def as_dict(self) -> dict[str, str]:
        return {each: str(value) for each, value in asdict(self).items() if value is not None}

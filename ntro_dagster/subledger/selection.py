"""Which rows of a subledger are meant: a filter that a page, a saved view and a decision share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import sql

from ntro_dagster.platforms.postgres.database import identifiers
from ntro_dagster.platforms.tables import LogicalType
from ntro_dagster.subledger.description import TypeDescription
from ntro_dagster.subledger.registry import SubledgerType


@dataclass(frozen=True, slots=True)
class Filter:
    """Rows for which everything that is given holds; all rows, where nothing is.

    Attributes:
        entity: its id, or its slug.
        period: `YYYY-MM`.
        text: found anywhere in a text column of the content, or in `source_ref`, in upper or lower case.
    """

    entity: UUID | str | None = None
    period: str | None = None
    statuses: Sequence[str] | None = None
    text: str | None = None
    ids: Sequence[UUID] | None = None

    def to_sql(self, kind: SubledgerType | TypeDescription) -> tuple[sql.Composable, list[Any]]:
        """A condition on row `t` of the subledger's table, with its parameters in order."""
        given = self._given(kind)
        return _all(condition.format(sql.Placeholder()) for _, condition, _ in given), [value for _, _, value in given]

    def to_named_sql(self, kind: SubledgerType | TypeDescription) -> tuple[sql.Composable, dict[str, Any]]:
        """The same with its parameters by name, all of which begin with `filter_`."""
        given = self._given(kind)
        return _all(condition.format(sql.Placeholder(name)) for name, condition, _ in given), {
            name: value for name, _, value in given
        }

    def _given(self, kind: SubledgerType | TypeDescription) -> list[tuple[str, sql.SQL, Any]]:
        """Name, condition and value of each thing that is given."""
        entity = "{}" if isinstance(self.entity, UUID) else "(SELECT e.id FROM system.entities e WHERE e.slug = {})"
        found = [
            ("filter_entity", sql.SQL("t.entity_id = " + entity), self.entity),
            ("filter_period", sql.SQL("t.period = {}"), self.period),
            ("filter_statuses", sql.SQL("t.status = ANY({})"), None if self.statuses is None else list(self.statuses)),
            ("filter_ids", sql.SQL("t.id = ANY({})"), None if self.ids is None else list(self.ids)),
        ]
        if self.text:
            found.append(("filter_text", sql.SQL(_searched(kind) + " ILIKE {}"), f"%{_escaped(self.text)}%"))
        return [one for one in found if one[2] is not None]


def _all(conditions: Iterable[sql.Composable]) -> sql.Composable:
    return sql.SQL(" AND ").join([sql.SQL("TRUE"), *conditions])


def _searched(kind: SubledgerType | TypeDescription) -> str:
    """The text columns of row `t` in one, with a character between them that nobody types."""
    described = kind if isinstance(kind, TypeDescription) else TypeDescription.of(kind)
    texts = [name for name in described.content if described.columns[name] == LogicalType.TEXT]
    return f"concat_ws(chr(31), {identifiers([*texts, 'source_ref'], prefix='t').as_string()})"


def _escaped(text: str) -> str:
    """What LIKE takes literally: a person who types % means a per cent sign."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

"""Which rows of a subledger are meant: a filter that a page, a saved view and a decision share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from psycopg import sql

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

    def to_sql(self, kind: SubledgerType | TypeDescription) -> tuple[sql.Composable, dict[str, Any]]:
        """A condition on row `t` of the subledger's table, with its parameters by name; all names begin with `filter_`."""
        parts: list[sql.Composable] = [sql.SQL("TRUE")]
        given: dict[str, Any] = {}
        if self.entity is not None:
            slug = "(SELECT e.id FROM system.entities e WHERE e.slug = %(filter_entity)s)"
            parts.append(sql.SQL("t.entity_id = " + (slug if isinstance(self.entity, str) else "%(filter_entity)s")))
            given["filter_entity"] = self.entity
        if self.period is not None:
            parts.append(sql.SQL("t.period = %(filter_period)s"))
            given["filter_period"] = self.period
        if self.statuses is not None:
            parts.append(sql.SQL("t.status = ANY(%(filter_statuses)s)"))
            given["filter_statuses"] = list(self.statuses)
        if self.ids is not None:
            parts.append(sql.SQL("t.id = ANY(%(filter_ids)s)"))
            given["filter_ids"] = list(self.ids)
        if self.text:
            found = [sql.SQL("{} ILIKE %(filter_text)s").format(column) for column in _searched(kind)]
            parts.append(sql.SQL("({})").format(sql.SQL(" OR ").join(found)))
            given["filter_text"] = f"%{_escaped(self.text)}%"
        return sql.SQL(" AND ").join(parts), given


def _searched(kind: SubledgerType | TypeDescription) -> list[sql.Identifier]:
    described = kind if isinstance(kind, TypeDescription) else TypeDescription.of(kind)
    texts = [name for name in described.content if described.columns[name] == LogicalType.TEXT]
    return [sql.Identifier("t", name) for name in [*texts, "source_ref"]]


def _escaped(text: str) -> str:
    """What LIKE takes literally: a person who types % means a per cent sign."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")

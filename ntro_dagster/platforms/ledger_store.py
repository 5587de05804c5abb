"""What a data platform must be able to say about subledger tables: eleven statement shapes, each set-based.

`platforms.postgres.ledger_store` says them in PostgreSQL. Snowflake and Fabric implement this protocol later; nothing above
it writes SQL about a subledger's rows. Every method works within the caller's transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from ntro_dagster.platforms.tables import Table


@dataclass(frozen=True, slots=True)
class Where:
    """Which rows: every condition that is given must hold. A sequence means any of its values."""

    entity_id: UUID | None = None
    period: str | Sequence[str] | None = None
    status: str | Sequence[str] | None = None
    ids: Sequence[UUID] | None = None

    def equal(self) -> dict[str, Any]:
        """Column -> value or values."""
        return {"entity_id": self.entity_id, "period": self.period, "status": self.status, "id": self.ids}


@dataclass(frozen=True, slots=True)
class Merge:
    """How rows that no person has made take over what lies in their table's stage.

    Attributes:
        assign: columns taken from the stage.
        staged_status: the status that the staged row must have; None: the same as the row's.
        if_different: columns of which at least one must differ; empty: no such condition.
    """

    assign: Sequence[str]
    staged_status: str | None = None
    if_different: Sequence[str] = ()


class LedgerStore(Protocol):
    """Eleven shapes. Counts are rows touched."""

    async def create_stage(self, table: Table, columns: Sequence[str]) -> None:
        """An empty stage beside the table, gone with the transaction."""

    async def load_stage(self, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Bulk-load rows into the stage. Structures are plain lists and dicts of what JSON knows."""

    async def insert_missing(self, table: Table, columns: Sequence[str], constants: Mapping[str, Any] | None = None) -> int:
        """Insert staged rows whose id is not there yet; `constants` are columns with one value for all."""

    async def merge(self, table: Table, where: Where, how: Merge, *, task_id: UUID) -> int:
        """Update the rows that `where` finds from the stage, by id."""

    async def repeated(self, table: Table, where: Where, *, task_id: UUID) -> str | None:
        """A source that this transaction has staged twice, with different content: which row it means is anybody's guess."""

    async def clear_stage(self, table: Table, *, drop: bool = False) -> None:
        """Empty the stage; with `drop`, be done with it."""

    async def set_status(self, table: Table, where: Where, status: str, *, task_id: UUID, approved_by: str | None = None) -> int:
        """Move the rows that `where` finds, which names the status they must be in."""

    async def set_values(self, table: Table, where: Where, values: Mapping[str, Any], *, task_id: UUID) -> int:
        """Set columns of the rows that `where` finds."""

    def select(self, table: Table, where: Where) -> AsyncIterator[list[dict[str, Any]]]:
        """Rows in the order they came, in batches, however many."""

    async def count_by(self, table: Table, where: Where, by: Sequence[str]) -> list[dict[str, Any]]:
        """`rows` for each combination of the columns `by`, in their order."""

    async def digest(self, table: Table, where: Where, *, salt: bytes) -> bytes:
        """SHA-256 over the salt and every row's id, status and content digest, in id order."""

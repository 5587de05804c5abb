"""What an author writes in assets.py: generators of payloads, each with the subledger that it fills.

Without Dagster, which takes a second to import: what a bundle defines is looked at before anything is made of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ntro_dagster.bundles import Bundle, bundle_of
from ntro_dagster.orchestration.context import RunbookContext
from ntro_dagster.subledger.registry import SubledgerType, subledger_type
from ntro_dagster.subledger.staging import Payload

if TYPE_CHECKING:
    from dagster import AssetKey

Author = Callable[[RunbookContext], AsyncIterator[Payload | Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class SubledgerAsset:
    """An author's function, and the subledger it fills: `name` as the author calls it.

    Attributes:
        rows: the subledgers of whose rows it makes its own; none: it reads documents.
        earlier: whether it looks at the rows of the entity's earlier months too.
    """

    name: str
    author: Author
    rows: tuple[str, ...] = ()
    earlier: bool = False

    @property
    def bundle(self) -> Bundle | None:
        return bundle_of(self.author.__module__)

    @property
    def kind(self) -> SubledgerType:
        """Raises `SubledgerNotFoundError`."""
        bundle = self.bundle
        return subledger_type(self.name, bundle.slug if bundle else None, bundle.version if bundle else None)

    @property
    def table(self) -> str:
        return self.kind.table

    @property
    def key(self) -> AssetKey:
        from ntro_dagster.orchestration.assets import ledger_key  # noqa: PLC0415 - needs Dagster

        return ledger_key(self.table)


def subledger_asset(name: str, *, rows: Sequence[str] = (), earlier: bool = False) -> Callable[[Author], SubledgerAsset]:
    """Decorator for an async generator of payloads: the platform validates, stages, counts and fingerprints them.

    Args:
        rows: subledgers of whose reviewed rows the payloads are made (`run.rows`), instead of records of documents.
        earlier: whether rows of the entity's earlier months are looked at too.
    """

    def wrap(author: Author) -> SubledgerAsset:
        return SubledgerAsset(name, author, tuple(rows), earlier)

    return wrap


def ledgers_of(module: ModuleType) -> list[SubledgerAsset]:
    """The `@subledger_asset`s of an assets module, in the order they stand there."""
    return [value for value in vars(module).values() if isinstance(value, SubledgerAsset)]

"""Approved rows become journals in the tenant's own books, exactly once.

One transaction writes the journals, their lines, and POSTED with the journal's reference on the rows: whatever dies,
either all of a batch is there or none of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ntro_dagster.errors import NtroError
from ntro_dagster.gl.batches import Batches
from ntro_dagster.subledger.handle import SubledgerHandle


@dataclass(frozen=True, slots=True)
class Posted:
    """Attributes:
    waiting: journals that are on their way to another ledger still.
    troubles: what somebody may want to know of, and nobody has to do anything about.
    """

    rows: int = 0
    batches: int = 0
    waiting: int = 0
    troubles: tuple[NtroError, ...] = ()


async def post_approved(handle: SubledgerHandle, *, period: str, currency: str) -> Posted:
    """Post every approved row of the partition: those in the status before the posted one. Nothing, where the type has none.

    Args:
        currency: the entity's: for proposals that name none, and what journals in another are translated into.

    Raises: `AccountRoleMissingError`, `RowsLostError`, `RefusedByDatabaseError` of a closed month; batches before the failing one
        stay posted. `RowsNotPostedError`, `RateMissingError` when everything else is posted.
    """
    posted = Posted()
    if handle.kind.lifecycle.posted is None:
        return posted
    batch = await Batches.of(handle, period=period, currency=currency)
    while await batch.post():
        posted = Posted(posted.rows + batch.posted, posted.batches + 1)
    batch.refuse_the_rest()
    return posted

"""Posting, wherever the entity keeps its general ledger."""

from __future__ import annotations

from ntro_dagster.gl.delivery import deliver_approved
from ntro_dagster.gl.posting import Posted, post_approved
from ntro_dagster.gl.providers.native import NATIVE
from ntro_dagster.gl.providers.resolve import setting_of
from ntro_dagster.subledger.handle import SubledgerHandle


async def post(handle: SubledgerHandle, *, period: str, currency: str) -> Posted:
    """Every approved row of the partition, into the tenant's own books: at once, or when the entity's ledger has confirmed it.

    Raises: as `post_approved` and `deliver_approved`.
    """
    setting = await setting_of(handle.database, handle.entity_id)
    if setting.provider == NATIVE:
        return await post_approved(handle, period=period, currency=currency)
    return await deliver_approved(handle, period=period, currency=currency, setting=setting)

"""Which general ledger an entity has, by the tenant's settings (spec 12)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType
from typing import Any
from uuid import UUID

from ntro_dagster.gl.providers.errors import ProviderNotRegisteredError
from ntro_dagster.gl.providers.native import NATIVE, Native
from ntro_dagster.gl.providers.provider import GLProvider
from ntro_dagster.platforms.environment import database_from_environment
from ntro_dagster.platforms.postgres.database import TenantDatabase

PROVIDERS: Mapping[str, tuple[str, str]] = {
    "beancount": ("ntro_dagster.gl.providers.beancount", "Beancount"),
    "erpnext": ("ntro_dagster.gl.providers.erpnext", "Erpnext"),
    "hledger": ("ntro_dagster.gl.providers.hledger", "Hledger"),
    "xero": ("ntro_dagster.gl.providers.xero", "Xero"),
}
"""By name: module and class, imported when they are needed."""


@dataclass(frozen=True, slots=True)
class GLSetting:
    """Attributes: `id`: of the record that holds; None where there is none: the ledger is the tenant's own books."""

    provider: str = NATIVE
    place: str = ""
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    id: int | None = None


async def setting_of(database: TenantDatabase, entity_id: UUID) -> GLSetting:
    """What holds for the entity now: its own setting, else the tenant's."""
    row = await database.fetch_one("SELECT provider, place, options, id FROM ledgers.gl_setting(%s)", [entity_id])
    return GLSetting(**row) if row else GLSetting()


def provider_of(setting: GLSetting, *, entity: str) -> GLProvider:
    """Any but `native`. Args: `entity`: its slug: ledgers in files have a file for each.

    Raises: `ProviderNotRegisteredError`, `OptionsInvalidError`.
    """
    if setting.provider not in PROVIDERS:
        raise ProviderNotRegisteredError(provider=setting.provider, known=", ".join([NATIVE, *PROVIDERS]))
    module, name = PROVIDERS[setting.provider]
    made: GLProvider = getattr(import_module(module), name)(setting.options, entity=entity)
    return made


async def for_entity(entity_id: UUID, *, database: TenantDatabase | None = None, setting: GLSetting | None = None) -> GLProvider:
    """The general ledger of an entity.

    Args:
        database: the tenant's; else the one that this process is bound to.
        setting: what holds for the entity, where that is known already.

    Raises: `ProviderNotRegisteredError`, `OptionsInvalidError`.
    """
    opened = database or database_from_environment()
    holds = setting or await setting_of(opened, entity_id)
    native = Native(opened, entity_id)
    if holds.provider == NATIVE:
        return native
    row = await opened.fetch_single("SELECT slug FROM system.entities WHERE id = %s", [entity_id])
    provider = provider_of(holds, entity=row["slug"])
    provider.chart = {account.code: account for account in await native.accounts()}
    return provider

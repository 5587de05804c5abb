"""The chart of accounts: what a new tenant begins with, and how a program finds an account without knowing its code."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.resources import files

import psycopg

from ntro_dagster.errors import NtroError
from ntro_dagster.platforms.postgres.database import TenantDatabase


class AccountRole(StrEnum):
    """What a program needs an account for. Every role has one account at most, but BANK."""

    BANK = "BANK"
    CREDITORS = "CREDITORS"
    VAT = "VAT"
    SUSPENSE = "SUSPENSE"
    ROUNDING = "ROUNDING"
    RETAINED_EARNINGS = "RETAINED_EARNINGS"


class AccountRoleMissingError(NtroError):
    """Values: `role`."""

    code = "ACCOUNT_ROLE_MISSING"
    summary = "no account of the chart has a role that is needed"
    detail = "no account of the chart has the role {role}"
    mend = "give it to an account: `ntro account role CODE {role}`"


@dataclass(frozen=True, slots=True)
class NamedAccounts:
    """Codes of accounts by role."""

    codes: Mapping[str, str] = field(default_factory=dict)

    def of(self, role: AccountRole) -> str:
        """Raises: `AccountRoleMissingError`."""
        if role not in self.codes:
            raise AccountRoleMissingError(role=role)
        return self.codes[role]


async def named_accounts(database: TenantDatabase) -> NamedAccounts:
    """Of the tenant's chart: accounts that have a role, without banks, of which there may be many."""
    rows = await database.fetch("SELECT role, code FROM ledgers.accounts WHERE role <> 'BANK'")
    return NamedAccounts({row["role"]: row["code"] for row in rows})


def first_chart() -> list[dict[str, str | None]]:
    """What a new tenant begins with: `code`, `name`, `type`, `role`."""
    with (files("ntro_dagster.gl") / "chart.csv").open(encoding="utf-8") as file:
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]


def install_chart(owner: psycopg.Connection) -> None:
    """Give a tenant its first chart, as the owner of its database; accounts that are there stay as they are."""
    owner.cursor().executemany(
        "INSERT INTO ledgers.accounts (code, name, type, role) VALUES (%(code)s, %(name)s, %(type)s, %(role)s) "
        "ON CONFLICT (code) DO NOTHING",
        first_chart(),
    )

"""Reports from the general ledger: one shape, one file each. Each is checked against the books in another way, and says so."""

from __future__ import annotations

from enum import StrEnum

from ntro_dagster.gl.reports.balances import Basis
from ntro_dagster.gl.reports.creditors import creditors
from ntro_dagster.gl.reports.journals import journals
from ntro_dagster.gl.reports.ledger import ledger
from ntro_dagster.gl.reports.nav import nav
from ntro_dagster.gl.reports.report import About, Report
from ntro_dagster.gl.reports.trial_balance import Compared, trial_balance
from ntro_dagster.platforms.postgres.database import TenantDatabase

__all__ = ["TITLES", "Basis", "Compared", "Report", "ReportName", "report"]


class ReportName(StrEnum):
    TRIAL_BALANCE = "trial-balance"
    LEDGER = "ledger"
    JOURNALS = "journals"
    CREDITORS = "creditors"
    NAV = "nav"


TITLES = {
    ReportName.TRIAL_BALANCE: "Trial balance",
    ReportName.LEDGER: "General ledger",
    ReportName.JOURNALS: "Journals",
    ReportName.CREDITORS: "Aged creditors",
    ReportName.NAV: "Net asset value",
}


async def report(
    name: ReportName,
    database: TenantDatabase,
    about: About,
    *,
    basis: Basis = Basis.CUMULATIVE,
    compare: Compared | None = None,
    account: str | None = None,
) -> Report:
    """Within `one_instant`, which lasts until its rows are read.

    Args: `basis`, `compare`: of a trial balance; `account`: of a general ledger.

    Raises: `AccountRoleMissingError`.
    """
    match name:
        case ReportName.TRIAL_BALANCE:
            made = await trial_balance(database, about, basis=basis, compare=compare)
        case ReportName.LEDGER:
            made = await ledger(database, about, account=account)
        case ReportName.JOURNALS:
            made = await journals(database, about)
        case ReportName.CREDITORS:
            made = await creditors(database, about)
        case ReportName.NAV:
            made = await nav(database, about)
    made.name = name.value
    return made

"""The list of schedules beside a tenant's active runbooks: how cron and time zone reach processes that have no database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ntro_dagster.boundary.schedules import Schedule
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.host.home import TenantHome, write_private


def entries(scheduled: Iterable[tuple[str, Schedule]]) -> tuple[dict[str, str], ...]:
    """Runbooks and their times, each once: 200 entities on one cron are one schedule."""
    return tuple({"runbook": runbook, "cron": time.cron, "timezone": time.timezone} for runbook, time in sorted(set(scheduled)))


def write_schedules(tenant: TenantHome, scheduled: Iterable[tuple[str, Schedule]]) -> bool:
    """Whether that changed anything."""
    path = tenant.root / "active.json"
    known, wanted = ActiveSet.read(path), entries(scheduled)
    if known.schedules == wanted:
        return False
    write_private(path, replace(known, schedules=wanted).to_json())
    return True

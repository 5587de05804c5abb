"""The list of schedules beside a tenant's active runbooks: how cron and time zone reach processes that have no database."""

from __future__ import annotations

from collections.abc import Iterable

from ntro_dagster.workspace.workflows import Workflow


def scheduled(workflows: Iterable[Workflow]) -> tuple[dict[str, str], ...]:
    """Runbooks and their times, each once: 200 entities on one cron are one schedule. For `ActiveSet.schedules`."""
    bound = {(each.binding.runbook, each.binding.schedule) for each in workflows if each.binding.schedule}
    times = sorted((runbook, time.cron, time.timezone) for runbook, time in bound if time)
    return tuple({"runbook": runbook, "cron": cron, "timezone": timezone} for runbook, cron, timezone in times)

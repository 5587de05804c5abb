"""Workflows and schedules through the command line, with the real webserver, daemon and code server."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import psycopg
import pytest
from cli_home import CommandLine, installed

RUNBOOK, LONDON = "expense-processor", ("--schedule", "0 8 5 * *", "--timezone", "Europe/London")
SPV = ("--runbook", RUNBOOK, "--entity", "spv-1")


@pytest.fixture(scope="module")
def ntro() -> Iterator[CommandLine]:
    with installed() as ready:
        yield ready


@pytest.fixture(autouse=True)
def nothing_bound(ntro: CommandLine) -> Iterator[None]:
    yield
    for workflow in ntro.ok("workflow", "bindings"):
        ntro.ok("workflow", "unbind", workflow["workflow_id"])


def in_dagster(ntro: CommandLine) -> list[tuple[str, str]]:
    """Cron and time zone of every schedule that Dagster's pages show."""
    query = """{ repositoryOrError(repositorySelector: {repositoryLocationName: "acme", repositoryName: "__repository__"}) {
        ... on Repository { schedules { cronSchedule executionTimezone } } } }"""
    address = ntro.ok("status")["addresses"]["dagster"]
    request = urllib.request.Request(  # noqa: S310 - our own webserver
        f"{address}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        found = json.load(answer)["data"]["repositoryOrError"]["schedules"]
    return [(each["cronSchedule"], each["executionTimezone"]) for each in found]


def until(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.5)


def bound_since(ntro: CommandLine, days: int) -> None:
    """As if everything had been bound so many days ago."""
    with psycopg.connect((ntro.home / "credentials" / "workspace").read_text().strip()) as connection:
        connection.execute("UPDATE registry.workflows SET created_at = %s", [datetime.now(UTC) - timedelta(days=days)])


def test_bound_listed_held_and_ended(ntro: CommandLine) -> None:
    assert ntro.ok("schedule", "list") == []
    made = ntro.ok("workflow", "bind", RUNBOOK, "--tenant", "acme", "--entity", "spv-1", *LONDON)
    assert ntro.ok("workflow", "bind", RUNBOOK, "--tenant", "acme", "--entity", "spv-1", *LONDON) == made
    assert in_dagster(ntro) == [("0 8 5 * *", "Europe/London")]
    starts = ntro.ok("schedule", "list", "--next", "14")
    assert len(starts) == 14
    for start in starts:
        at = datetime.fromisoformat(start["at"])
        assert at == datetime.fromisoformat(start["at_utc"])
        assert at.astimezone(ZoneInfo("Europe/London")).strftime("%d %H:%M") == "05 08:00"
        assert start["period"] == f"{at.replace(day=1) - timedelta(days=1):%Y-%m}"
    assert ntro.ok("schedule", "pause", *SPV)["paused"]
    assert {start["paused"] for start in ntro.ok("schedule", "list")} == {True}
    assert "PAUSED" in ntro("schedule", "list").out
    assert not ntro.ok("schedule", "resume", made["workflow_id"][:8])["paused"]
    assert ntro.ok("workflow", "unbind", *SPV)["closed"]
    assert ntro.ok("schedule", "list") == []
    assert in_dagster(ntro) == []


def test_what_is_refused(ntro: CommandLine) -> None:
    bind = ("workflow", "bind", RUNBOOK, "-t", "acme", "-e", "spv-1")
    assert ntro.refused(*bind, "--schedule", "*/5 * * * *") == ("CRON_INVALID", 2)
    assert ntro.refused(*bind, "--schedule", "0 8 5 * *", "--timezone", "Europe/Londno") == ("TIMEZONE_INVALID", 2)
    assert ntro.refused(*bind, "--pin", "latest") == ("VERSION_INVALID", 2)
    assert ntro.refused(*bind, "--period-offset", "1") == ("PERIOD_OFFSET_INVALID", 2)
    assert ntro.refused("workflow", "bind", RUNBOOK, "-t", "acme", "-e", "spv-9") == ("ENTITY_NOT_FOUND", 4)
    assert ntro.refused("workflow", "bind", "no-such", "-t", "acme", "-e", "spv-1") == ("RUNBOOK_NOT_DEPLOYED", 2)
    assert ntro.refused(*bind, "--pin", "v_000000000000") == ("VERSION_NOT_FOUND", 4)
    assert ntro.refused("schedule", "pause", "00000000") == ("WORKFLOW_NOT_FOUND", 4)
    assert ntro.ok("workflow", "bindings") == []


def test_missed_months_are_run_when_they_are_asked_for_and_once(ntro: CommandLine) -> None:
    ntro.ok("workflow", "bind", RUNBOOK, "--tenant", "acme", "--entity", "spv-1", *LONDON)
    assert ntro.ok("schedule", "catch-up", "--run") == []
    bound_since(ntro, 63)
    listed = ntro.ok("schedule", "catch-up")
    assert len(listed) in {1, 2, 3}
    assert {gap["run_id"] for gap in listed} == {None}
    assert ntro.ok("run", "list") == []
    started = ntro.ok("schedule", "catch-up", "--run")
    assert [gap["period"] for gap in started] == [gap["period"] for gap in listed]
    assert ntro.ok("schedule", "catch-up") == ntro.ok("schedule", "catch-up", "--run") == []
    until(lambda: {run["status"] for run in ntro.ok("run", "list")} == {"SUCCESS"}, 120)
    runs = ntro.ok("run", "list")
    assert {run["run_id"] for run in runs} == {gap["run_id"] for gap in started}
    assert {(run["runbook"], run["entity"], run["work"], run["assets"]) for run in runs} == {(RUNBOOK, "spv-1", None, 2)}


@pytest.mark.long
def test_the_daemon_fires_when_it_was_said_to(ntro: CommandLine) -> None:
    """It looks for new schedules once a minute, so the tick is some minutes ahead."""
    at = (datetime.now(UTC) + timedelta(minutes=3)).astimezone(ZoneInfo("America/New_York"))
    cron = f"{at.minute} {at.hour} * * *"
    before = {run["run_id"] for run in ntro.ok("run", "list")}
    ntro.ok("workflow", "bind", RUNBOOK, "-t", "acme", "-e", "spv-1", "--schedule", cron, "--timezone", "America/New_York")
    (start,) = ntro.ok("schedule", "list", "--next", "1")
    until(lambda: len(ntro.ok("run", "list")) > len(before), 330)
    (run,) = [run for run in ntro.ok("run", "list") if run["run_id"] not in before]
    assert (run["period"], run["entity"], run["work"]) == (start["period"], "spv-1", None)
    assert datetime.fromisoformat(run["created"]) >= datetime.fromisoformat(start["at"])

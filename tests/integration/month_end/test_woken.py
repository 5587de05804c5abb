"""Work that is done without a tick: documents, decisions and what follows, under a daemon whose sensors tick once an hour.

And, under the real one, without a wake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from installed import APPROVER, PREPARER, Client, Site, add_tenant, eventually, installed, invent
from killing import _kill

from ntro_dagster.host.launch import read_environment, write_environment
from ntro_dagster.host.supervision import ProcessSpec
from ntro_dagster.tenant.waking import NAME, SWITCH
from ntro_dagster.workspace.waking import NAME as DAEMONS

PERIOD = "2026-03"
TENANT, ENTITY, OTHER = "alpha", "spv-1", "spv-2"
ROWS = 8
RARELY = Path(__file__).with_name("rarely.py")
REASON = "not ours"


@dataclass(frozen=True)
class Quiet:
    """A site whose sensors tick once an hour, with a month that has been staged all the same."""

    site: Site
    client: Client
    daemon: ProcessSpec
    """The real one."""

    def listeners(self) -> set[tuple[str, int]]:
        """Name and process of each connection that listens, in either plane."""
        with psycopg.connect(self.site.installation.admin_dsn()) as admin:
            return set(
                admin.execute(
                    "SELECT application_name, pid FROM pg_stat_activity WHERE application_name = ANY(%s)", [[NAME, DAEMONS]]
                ).fetchall()
            )

    def listen(self, but: set[tuple[str, int]] = frozenset()) -> bool:  # type: ignore[assignment]
        """Whether both do, over other connections than before."""
        try:
            return {name for name, _ in self.listeners() - but} == {NAME, DAEMONS}
        except psycopg.OperationalError:
            return False

    def wakes(self) -> int:
        return int(self.client.value("SELECT count(*) FROM system.transcript WHERE call = 'wake'"))

    def decide_one(self) -> None:
        """File a decision over one row, and see it applied."""
        row = self.client.ask("SELECT id FROM ledgers.expenses WHERE status = 'PENDING' AND period = %s LIMIT 1", [PERIOD])
        self.client.decide("reject", PREPARER, reason=REASON, ids=[row[0]["id"]])
        eventually(self.client.decided, "the decision is applied")


@pytest.fixture(scope="module")
def quiet() -> Iterator[Quiet]:
    with installed() as site, pytest.MonkeyPatch.context() as patch:
        client = add_tenant(site, TENANT, "Alpha Fund", {ENTITY: ENTITY, OTHER: OTHER})
        installation = site.installation
        webserver, daemon = installation._workspace_processes()
        seldom = replace(daemon, argv=[*daemon.argv[:2], str(RARELY), *daemon.argv[4:]])
        patch.setattr(installation, "_workspace_processes", lambda: [webserver, seldom])
        installation.start_services()
        made = Quiet(site, client, daemon)
        eventually(made.listen, "tenant and daemon listen")
        for entity in (ENTITY, OTHER):
            client.submit(invent(site.home.root / f"{entity}.csv", PERIOD, ROWS).path, PERIOD, entity)
            eventually(lambda: client.staged(PERIOD), f"the document of {entity} is staged")
        yield made


def test_a_decision_and_all_that_follows_from_it_happen_without_a_tick(quiet: Quiet) -> None:
    """One wake by the decision; then the end of each run is followed by the next one."""
    client = quiet.client
    client.decide("approve", APPROVER, entity=ENTITY, period=PERIOD, status="PENDING")
    eventually(lambda: client.closed(PERIOD, ENTITY), "approved, posted and closed")
    assert client.statuses(ENTITY, PERIOD) == {"POSTED": ROWS}


def test_what_the_workspace_was_told_is_the_word_alone(quiet: Quiet) -> None:
    told = quiet.client.ask("SELECT DISTINCT sent, told, run_id FROM system.transcript WHERE call = 'wake'")
    assert [(bytes(row["sent"]), row["told"], row["run_id"]) for row in told] == [(b"", None, None)]


def test_listeners_whose_sessions_were_ended_come_back(quiet: Quiet) -> None:
    before = quiet.listeners()
    with psycopg.connect(quiet.site.installation.admin_dsn()) as admin:
        for _, pid in before:
            admin.execute("SELECT pg_terminate_backend(%s)", [pid])
    eventually(lambda: quiet.listen(but=before), "both listen again")
    quiet.decide_one()


def test_a_restart_of_postgresql_is_survived(quiet: Quiet) -> None:
    before = quiet.listeners()
    quiet.site.installation.supervisor.restart("postgres")
    eventually(lambda: quiet.listen(but=before), "both listen again")
    quiet.decide_one()


def test_a_killed_relay_is_asked_again_when_it_is_back(quiet: Quiet) -> None:
    _kill(quiet.site.process("relay"))
    quiet.decide_one()


@pytest.mark.long
def test_without_a_listener_decisions_wait_for_the_tick(quiet: Quiet) -> None:
    """Under the real daemon. An idle tenant, listened to or not, wakes nobody."""
    supervisor, tenant = quiet.site.installation.supervisor, quiet.site.home.tenant(TENANT)
    before = quiet.listeners()
    supervisor.remove("daemon")
    supervisor.add(quiet.daemon)
    eventually(lambda: {name for name, _ in quiet.listeners() - before} == {DAEMONS}, "the real daemon listens")
    idle = quiet.wakes()
    _two_ticks(quiet)
    assert quiet.wakes() == idle
    write_environment(tenant.process_env, read_environment(tenant.process_env) | {SWITCH: "off"})
    supervisor.restart(f"tenant-{TENANT}")
    eventually(lambda: NAME not in {name for name, _ in quiet.listeners()}, "nobody of the tenant's listens")
    quiet.decide_one()
    assert quiet.wakes() == idle
    log = (tenant.output / "code_server.log").read_text()
    assert not re.search(r"Traceback", log)


def _two_ticks(quiet: Quiet) -> None:
    """Of every sensor."""

    def ticks() -> dict[str, float]:
        with psycopg.connect(quiet.site.installation.workspace_url()) as workspace:
            return dict(workspace.execute("SELECT selector_id, max(id) FROM job_ticks GROUP BY 1").fetchall())

    for _ in range(2):
        first = ticks()
        eventually(lambda first=first: all(ticks()[which] > last for which, last in first.items()), "every sensor has ticked")

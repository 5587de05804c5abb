"""A tenant in both planes, without processes: the daemon's own loop is driven here, by a clock that is set."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from dagster import DagsterInstance, DagsterRun
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.scheduler.instigation import InstigatorTick
from dagster._core.test_utils import freeze_time
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import InProcessWorkspaceLoadTarget
from dagster._scheduler.scheduler import ScheduleIterationTimes, launch_scheduled_runs
from dagster_graphql.schema import create_schema

from ntro_dagster.boundary.names import entities_set
from ntro_dagster.boundary.schedules import schedule
from ntro_dagster.bundles import runbook_bundle
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.cli.webserver import Webserver
from ntro_dagster.host.bindings import bind
from ntro_dagster.host.home import write_private
from ntro_dagster.host.installation import Installation
from ntro_dagster.host.scheduled import scheduled
from ntro_dagster.host.upcoming import Missed, Starter, missed
from ntro_dagster.workspace.started import last_started
from ntro_dagster.workspace.workflows import Binding, Workflow, Workflows

TENANT, RUNBOOK = "acme", "expense-processor"
VERSIONS = ("v_000000000001", "v_000000000002")
DEFINITIONS = "ntro_dagster.tenant.definitions"
_SCHEMA = create_schema()
QUIET = logging.getLogger("ntro.tests.daemon")
QUIET.setLevel(logging.CRITICAL)


@dataclass
class World:
    """One workspace with the tenant `acme`, whose code is the expense processor."""

    installation: Installation
    instance: DagsterInstance
    owner: str
    app: str

    def binding(self, entity: str, cron: str | None = "0 8 5 * *", timezone: str = "Europe/London", **more: Any) -> Binding:
        return Binding(TENANT, RUNBOOK, entity, schedule(cron, timezone) if cron else None, **more)

    def add_entity(self, slug: str) -> None:
        registry = self.installation.registry()
        known = registry.create_entity(TENANT, slug)
        registry.dispose()
        self.instance.add_dynamic_partitions(entities_set(TENANT), [slug])
        self.sql(
            "INSERT INTO system.entities (id, slug, name, currency, schema_name) VALUES (%s, %s, 'An entity', 'GBP', %s)",
            known.id,
            slug,
            f"acme_{slug.replace('-', '_')}",
        )

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.owner) as connection:
            done = connection.execute(statement, values)
            return done.fetchall() if done.description else []

    def bind(self, *bindings: Binding, at: datetime) -> list[Workflow]:
        """As if they had been made then."""
        for each in bindings:
            bind(self.installation, each)
        with psycopg.connect(self.installation.workspace_url()) as connection:
            connection.execute("UPDATE registry.workflows SET created_at = %s", [at])
        self.sql("UPDATE system.workflows SET armed_at = %s", at)
        return self.workflows()

    def workflows(self) -> list[Workflow]:
        registry = self.installation.registry()
        try:
            return Workflows(registry).open()
        finally:
            registry.dispose()

    def pauses(self, workflow: UUID, begin: datetime, end: datetime) -> None:
        """As if its open pause had been then."""
        with psycopg.connect(self.installation.workspace_url()) as connection:
            connection.execute(
                "UPDATE registry.workflow_pauses SET began_at = %s, ended_at = %s WHERE workflow_id = %s", [begin, end, workflow]
            )

    def registry_workflows(self) -> Workflows:
        return Workflows(self.installation.registry())

    def runs(self) -> list[DagsterRun]:
        return list(reversed(self.instance.get_runs()))

    def missed(self, now: datetime) -> list[Missed]:
        url = self.installation.workspace_url()
        return missed(self.workflows(), now, lambda jobs, since: last_started(url, jobs, since))

    @property
    def active(self) -> ActiveSet:
        return ActiveSet.read(self.installation.home.tenant(TENANT).active)


def list_active(installation: Installation) -> None:
    """In the place of `Runbooks.settle`: as if the expense processor were deployed, without a survey."""
    registry = installation.registry()
    times = scheduled(Workflows(registry).open(tenant=TENANT))
    registry.dispose()
    write_private(installation.home.tenant(TENANT).active, ActiveSet((runbook_bundle(RUNBOOK),), times).to_json())


class Daemon:
    """Dagster's scheduler loop over the tenant's definitions as they are now, and what a webserver would answer."""

    def __init__(self, context: WorkspaceProcessContext) -> None:
        self._context = context
        self._times: dict[str, ScheduleIterationTimes] = {}
        self.webserver = InProcessWebserver(context)

    def look(self, at: datetime) -> None:
        """What the daemon does once, when the clock says `at`."""
        with freeze_time(at):
            errors = [*launch_scheduled_runs(self._context, QUIET, end_datetime_utc=at, iteration_times=self._times)]
        assert not [error for error in errors if error is not None]

    def ticks(self) -> list[InstigatorTick]:
        instance, found = self._context.instance, []
        for state in instance.all_instigator_state():
            found += instance.get_ticks(state.instigator_origin_id, state.selector_id)
        return sorted(found, key=lambda tick: tick.timestamp)


class InProcessWebserver(Webserver):
    """The webserver's answers, without its process."""

    def __init__(self, context: WorkspaceProcessContext) -> None:
        super().__init__("in this process")
        self._context = context

    def _ask(self, query: str, name: str, **variables: Any) -> dict[str, Any]:
        asked = self._context.create_request_context()
        done = asyncio.run(_SCHEMA.execute_async(query, context_value=asked, variable_values=variables))
        assert not done.errors, done.errors
        answer: dict[str, Any] = done.data[name]
        return answer


@contextmanager
def daemon(world: World) -> Iterator[Daemon]:
    """Of the schedules there are now: it does not see what is bound later."""
    sys.modules.pop(DEFINITIONS, None)
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(executable_path=sys.executable, module_name=DEFINITIONS, attribute="defs"), location_name=TENANT
    )
    with WorkspaceProcessContext(world.instance, InProcessWorkspaceLoadTarget(origin)) as context:
        yield Daemon(context)


def survey(world: World) -> None:
    """What the host would have asked of the definitions, for those who go by it."""
    from ntro_dagster.boundary.answers.survey import Survey, survey_file  # noqa: PLC0415
    from ntro_dagster.host.home import private_directory  # noqa: PLC0415
    from ntro_dagster.tenant.survey import survey as asked  # noqa: PLC0415

    sys.modules.pop(DEFINITIONS, None)
    made = Survey.of(TENANT, "a test", asked(DEFINITIONS, world.active), module=DEFINITIONS, executable=sys.executable)
    private_directory(world.installation.home.surveys)
    write_private(survey_file(world.installation.home.surveys, TENANT), made.to_json())


def starter(world: World, of: Daemon) -> Starter:
    return Starter(world.installation.home, of.webserver)

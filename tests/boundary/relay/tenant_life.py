"""A tenant's whole month in this process: what Dagster's daemon, a code server and run workers do, without their processes.

Sensors are evaluated and runs executed as by the tenant, behind the real relay and the real databases; the daemon's own loops
start them. Every message that leaves the tenant is kept, in the order in which it leaves.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import psycopg
from dagster import DagsterInstance
from dagster._core.errors import DagsterUserCodeProcessError
from dagster._core.launcher import LaunchRunContext, RunLauncher
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.remote_representation.code_location import InProcessCodeLocation
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceLoadTarget
from dagster._daemon import sensor as sensor_daemon
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster._grpc.__generated__ import dagster_api_pb2 as api
from dagster._grpc.impl import core_execute_run, get_external_sensor_execution
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.hosted_user_process import recon_job_from_origin
from psycopg.conninfo import make_conninfo
from same_shape import UNITS, Content, Decision, Shape
from without_chance import KEPT, WithoutChance, stored
from world import World

from ntro_dagster.boundary.answers.calls import ANSWERS
from ntro_dagster.boundary.names import entities_set
from ntro_dagster.boundary.relay import client, connection
from ntro_dagster.boundary.relay.connection import Sent
from ntro_dagster.bundles import platform_bundle, runbook_bundle
from ntro_dagster.gl.chart import install_chart
from ntro_dagster.ingest.store import DocumentStore
from ntro_dagster.ingest.submission import submit
from ntro_dagster.platforms.environment import journal_from_environment
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.subledger.registry import load_types, subledger_type
from ntro_dagster.subledger.review import file_signal
from ntro_dagster.tenant.deployment import bring_up_to_date
from ntro_dagster.tenant.entities import Entity, create_entities, entities_by_spelling, entity_by_slug

TENANT = "acme"
ENTITIES = tuple(dict(UNITS))
MODULE = "ntro_dagster.tenant.definitions"
MOST_TICKS = 30

_FOR_THE_WORKSPACE = ("NTRO_PLANE", "NTRO_INSTANCE_URL")


@contextmanager
def environment(given: Mapping[str, str], without: Sequence[str] = ()) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in [*given, *without]}
    for name in without:
        os.environ.pop(name, None)
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


# -- the tenant's databases


def prepare(credentials: DatabaseCredentials) -> None:
    """A tenant's database as `ntro tenant create` leaves it, to be copied."""
    bring_up_to_date(credentials.owner, platform_bundle(), runbook_bundle("expense-processor"))
    with psycopg.connect(credentials.owner) as owner:
        install_chart(owner)


@contextmanager
def copied(admin_dsn: str, made: DatabaseCredentials) -> Iterator[DatabaseCredentials]:
    """A fresh database with the content and the roles of another."""
    name = f"t_{secrets.token_hex(4)}"
    role = made.database
    with psycopg.connect(admin_dsn, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER {role}_owner TEMPLATE {role}".encode())
        admin.execute(f"GRANT CONNECT ON DATABASE {name} TO {role}_app, {role}_desk, {role}_auditor".encode())
        admin.execute(f"GRANT TEMPORARY ON DATABASE {name} TO {role}_app".encode())
        try:
            urls = {each: make_conninfo(getattr(made, each), dbname=name) for each in ("owner", "app", "desk", "auditor")}
            yield DatabaseCredentials(database=name, **urls)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


# -- the workspace's side


class Noting(RunLauncher):
    """Notes which runs are to be started."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []

    def launch_run(self, context: LaunchRunContext) -> None:
        self.waiting.append(context.dagster_run.run_id)

    def terminate(self, run_id: str) -> bool:
        raise NotImplementedError


@dataclass
class _Here(WorkspaceLoadTarget):
    origin: InProcessCodeLocationOrigin

    def create_origins(self) -> Sequence[InProcessCodeLocationOrigin]:
        return [self.origin]


@dataclass
class Told:
    """What a tenant said to the workspace in its month, and what the workspace knows after it.

    Attributes:
        outcomes: how the month went, of which the workspace may know no more than counts: rows by status and finding, decisions.
        closed: how often the trial balance was drawn up.
        documents: digests of what came in.
    """

    transcript: list[str] = field(repr=False)
    database: list[str] = field(repr=False)
    outcomes: list[tuple[object, ...]] = field(repr=False)
    closed: int
    documents: set[bytes] = field(repr=False)


@dataclass
class Stage:
    """A workspace that months can be played in, one after the other."""

    world: World
    admin_dsn: str
    made: DatabaseCredentials
    launcher: Noting
    process: WorkspaceProcessContext
    salt: str = field(default_factory=lambda: secrets.token_hex(32))

    def clear(self) -> None:
        """As if nothing had happened in this workspace."""
        with psycopg.connect(self.world.url) as database:
            found = database.execute(
                "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables "
                "WHERE schemaname IN ('public', 'relay')"
            ).fetchall()
            emptied = ", ".join(table for (table,) in found if table not in KEPT)
            database.execute(f"TRUNCATE {emptied} RESTART IDENTITY".encode())
        self.world.workspace.add_dynamic_partitions(entities_set(TENANT), list(ENTITIES))
        self.launcher.waiting.clear()

    def month(self, shape: Shape, content: Content, folder: Path, *, ticks: int = MOST_TICKS) -> Told:
        """Play a month. `ticks`: how often the daemon looks at most, each time that it is waited for."""
        self.clear()
        client.known_partitions.clear()  # each month begins with a process that was told nothing
        with copied(self.admin_dsn, self.made) as credentials:
            entities = [Entity(uuid4(), slug, name, content.currency) for slug, name in content.entity_names.items()]
            create_entities(credentials.owner, TENANT, entities)
            life = _Life(self, credentials, shape, content, folder, ticks)
            life.play()
            without = WithoutChance()
            transcript = [without.text(line) for line in life.said]
            return Told(
                transcript,
                stored(self.world.url, without),
                life.ask(_OUTCOMES),
                life.ask(_CLOSED)[0][0],
                {digest for (digest,) in life.ask(_DOCUMENTS)},
            )


@contextmanager
def staged(world: World, admin_dsn: str, made: DatabaseCredentials) -> Iterator[Stage]:
    load_types(platform_bundle(), runbook_bundle("expense-processor"))
    with environment({"NTRO_TENANT": TENANT}):
        prepare(made)
        origin = InProcessCodeLocationOrigin(
            LoadableTargetOrigin(module_name=MODULE, attribute="defs", working_directory="/"), location_name=TENANT
        )
        launcher = Noting()
        world.workspace._run_launcher = launcher
        world.workspace.run_coordinator._dequeue_use_threads = False  # whose order would be chance
        launcher.register_instance(world.workspace)
        with WorkspaceProcessContext(world.workspace, _Here(origin)) as process:
            yield Stage(world, admin_dsn, made, launcher, process)


# -- one month

_OUTCOMES = """
WITH documents AS (SELECT id, row_number() OVER (ORDER BY submitted_at) AS filed FROM ingest.submitted_documents)
SELECT 'row', d.filed::text, r.line::text, x.status,
       (SELECT string_agg(f ->> 'code', ' ') FROM jsonb_array_elements(x.validation_errors) f)
  FROM ledgers.expenses x JOIN ingest.submitted_records r ON r.id = x.event_id JOIN documents d ON d.id = r.document_id
UNION ALL
SELECT 'decision', d.filed::text, r.line::text, string_agg(s.kind || ' ' || w.outcome, ' ' ORDER BY s.seq),
       string_agg(w.code, ' ' ORDER BY s.seq)
  FROM system.signals s JOIN system.signal_rows w ON w.signal_id = s.id JOIN ledgers.expenses x ON x.id = w.row_id
  JOIN ingest.submitted_records r ON r.id = x.event_id JOIN documents d ON d.id = r.document_id GROUP BY 1, 2, 3
ORDER BY 1, 2, 3, 4, 5
"""
_CLOSED = "SELECT count(*) FROM ledgers.closes"
_DOCUMENTS = "SELECT sha256 FROM ingest.submitted_documents"


@dataclass
class _Life:
    """Attributes:
    said: every message that left the tenant.
    numbers: of the documents, by their names.
    """

    stage: Stage
    credentials: DatabaseCredentials
    shape: Shape
    content: Content
    folder: Path
    ticks: int
    said: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def play(self) -> None:
        documents = list(enumerate(self.shape.documents))
        late = documents[-1:] if self.shape.late else []
        self._file(documents[: len(documents) - len(late)])
        self._work()
        for number, decisions in enumerate(self.shape.rounds):
            asyncio.run(self._decide(decisions))
            self._work()
            if number == 0 and late:
                self._file(late)
                self._work()

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.credentials.auditor) as auditor:
            return auditor.execute(question.encode()).fetchall()

    # -- people

    def _file(self, documents: Sequence[tuple[int, tuple[str, ...]]]) -> None:
        for number, flaws in documents:
            entity, period = UNITS[self.shape.units[number]]
            path = self.content.file(self.folder, period, flaws)
            self.numbers[path.name] = number
            asyncio.run(self._submit(path, entity, period))

    async def _submit(self, path: Path, entity: str, period: str) -> None:
        async with TenantDatabase(self.credentials.app) as database:
            await submit(
                database,
                DocumentStore(self.folder / "store"),
                path,
                resolve=lambda names: entities_by_spelling(database, names),
                submitted_by=self.content.person(0),
                entity=await entity_by_slug(database, entity, tenant=TENANT),
                period=period,
            )

    async def _decide(self, decisions: Sequence[Decision]) -> None:
        async with TenantDatabase(self.credentials.desk) as desk:
            found = await desk.fetch(
                "SELECT x.id, d.name, r.line FROM ledgers.expenses x JOIN ingest.submitted_records r ON r.id = x.event_id "
                "JOIN ingest.submitted_documents d ON d.id = r.document_id ORDER BY r.line"
            )
            seen: dict[int, list[UUID]] = {}
            for row in found:
                seen.setdefault(self.numbers[row["name"]], []).append(row["id"])
            for decision in decisions:
                await self._signal(desk, decision, [seen[document][row] for document, row in decision.rows])

    async def _signal(self, desk: TenantDatabase, decision: Decision, ids: Sequence[UUID]) -> None:
        await file_signal(
            desk,
            subledger_type("expenses"),
            decision.kind,
            filed_by=self.content.person(decision.person),
            reason=self.content.text(),
            values=self.content.values(decision.fields) or None,
            ids=ids,
        )

    # -- processes

    def _work(self) -> None:
        """The daemon looks until nothing is left to do."""
        for _ in range(self.ticks):
            if not self._tick():
                return
        assert self.ticks < MOST_TICKS, "the month does not come to rest"

    def _tick(self) -> int:
        # Sensors are looked at in a fixed order (Dagster shuffles them) and as often as the test likes (not every 5 s).
        with (
            patch.object(sensor_daemon, "shuffled_round_robin_by_key", lambda sensors, key: list(sensors)),
            patch.object(sensor_daemon, "is_under_min_interval", lambda *_: False),
            patch.object(InProcessCodeLocation, "get_sensor_execution_data", self._evaluated()),
        ):
            logger = logging.getLogger("noninterference")
            list(sensor_daemon.execute_sensor_iteration(self.stage.process, logger, None, None))
        list(QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(self.stage.process))
        runs, self.stage.launcher.waiting[:] = list(self.stage.launcher.waiting), []
        for run_id in runs:
            self._execute(run_id)
        return len(runs)

    @contextmanager
    def _as_tenant(self) -> Iterator[None]:
        """In here this process is one of the tenant's."""
        given = {
            "NTRO_RELAY": f"unix:{self.stage.world.socket(TENANT)}",
            "NTRO_ARTIFACTS": self.stage.world.home.tenant(TENANT).places["NTRO_ARTIFACTS"],
            "NTRO_PLATFORM_URL": self.credentials.app,
            "NTRO_SALT": self.stage.salt,
        }
        with environment(given, _FOR_THE_WORKSPACE), patch.object(connection, "keep", self._keep):
            connection.forget()
            try:
                yield
            finally:
                connection.forget()
                journal_from_environment().close()

    def _keep(self, sent: Sent) -> None:
        if sent.body:  # else it stays with the tenant
            self.said.append(f"{sent.call} {sent.run_id}: {sent.body.decode()}")

    def _evaluated(self) -> Callable[..., Any]:
        """What the tenant's code server does with a sensor, and the workspace's guard with its answer."""

        def evaluate(location: Any, instance: DagsterInstance, repository: Any, name: str, *moments: Any) -> Any:
            with self._as_tenant():
                definitions = location._get_repo_def(repository.repository_name)
                answer = get_external_sensor_execution(definitions, location.origin, instance.get_ref(), name, *moments)
                said = serialize_value(answer)
            self.said.append(f"answer of {name}: {said}")
            reply = api.ExternalSensorExecutionReply(serialized_sensor_result=said)
            rebuilt = ANSWERS["SyncExternalSensorExecution"](lambda _: frozenset(ENTITIES), TENANT, None, [reply])
            found = deserialize_value(rebuilt.serialized_sensor_result)
            if hasattr(found, "error"):
                raise DagsterUserCodeProcessError.from_error_info(found.error)
            return found

        return evaluate

    def _execute(self, run_id: str) -> None:
        run = self.stage.world.workspace.get_run_by_id(run_id)
        assert run and run.job_code_origin
        with self._as_tenant(), DagsterInstance.from_ref(self.stage.world.workspace.get_ref()) as instance:
            list(core_execute_run(recon_job_from_origin(run.job_code_origin), run, instance, inject_env_vars=False))

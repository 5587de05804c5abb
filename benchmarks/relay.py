"""What a run costs through the relay and the wall, beside stock dagster-postgres; and how many events one relay carries."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import psycopg
import yaml
from dagster import AssetKey, DagsterInstance, DagsterRunStatus, Definitions, asset, define_asset_job, in_process_executor
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator

from benchmarks.measure import Comparison, alternate
from benchmarks.tenant import Tenant
from ntro_dagster.boundary.answers.survey import Survey, survey_file
from ntro_dagster.boundary.names import CODE_LOCATION_TAG, INSTANCE_URL, PLANE, SURVEYS, WORKSPACE
from ntro_dagster.boundary.relay import connection, encoding
from ntro_dagster.boundary.storage import prepare_instance
from ntro_dagster.host.dagster_instance import write_instance
from ntro_dagster.host.home import Home, private_directory
from ntro_dagster.workspace.registry import Registry

STEPS = 20
REPEATS = 8
CLIENTS = 4
SLUG = "bench"


def compare(fresh: Tenant, rows: int) -> list[Comparison]:
    """A run of 20 steps, and events from several processes at once. `rows` sets how many events: a tenth of it."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ntro-relay-", dir="/tmp")))
        ours = stack.enter_context(_ours(fresh, directory))
        stock = stack.enter_context(_stock(fresh, directory))
        return [_runs(ours, stock), _events(ours, stock, max(CLIENTS, rows // 10))]


class Side:
    """One way to store: the instance that makes runs, and the one that executes them."""

    def __init__(self, makes: DagsterInstance, executes: DagsterInstance) -> None:
        self.makes = makes
        self.executes = executes
        self.job = InMemoryJob(_definitions().resolve_job_def("month_end"))

    def run(self) -> Callable[[], object]:
        made = self.makes.create_run_for_job(
            self.job.get_definition(),
            run_id=str(uuid4()),
            tags={CODE_LOCATION_TAG: SLUG},
            status=DagsterRunStatus.STARTING,
        )
        return lambda: list(execute_run_iterator(self.job, made, self.executes))

    def event(self) -> bytes:
        """An event of a run of ours, ready to be stored."""
        run = self.makes.create_run_for_job(
            self.job.get_definition(), run_id=str(uuid4()), tags={CODE_LOCATION_TAG: SLUG}, status=DagsterRunStatus.STARTING
        )
        self.makes.report_engine_event("x", run)
        (record, *_) = [
            each
            for each in self.makes.get_records_for_run(run.run_id).records
            if "ENGINE" in str(each.event_log_entry.dagster_event_type)
        ]
        return encoding.dumps({"event": record.event_log_entry})


def _runs(ours: Side, stock: Side) -> Comparison:
    for side in (ours, stock):
        side.run()()
    mine, its = alternate(lambda _: ours.run(), lambda _: stock.run(), repeats=REPEATS)
    return Comparison(f"run of {STEPS} steps, relay + wall", "stock dagster-postgres", STEPS, mine, its, aim=3.0)


def _events(ours: Side, stock: Side, events: int) -> Comparison:
    each = events // CLIENTS
    with ProcessPoolExecutor(CLIENTS, get_context("spawn")) as pool:
        bodies = [ours.event() for _ in range(CLIENTS)]

        def ours_now(_: int) -> Callable[[], object]:
            return lambda: list(pool.map(_relay_events, bodies, [each] * CLIENTS))

        def stock_now(_: int) -> Callable[[], object]:
            directory = stock.makes.root_directory
            return lambda: list(pool.map(_stock_events, [directory] * CLIENTS, bodies, [each // 10] * CLIENTS))

        list(pool.map(_relay_events, bodies, [1] * CLIENTS))
        list(pool.map(_stock_events, [stock.makes.root_directory] * CLIENTS, bodies, [1] * CLIENTS))
        (mine,) = alternate(ours_now)
        (its,) = alternate(stock_now)
    its = type(its)(tuple(seconds * 10 for seconds in its.seconds))  # a tenth of the events, to save an hour
    return Comparison(f"events from {CLIENTS} processes, relay + wall", "stock dagster-postgres", each * CLIENTS, mine, its)


def _relay_events(body: bytes, number: int) -> None:
    for _ in range(number):
        connection.call("store_event", body)


def _stock_events(directory: str, body: bytes, number: int) -> None:
    event = encoding.loads(body)["event"]
    with DagsterInstance.from_config(directory) as instance:
        for _ in range(number):
            instance.event_log_storage.store_event(event)


def _definitions() -> Definitions:
    def step(number: int) -> object:
        @asset(key=AssetKey([SLUG, "ledgers", f"step_{number}"]))
        def stepping() -> None: ...

        return stepping

    assets = [step(number) for number in range(STEPS)]
    return Definitions(assets=assets, jobs=[define_asset_job("month_end", assets)], executor=in_process_executor)  # type: ignore[arg-type]


def _database(fresh: Tenant, name: str) -> str:
    with psycopg.connect(fresh.admin, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    address, _, options = fresh.admin.partition("?")
    return f"{address.rpartition('/')[0]}/{name}?{options}"


def _write_survey(home: Home) -> None:
    """The names that the relay lets through."""
    job = _definitions().resolve_job_def("month_end")
    names = {"ledgers", "month_end", "result", *(f"step_{number}" for number in range(STEPS)), *(node.name for node in job.nodes)}
    private_directory(home.surveys)
    survey_file(home.surveys, SLUG).write_text(Survey(SLUG, "", "", "", "", {}, {}, frozenset(names)).to_json())


@contextmanager
def _ours(fresh: Tenant, directory: Path) -> Iterator[Side]:
    url = _database(fresh, "relay_ours")
    prepare_instance(url)
    registry = Registry(url)
    registry.prepare()
    registry.create_tenant(SLUG)
    registry.dispose()
    home = Home(directory / "home")
    home.create()
    write_instance(home)
    socket = home.tenant(SLUG).relay_socket
    private_directory(socket.parent)
    workspace = {PLANE: WORKSPACE, INSTANCE_URL: url}
    command = [sys.executable, "-P", "-m", "ntro_dagster.workspace.relay"]
    given = (
        os.environ
        | workspace
        | {"DAGSTER_HOME": str(home.dagster), "NTRO_RELAY_SOCKETS": str(home.sockets), SURVEYS: str(home.surveys)}
    )
    _write_survey(home)
    with subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True) as relay, ExitStack() as stack:
        stack.callback(relay.kill)
        assert relay.stderr
        while f"serving {SLUG}" not in relay.stderr.readline():
            if relay.poll() is not None:
                raise SystemExit("the relay did not start")
        os.environ |= workspace
        makes = stack.enter_context(DagsterInstance.from_config(str(home.dagster)))
        for name in workspace:
            del os.environ[name]
        os.environ |= home.tenant(SLUG).places
        yield Side(makes, stack.enter_context(DagsterInstance.from_ref(makes.get_ref())))


@contextmanager
def _stock(fresh: Tenant, directory: Path) -> Iterator[Side]:
    home = directory / "stock"
    home.mkdir()
    settings = {
        "storage": {
            "postgres": {"postgres_url": _database(fresh, "relay_stock").replace("postgresql://", "postgresql+psycopg2://")}
        }
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings | {"telemetry": {"enabled": False}}))
    with DagsterInstance.from_config(str(home)) as instance:
        yield Side(instance, instance)

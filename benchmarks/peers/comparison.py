"""The unit of work on each system, and what the others cost beside ours.

Each system is up, and has closed one entity's month, when the documents of the others lie ready; time begins when their runs are
submitted, and ends when the last month is sealed, by PostgreSQL's clock. CPU is of all processes, PostgreSQL and the driver
included, until no run is left.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import bare_month, unit
from benchmarks.documents import submit_documents
from benchmarks.installed import STOCK_LAUNCHER, STOCK_STORAGES, installed, until
from benchmarks.measure import say, told
from benchmarks.peers.account import account
from benchmarks.peers.airflow import airflow
from benchmarks.peers.ntro import ntro
from benchmarks.peers.prefect import prefect
from benchmarks.peers.processes import PeerFailedError
from benchmarks.peers.system import Way
from benchmarks.peers.venvs import NotInstallableError, Venv, compile_ours, installed_venv
from benchmarks.processor_time import between, used
from benchmarks.subject import SLUG
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import Installation, credential

ENTITIES, ROWS, FEWEST = 200, 250, 10
FIRST = "warm"
LEAST_PATIENCE_S, RUN_PATIENCE_S = 120.0, 5.0
OURS = "ntro"
AIMS = {"Dagster's launcher and storages": (10.0, None), "Airflow": (4.0, 3.0), "Prefect": (1.0, None)}
"""Of a peer: its time, and its CPU, as times ours."""

SHOWN = {
    "name": "what",
    "alone": "process a run",
    "entities": "entities",
    "closed": "closed",
    "unsuccessful": "failed",
    "wall_s": "wall s",
    "wall_spread": "spread",
    "cpu_s": "CPU s",
    "cpu_spread": "spread",
    "cpu_per_entity_s": "CPU s / entity",
    "cpu_beyond_s": "beyond the work",
    "latency_p50_s": "p50 s",
    "latency_p95_s": "p95 s",
}
SHOWN_RATIOS = {
    "name": "what",
    "against": "against",
    "wall_ratio": "time, times ours",
    "wall_aim": "aim",
    "cpu_ratio": "CPU, times ours",
    "cpu_aim": "aim",
    "met": "met",
}

Found = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """One repeat.

    Attributes:
        cpu_s: of everything.
        kinds: what is known of it by kind of process.
        closed_after: seconds, of each entity.
    """

    cpu_s: float
    kinds: dict[str, float]
    closed_after: tuple[float, ...]
    unsuccessful: int = 0

    @property
    def wall_s(self) -> float:
        return max(self.closed_after, default=0.0)


def measure(entities: int = ENTITIES, repeats: int = 1) -> list[Found]:
    """Ours, the peers that can be installed here, no orchestrator at all; then the ratios.

    A peer that cannot be installed or does not start is named, and left out.
    """
    compile_ours()
    found = []
    with tempfile.TemporaryDirectory(prefix="ntro-peers-", dir="/tmp") as directory:
        for way in _ways(Path(directory)):
            number = max(min(FEWEST, entities), entities // 10) if way.fewer else entities
            try:
                measured = [_measure(way, number) for _ in range(repeats)]
            except (PeerFailedError, TimeoutError) as error:
                say(f"{way.name}: left out, {error}")
            else:
                found.append(told(_result(way.name, number, measured, steps=way.steps, alone=way.alone)))
    for name, loop in BARE.items():
        measured = [_bare(entities, loop) for _ in range(repeats)]
        found.append(told(_result(name, entities, measured)))
    work = next(each["cpu_per_entity_s"] for each in found if each["name"] == WORK)
    for each in found:
        each["cpu_beyond_s"] = round(each["cpu_per_entity_s"] - work, 3) if each["steps"] else None
    return found + ratios(found)


def _ways(directory: Path) -> Iterator[Way]:
    """Each is installed when it is asked for."""
    yield Way(f"{OURS}, one step", ntro(1))
    yield Way(f"{OURS}, two steps", ntro(2), steps=2)
    yield Way("Dagster's launcher, one step", ntro(1, STOCK_LAUNCHER), fewer=True)
    yield Way("Dagster's launcher and storages, one step", ntro(1, STOCK_STORAGES), fewer=True)
    if venv := _venv(directory, "airflow"):
        yield Way("Airflow, one step", airflow(venv, 1))
        yield Way("Airflow, two steps", airflow(venv, 2), steps=2)
    if venv := _venv(directory, "prefect"):
        yield Way("Prefect, threads of one process", prefect(venv, processes=False), alone=False)
        yield Way("Prefect, process pool", prefect(venv, processes=True), fewer=True)


def _venv(directory: Path, name: str) -> Venv | None:
    try:
        return installed_venv(directory / name, Path(__file__).with_name(f"requirements-{name}.txt"))
    except NotInstallableError as error:
        say(f"{name}: left out, it does not install here: {error}")
        return None


def _measure(way: Way, number: int) -> Measured:
    slugs = [f"spv{each:04}" for each in range(number)]
    patience = LEAST_PATIENCE_S + RUN_PATIENCE_S * number
    with account() as seconds, way.up([FIRST, *slugs]) as system, _watching(system.installation) as books:
        asyncio.run(submit_documents(system.installation, [FIRST], rows=1))
        system.submit([FIRST])
        until(lambda: system.unfinished() == 0, LEAST_PATIENCE_S)
        if len(_closed(books, 0.0)) != 1 or system.unsuccessful():
            raise PeerFailedError("the month of the first entity was not closed")
        asyncio.run(submit_documents(system.installation, slugs, rows=ROWS))
        before, total, own, begun = system.used(), seconds(), time.process_time(), _clock(books)
        system.submit(slugs)
        until(lambda: system.unfinished() == 0, patience)
        kinds = between(before, system.used()) | {"script": time.process_time() - own}
        return Measured(_cpu(total, seconds(), kinds), kinds, _closed(books, begun), system.unsuccessful())


def _cpu(before: float | None, after: float | None, kinds: Mapping[str, float]) -> float:
    """By the kernel's account, where there is one."""
    return sum(kinds.values()) if before is None or after is None else after - before


@contextmanager
def _watching(installation: Installation) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    with psycopg.connect(credential(installation.home, SLUG, Role.AUDITOR), autocommit=True) as books:
        yield books


def _clock(books: psycopg.Connection[tuple[Any, ...]]) -> float:
    row = books.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert row
    return float(row[0])


def _closed(books: psycopg.Connection[tuple[Any, ...]], begun: float) -> tuple[float, ...]:
    """When each entity's month was first sealed, in seconds since `begun`; entities of before are left out."""
    query = "SELECT extract(epoch FROM min(at))::float8 - %s AS after FROM ledgers.closes GROUP BY entity_id"
    found = books.execute(f"SELECT after FROM ({query}) AS each WHERE after >= 0 ORDER BY after", [begun]).fetchall()
    return tuple(float(after) for (after,) in found)


# -- without any


Loop = Callable[[Installation, Sequence[str]], None]


def _bare(number: int, loop: Loop) -> Measured:
    slugs = [f"spv{each:04}" for each in range(number)]
    with (
        account() as seconds,
        installed(entities=[FIRST, *slugs], started=False) as installation,
        _watching(installation) as books,
    ):
        asyncio.run(submit_documents(installation, [FIRST], rows=1))
        loop(installation, [FIRST])
        asyncio.run(submit_documents(installation, slugs, rows=ROWS))
        before, total, own, begun = used(installation), seconds(), time.process_time(), _clock(books)
        loop(installation, slugs)
        kinds = {"script": time.process_time() - own, "postgres": between(before, used(installation))["postgres"]}
        return Measured(_cpu(total, seconds(), kinds), kinds, _closed(books, begun))


def _own_connections(installation: Installation, entities: Sequence[str]) -> None:
    with bare_month.bound(bare_month.environment(installation)):
        for entity in entities:
            unit.whole(entity)


def _one_connection(installation: Installation, entities: Sequence[str]) -> None:
    asyncio.run(bare_month.month_end(installation, entities))


WORK = "no orchestrator, connections a month"
"""What is left of a run of one step without its orchestrator: the rest is what that one costs."""
BARE: dict[str, Loop] = {WORK: _own_connections, "no orchestrator": _one_connection}


# -- results


def _result(name: str, entities: int, measured: Sequence[Measured], *, steps: int = 0, alone: bool = False) -> Found:
    """Args: `steps`: of a run; 0: no run. `alone`: each run has a process of its own."""
    middle = sorted(measured, key=lambda each: each.cpu_s)[len(measured) // 2]
    closed = sorted(after for each in measured for after in each.closed_after)
    percentile = partial(_percentile, closed)
    return {
        "name": name,
        "steps": steps,
        "alone": "yes" if alone else "no",
        "entities": entities,
        "repeats": len(measured),
        "closed": min(len(each.closed_after) for each in measured),
        "unsuccessful": sum(each.unsuccessful for each in measured),
        "wall_s": round(statistics.median(each.wall_s for each in measured), 1),
        "wall_spread": _spread([each.wall_s for each in measured]),
        "cpu_s": round(middle.cpu_s, 1),
        "cpu_spread": _spread([each.cpu_s for each in measured]),
        "cpu_per_entity_s": round(middle.cpu_s / entities, 3),
        "latency_p50_s": percentile(0.5),
        "latency_p95_s": percentile(0.95),
        "cpu_by_kind_s": {kind: round(seconds, 2) for kind, seconds in sorted(middle.kinds.items(), key=lambda one: -one[1])},
    }


def _percentile(values: Sequence[float], part: float) -> float | None:
    return round(values[min(len(values) - 1, int(part * len(values)))], 1) if values else None


def _spread(values: Sequence[float]) -> float | None:
    return round((max(values) - min(values)) / statistics.median(values), 2) if len(values) > 1 else None


def ratios(found: Sequence[Found]) -> list[Found]:
    """Each peer beside ours of as many steps: time and CPU, for each entity. `met`: whether both aims are, and every month was
    closed.
    """
    ours = {each["steps"]: each for each in found if each["name"].startswith(OURS)}
    compared = []
    for peer in found:
        own, aims = ours.get(peer["steps"]), AIMS.get(peer["name"].partition(",")[0])
        if own is None or aims is None:
            continue
        wall = _each(peer, "wall_s") / _each(own, "wall_s")
        cpu = _each(peer, "cpu_s") / _each(own, "cpu_s")
        all_closed = all(one["closed"] == one["entities"] and not one["unsuccessful"] for one in (peer, own))
        compared.append(
            {
                "name": peer["name"],
                "against": own["name"],
                "wall_ratio": round(wall, 2),
                "wall_aim": aims[0],
                "cpu_ratio": round(cpu, 2),
                "cpu_aim": aims[1],
                "met": "yes" if all_closed and wall >= aims[0] and cpu >= (aims[1] or 0) else "no",
            }
        )
    return compared


def _each(one: Found, what: str) -> float:
    return float(one[what]) / int(one["entities"])

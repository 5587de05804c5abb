"""A hostile runbook's runs, through the relay: none of it on the wire, in the workspace's database or files; all of it kept."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import hostile
import psycopg
import pytest
from dagster import DagsterInstance, DagsterRunStatus, JobDefinition
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run_iterator
from hostile import PLANTED, plant
from world import World, serving, world

from ntro_dagster.boundary.names import CODE_LOCATION_TAG
from ntro_dagster.boundary.relay import client, connection
from ntro_dagster.boundary.relay.connection import Sent
from ntro_dagster.platforms.postgres.server import PostgresServer


@pytest.fixture(scope="module")
def here(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres_server, tmp_path_factory.mktemp("wire")) as made, serving(made, names):
        yield made


def names(_: str) -> frozenset[str]:
    """What a survey of the hostile jobs says: their names are the author's, and hold no data."""
    known = {"result", "acme", "x", "ledgers", "things", "adds_up"}
    for job in jobs():
        known |= {job.name, *(node.name for node in job.nodes)}
    return frozenset(known)


def jobs() -> list[JobDefinition]:
    return [*hostile.JOBS, hostile.talking]


def run_everything(here: World, opened: DagsterInstance) -> list[str]:
    """As a worker executes what the workspace has launched."""
    runs = []
    for job in jobs():
        tags = {CODE_LOCATION_TAG: "acme"}
        run = here.workspace.create_run_for_job(job, run_id=str(uuid4()), tags=tags, status=DagsterRunStatus.STARTING)
        runs.append(run.run_id)
        with suppress(SystemExit):
            for _ in execute_run_iterator(InMemoryJob(job), run, opened):
                pass
    return runs


def forms(secret: str) -> list[bytes]:
    """As it stands, and in every dress that a careless program gives it. (What is compressed is opened by the search.)"""
    raw = secret.encode()
    return [
        raw,
        json.dumps(secret)[1:-1].encode(),
        raw.hex().encode(),
        *(base64.b64encode(b"x" * shift + raw)[2 * shift : -4] for shift in range(3)),
        pickle.dumps(secret),
        zlib.compress(raw),
    ]


def found(haystack: bytes) -> set[str]:
    """Channels whose secret stands there."""
    text = haystack.lower()
    return {channel for channel, secret in PLANTED.items() if any(form.lower() in text for form in forms(secret))}


def opened(value: object) -> bytes:
    if not isinstance(value, bytes | memoryview):
        return str(value).encode()
    raw = bytes(value)
    with suppress(zlib.error):
        raw += zlib.decompress(raw)
    return raw


def everything_stored(here: World) -> bytes:
    """Every table, the relay's own included, but for the definitions: those cross by the survey (decision 011)."""
    parts = []
    with psycopg.connect(here.url) as database:
        tables = database.execute(
            "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables "
            "WHERE table_schema IN ('public', 'registry', 'relay') AND table_name <> 'snapshots'"
        ).fetchall()
        for (table,) in tables:
            for row in database.execute(f"SELECT * FROM {table}"):  # type: ignore[arg-type]
                parts += [opened(value) for value in row]
    return b"\n".join(parts)


def test_nothing_is_on_the_wire_and_all_is_kept(
    here: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[Sent] = []
    monkeypatch.setattr(connection, "keep", kept.append)
    with caplog.at_level(logging.DEBUG, logger="ntro.relay"), here.tenant("acme") as acme:
        runs = run_everything(here, acme)
        caplog.handler.flush()
    said_by_runs = found("\n".join(sent.told or "" for sent in kept).encode())
    assert len(said_by_runs) >= 40, sorted(PLANTED.keys() - said_by_runs)
    assert found(b"\n".join(sent.body for sent in kept)) == set()
    assert found(everything_stored(here)) == set()
    assert found("\n".join(record.getMessage() for record in caplog.records if record.name == "ntro.relay").encode()) == set()
    files = [path for path in here.home.root.rglob("*") if path.is_file() and "tenants" not in path.parts]
    assert found(b"\n".join(path.read_bytes() for path in files)) == set()
    ends = {run_id: here.workspace.get_run_by_id(run_id) for run_id in runs}
    assert all(run and run.is_finished for run in ends.values())


def test_the_search_finds_what_is_there(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tenant's half of the wall down, the wire is full of it; the workspace's half still lets nothing be stored."""
    kept: list[Sent] = []
    monkeypatch.setattr(connection, "keep", kept.append)
    monkeypatch.setattr(client.wall, "event", _unless_stored(client.wall.event))
    with here.tenant("acme") as acme:
        run_everything(here, acme)
    heard = found(b"\n".join(sent.body for sent in kept))
    assert len(heard) >= 29, sorted(PLANTED.keys() - heard)
    assert found(everything_stored(here)) == set()


def _unless_stored(inner):  # type: ignore[no-untyped-def] # the wall's own
    """Down for the tenant's half, which calls it on the main thread; up for the workspace's."""
    import threading  # noqa: PLC0415

    def event(offered):  # type: ignore[no-untyped-def]
        return offered if threading.current_thread() is threading.main_thread() else inner(offered)

    return event


@pytest.mark.parametrize("form", range(6))
def test_each_form_is_recognised(form: int) -> None:
    secret = plant("a form")
    raw = secret.encode()
    dresses = [
        raw,
        json.dumps({"a": secret}).encode(),
        raw.hex().upper().encode(),
        base64.b64encode(b"prefix " + raw + b" suffix"),
        pickle.dumps({"a": [secret]}),
        opened(zlib.compress(b"in the middle of " + raw + b" something")),
    ]
    assert "a form" in found(b"before" + dresses[form] + b"after")


def test_a_path_tells_nothing(here: World) -> None:
    assert not [path for path in map(str, Path(here.home.root).rglob("*")) if "tenants" not in path and found(path.encode())]

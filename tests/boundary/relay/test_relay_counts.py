"""What was refused and left out, in numbers, for each tenant, since the relay started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from uuid import uuid4

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterEventType
from dagster._core.events import StepMaterializationData
from test_relay import Wire
from test_scope import _entry
from world import World, serving, world

from ntro_dagster.boundary.pool import pooled_engine
from ntro_dagster.boundary.relay import encoding
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.relay_counts import RelayCounts
from ntro_dagster.workspace.relay_refusals import NOBODY, TenantRefusals, read_refusals


@pytest.fixture(scope="module")
def here(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(postgres_server, tmp_path_factory.mktemp("counts")) as made:
        yield made


def test_each_tenants_own_are_counted(here: World) -> None:
    runs = {slug: here.create_run(slug) for slug in ("acme", "beta")}
    with serving(here) as server:
        for slug, talkative in (("acme", 2), ("beta", 3)):
            wire = Wire(here.socket(slug))
            key = AssetKey([slug, "ledgers", "things_1"])
            made = AssetMaterialization(key, metadata={f"smith {number}": "owes" for number in range(talkative)})
            entry = _entry(runs[slug].run_id, DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(made))
            assert wire.say("store_event", encoding.dumps({"event": entry}), key=str(uuid4()))[0] == 200
            theirs = _entry(runs["acme" if slug == "beta" else "beta"].run_id, DagsterEventType.RUN_START)
            assert wire.say("store_event", encoding.dumps({"event": theirs}), key=str(uuid4()))[0] == 403
            wire.close()
        assert server._relay.refused == {("acme", "store_event"): 1, ("beta", "store_event"): 1}
        assert server._relay.dropped == {("acme", "metadata"): 2, ("beta", "metadata"): 3}


def test_they_are_seen_as_they_stand_and_begin_anew_with_another_relay(here: World) -> None:
    engine = pooled_engine(here.url)
    first = RelayCounts(engine)
    first.write(Counter(), Counter())
    told = read_refusals(here.url)
    assert (told.without_key, told.tenants) == (0, [])
    assert told.since
    first.write(Counter({("acme", "get_runs"): 2, (NOBODY, "NO_KEY"): 5}), Counter({("beta", "tag"): 1}))
    first.write(Counter({("acme", "get_runs"): 3, (NOBODY, "NO_KEY"): 5}), Counter({("beta", "tag"): 1, ("acme", "tag"): 4}))
    told = read_refusals(here.url)
    assert told.without_key == 5
    assert told.tenants == [TenantRefusals("acme", {"get_runs": 3}, {"tag": 4}), TenantRefusals("beta", {}, {"tag": 1})]
    RelayCounts(engine).write(Counter({("beta", "get_runs"): 1}), Counter())
    again = read_refusals(here.url)
    assert (again.without_key, again.tenants) == (0, [TenantRefusals("beta", {"get_runs": 1})])
    assert again.since
    assert told.since
    assert again.since > told.since

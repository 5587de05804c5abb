"""`kill -9` of each part of an installation while rows are on their way to a ledger of somebody else's that misbehaves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import uuid4

import psycopg
import pytest
from freezing import freezing, prepare_freezing
from installed import APPROVER, Client, Site, add_tenant, assert_posted_once, assert_sound, eventually, installed, invent
from killing import KILLS, TENANT
from misbehaving_ledger import Elsewhere, misbehaving_ledger

from ntro_dagster.gl.settings import record
from ntro_dagster.host.home import Role, write_private
from ntro_dagster.host.installation import credential

PERIOD = "2026-03"
ROWS = 120  # three calls of Xero's
RECOVERY_S = 180.0
POSTED_S = 10.0

# Before the intent is committed; when a call is claimed; between the answer and the commit of what it confirms.
INTENT, CLAIM, CONFIRMED = "deliveries INSERT", "delivery_attempts INSERT", "deliveries UPDATE"
PLACES = {
    "run_worker": (CLAIM, 2),
    "daemon": (CONFIRMED, 2),
    "relay": (CLAIM, 1),
    "code_server": (CONFIRMED, 4),
    "postmaster": (CONFIRMED, 2),
    "postgres_backend": (CLAIM, 3),
    "supervisord": (INTENT, 1),
    "everything": (CONFIRMED, 4),
}


@dataclass(frozen=True)
class Away:
    site: Site
    client: Client
    elsewhere: Elsewhere
    places: dict[str, str]


@pytest.fixture(scope="module")
def away() -> Iterator[Away]:
    with misbehaving_ledger() as elsewhere, installed() as site:
        slugs = [kind.replace("_", "-") for kind in KILLS]
        client = add_tenant(site, TENANT, "Alpha Fund", {slug: slug for slug in slugs})
        write_private(site.home.tenant(TENANT).secrets / "xero", "id:secret\n", readers=site.home.tenant(TENANT).user)
        places = {slug: str(uuid4()) for slug in slugs}
        owner = credential(site.home, TENANT, Role.OWNER)
        for slug, place in places.items():
            (entity,) = client.ask("SELECT id FROM system.entities WHERE slug = %s", [slug])
            record(owner, provider="xero", options=elsewhere.xero(place), entity_id=entity["id"], by="operator")
            elsewhere.mood(
                place, seed=7, silence_s=1.0, late_s=0.6, retry_after="1",
                writes={"ok": 3, "commit_then_silence": 2, "commit_late": 1, "commit_then_500": 2, "reset": 1, "429": 1},
                reads={"ok": 12, "500": 1, "429": 1},
            )  # fmt: skip
        prepare_freezing(client)
        site.installation.start_services()
        yield Away(site, client, elsewhere, places)


def posted(away: Away, entity: str) -> bool:
    try:
        assert_sound(away.client, entity, PERIOD)
        return away.client.statuses(entity, PERIOD) == {"POSTED": ROWS}
    except psycopg.OperationalError:
        return False


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.long) for kind in KILLS])
def test_killed_while_delivering(away: Away, kind: str, record_property: Callable[[str, object], None]) -> None:
    client, entity = away.client, kind.replace("_", "-")
    document = invent(away.site.home.root / "documents" / f"{kind}.csv", PERIOD, ROWS)
    client.submit(document.path, PERIOD, entity)
    eventually(lambda: client.statuses(entity, PERIOD) == {"PENDING": ROWS}, "the document is staged")
    with freezing(client, *PLACES[kind]) as freezer:
        client.decide("approve", APPROVER, entity=entity, period=PERIOD, status="PENDING")
        frozen = freezer.wait()
        struck, wall = time.monotonic(), time.time()
        KILLS[kind](away.site, frozen)
        eventually(lambda: all_answer(away), "everything runs again", RECOVERY_S)
        away.elsewhere.mood(away.places[entity])  # from now on it behaves: how long the rest takes is ours
        recovered = time.monotonic()
        eventually(lambda: posted(away, entity), f"every row is posted after the {kind} was killed", RECOVERY_S)
        ended = time.monotonic()
    record_property("posted_s", round(ended - recovered, 1))
    print(f"{kind}: runs again {recovered - struck:.1f} s after the kill, all posted {ended - recovered:.1f} s after that")
    for run in away.site.runs(TENANT, partition=f"{entity}|{PERIOD}"):
        begun, over = run.start_time or 0, run.end_time or 0
        print(f"  {run.dagster_run.tags.get('ntro/work')} {run.dagster_run.status.value} {begun - wall:.1f} .. {over - wall:.1f}")
    eventually(lambda: client.closed(PERIOD, entity), "the month's books are drawn up", RECOVERY_S)
    assert_posted_once(client, entity, PERIOD, ROWS, document.gross)
    there = Counter(each["external_id"] for each in away.elsewhere.standing(away.places[entity]))
    assert (len(there), set(there.values())) == (ROWS, {1})


def all_answer(away: Away) -> bool:
    """Every process runs, the database answers, and no run is left that a dead worker had."""
    try:
        return bool(away.client.holds("SELECT TRUE")) and all(each.state == "RUNNING" for each in away.site.installation.status())
    except Exception:
        return False

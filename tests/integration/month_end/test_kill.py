"""`kill -9` in the middle of a run: every approved row is posted once, nothing is half-posted, nobody lifts a finger."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

import psycopg
import pytest
from freezing import freezing, prepare_freezing
from installed import APPROVER, Client, Site, add_tenant, assert_posted_once, assert_sound, eventually, installed, invent
from killing import KILLS, TENANT

from ntro_dagster.gl.batches import BATCH
from ntro_dagster.host.tenancy import ensure_entities

PERIOD = "2026-03"
ROWS = BATCH + 1_000  # two transactions
RECOVERY_S = 180.0


@dataclass(frozen=True)
class Books:
    """A site whose tenant has one entity per kind of kill, each with its month staged."""

    site: Site
    client: Client
    gross: dict[str, Decimal]


@pytest.fixture(scope="module")
def books() -> Iterator[Books]:
    with installed() as site:
        slugs = {kind: kind.replace("_", "-") for kind in KILLS}
        client = add_tenant(site, TENANT, "Alpha Fund", {slug: slug for slug in slugs.values()})
        prepare_freezing(client)
        site.installation.start_services()
        gross = {}
        for kind, slug in slugs.items():
            document = invent(site.home.root / "documents" / f"{kind}.csv", PERIOD, ROWS)
            client.submit(document.path, PERIOD, slug)
            gross[kind] = document.gross
        eventually(lambda: client.staged(PERIOD), "every document is staged")
        yield Books(site, client, gross)


def sound_again(client: Client, entity: str, period: str) -> None:
    """As soon as the database answers after a kill, and before anything was made good: nothing is half-posted."""

    def look() -> bool:
        try:
            assert_sound(client, entity, period)
        except psycopg.OperationalError:
            return False
        return True

    eventually(look, "the database answers again")


# Where the run stands when it is struck: between a journal and its lines, between lines and rows, between rows and commit.
JOURNALS, LINES, MOVES = "journals INSERT", "journal_lines INSERT", "expenses UPDATE"
PLACES = {
    "run_worker": JOURNALS,
    "daemon": LINES,
    "relay": LINES,
    "code_server": MOVES,
    "postmaster": LINES,
    "postgres_backend": MOVES,
    "supervisord": JOURNALS,
    "everything": MOVES,
}


def of_posting(place: str, batch: int) -> int:
    """Which statement since the approval was filed: the review run moves the rows once, too."""
    return batch + 1 if place == MOVES else batch


SHORT = ("run_worker", "postmaster")


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind in SHORT else pytest.mark.long) for kind in KILLS])
def test_killed_while_posting(books: Books, kind: str, record_property: Callable[[str, object], None]) -> None:
    client, entity, place = books.client, kind.replace("_", "-"), PLACES[kind]
    with freezing(client, place, of_posting(place, batch=2)) as freezer:
        client.decide("approve", APPROVER, entity=entity, period=PERIOD, status="PENDING")
        frozen = freezer.wait()
        assert 0 < assert_sound(client, entity, PERIOD)["posted"] < ROWS
        struck = time.monotonic()
        KILLS[kind](books.site, frozen)
        sound_again(client, entity, PERIOD)
        eventually(lambda: client.closed(PERIOD, entity), f"the month is closed after the {kind} was killed", RECOVERY_S)
    record_property("recovery_s", round(time.monotonic() - struck, 1))
    print(f"{kind}: closed {time.monotonic() - struck:.1f} s after the kill")
    assert_posted_once(client, entity, PERIOD, ROWS, books.gross[kind])


# -- the long form

SEED = os.environ.get("NTRO_KILL_SEED", "month-end")
TRIALS = 24
PHASES = {
    "staging": (("expenses INSERT", 2), ("intake UPDATE", 1)),
    "review": ((MOVES, 1), ("signal_rows UPDATE", 1), ("signals UPDATE", 1)),
    "posting": ((JOURNALS, 3), (LINES, 3), (MOVES, 3)),
    "close": (("closes INSERT", 1),),
}
"""Places of each kind of run, and how many statements it has there."""
LONG_ROWS = 2 * BATCH + 1_500  # three transactions of posting, two chunks of staging


@pytest.mark.long
@pytest.mark.parametrize("trial", range(TRIALS))
def test_killed_anywhere(books: Books, trial: int, record_property: Callable[[str, object], None]) -> None:
    random_of = random.Random(f"{SEED}/{trial}")  # noqa: S311 - chance, not secrecy
    phase = random_of.choice(list(PHASES))
    place, most = random_of.choice(PHASES[phase])
    number = random_of.randint(1, most)
    kind = random_of.choice(list(KILLS))
    print(f"NTRO_KILL_SEED={SEED} trial {trial}: {kind} while {phase}, at {place} number {number}")
    client, entity = books.client, f"t{trial}"
    ensure_entities(books.site.installation, TENANT, {entity: entity})
    document = invent(books.site.home.root / "documents" / f"{entity}.csv", PERIOD, LONG_ROWS)
    if phase != "staging":
        client.submit(document.path, PERIOD, entity)
        eventually(lambda: client.staged(PERIOD), "the document is staged")
    with freezing(client, place, of_posting(place, number) if phase == "posting" else number) as freezer:
        if phase == "staging":
            client.submit(document.path, PERIOD, entity)
        else:
            client.decide("approve", APPROVER, entity=entity, period=PERIOD, status="PENDING")
        frozen = freezer.wait()
        struck = time.monotonic()
        KILLS[kind](books.site, frozen)
        sound_again(client, entity, PERIOD)
    if phase == "staging":
        eventually(lambda: client.staged(PERIOD), f"staged after the {kind} was killed", RECOVERY_S)
        client.decide("approve", APPROVER, entity=entity, period=PERIOD, status="PENDING")
    eventually(lambda: client.closed(PERIOD, entity), f"closed after the {kind} was killed", RECOVERY_S)
    record_property("recovery_s", round(time.monotonic() - struck, 1))
    print(f"{kind} while {phase}: closed {time.monotonic() - struck:.1f} s after the kill")
    assert_posted_once(client, entity, PERIOD, LONG_ROWS, document.gross)

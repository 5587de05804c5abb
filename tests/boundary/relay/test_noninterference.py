"""Months of the same shape and different content: what the workspace is told of them is the same, byte for byte.

Compared are the tenant's requests to the relay, what its code server answers about its sensors, and every row of the workspace's
database, after `without_chance` has taken out clock and chance. What may differ between two tenants is their shape, which both
months share here (`same_shape`): how many documents, records and decisions there are, which of them are in order, who decides in
which round. Rows are counted by status, runs are seen, and how long they take is not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetExecutionContext, AssetObservation, MaterializeResult
from same_shape import APPROVERS, Content, Decision, SameBooks, Shape
from tenant_life import TENANT, Stage, Told, staged
from world import serving, world

from ntro_dagster.boundary.answers.survey import known_names
from ntro_dagster.boundary.names import ACTIVE, SURVEYS
from ntro_dagster.bundles import runbook_bundle
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.errors import NtroError
from ntro_dagster.host.launch import write_environment
from ntro_dagster.host.surveys import survey_tenants
from ntro_dagster.orchestration import assets, sensors
from ntro_dagster.orchestration.context import RunbookContext
from ntro_dagster.platforms.postgres.roles import DatabaseCredentials
from ntro_dagster.platforms.postgres.server import PostgresServer

SHORT, LONG = range(1), range(1, 120)


@pytest.fixture(scope="module")
def stage(
    postgres_server: PostgresServer,
    make_database: Callable[[], DatabaseCredentials],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    made = make_database()
    with (
        world(postgres_server, tmp_path_factory.mktemp("same")) as here,
        serving(here, known_names),
        pytest.MonkeyPatch.context() as patch,
    ):
        tenant = here.home.tenant(TENANT)
        tenant.create()
        write_environment(tenant.process_env, tenant.places)
        active = ActiveSet((runbook_bundle("expense-processor"),))
        tenant.active.write_text(active.to_json())
        patch.setenv(ACTIVE, str(tenant.active))
        survey_tenants(here.home, [TENANT])
        patch.setenv(SURVEYS, str(here.home.surveys))
        with staged(here, postgres_server.admin_dsn(), made) as ready:
            yield ready


def two_months(stage: Stage, shape: Shape, seed: int, folder: Path, **options: int) -> tuple[Told, Told]:
    one, other = (stage.month(shape, Content(f"{seed} {which}"), folder / which, **options) for which in ("one", "other"))
    check_shape(one, other)
    return one, other


def check_shape(one: Told, other: Told) -> None:
    assert one.outcomes == other.outcomes, "these months have not the same shape"
    assert one.documents.isdisjoint(other.documents), "these months have the same content"


def difference(one: Told, other: Told) -> str | None:
    """Where the first one is, with what stands around it; None: there is none."""
    lines = zip_longest(one.transcript + one.database, other.transcript + other.database, fillvalue="")
    for number, (this, that) in enumerate(lines):
        if this != that:
            at = next(
                (place for place, pair in enumerate(zip(this, that, strict=False)) if pair[0] != pair[1]),
                min(len(this), len(that)),
            )
            return f"line {number}: {this[:60]} ... {this[max(0, at - 200) : at + 80]!r} / {that[max(0, at - 20) : at + 80]!r}"
    return None


def assert_same(one: Told, other: Told) -> None:
    found = difference(one, other)
    assert found is None, found


def check(stage: Stage, seed: int, folder: Path) -> None:
    shape = Shape.of(seed)
    one, other = two_months(stage, shape, seed, folder)
    assert_same(one, other)
    assert one.closed == other.closed >= len(set(shape.units)), "the months did not come to their end"
    assert len(one.transcript) > 100


@pytest.mark.parametrize("seed", SHORT)
def test_the_workspace_cannot_tell_two_months_of_one_shape_apart(stage: Stage, seed: int, tmp_path: Path) -> None:
    check(stage, seed, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", LONG)
def test_nor_any_others(stage: Stage, seed: int, tmp_path: Path) -> None:
    check(stage, seed, tmp_path)


def test_nor_whether_two_entities_have_the_same_books(stage: Stage, tmp_path: Path) -> None:
    shape = Shape((("",), ("",)), (0, 2), late=False, rounds=((Decision("approve", APPROVERS[0], ((0, 0), (1, 0))),),))
    one, other = (stage.month(shape, kind(kind.__name__), tmp_path / kind.__name__) for kind in (Content, SameBooks))
    check_shape(one, other)
    assert_same(one, other)
    assert one.closed == len(shape.units)


# -- runs and sensors that fail

UNREVIEWED = Shape((("", "", "negative"),), (0,), late=False, rounds=())
FAILED_TICKS = 2
"""A run that died is started again once at once; then a pause follows, whose end the clock decides."""

Step = Callable[[RunbookContext], Coroutine[Any, Any, Any]]


class VendorOddError(NtroError):
    code = "ACCOUNT_UNKNOWN"
    detail = "no account for {vendor}"


async def _content(run: RunbookContext) -> str:
    """Text of the month."""
    (row,) = await run.database.fetch("SELECT string_agg(raw::text, ' ') AS said FROM ingest.submitted_records")
    return str(row["said"])


def _raise(make: Callable[[str], BaseException]) -> Callable[[AssetExecutionContext, Step], Any]:
    real = assets.in_partition

    def in_partition(context: AssetExecutionContext, step: Step) -> Any:
        async def fail(run: RunbookContext) -> Any:
            raise make(await _content(run))

        return real(context, fail)

    return in_partition


def _chained(said: str) -> BaseException:
    error = RuntimeError(said)
    error.__cause__ = ValueError(said[::-1])
    error.add_note(said)
    return error


@pytest.mark.parametrize(
    "make",
    [
        lambda said: VendorOddError(vendor=said),
        ValueError,
        _chained,
        lambda said: ExceptionGroup(said, [KeyError(said)]),
        SystemExit,
        lambda said: type("".join(filter(str.isidentifier, said))[:40], (Exception,), {})(said),
    ],
    ids=["of ours", "of Python", "chained", "group", "exit", "named after data"],
)
def test_a_failure_tells_no_more_than_its_code(
    stage: Stage, make: Callable[[str], BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "in_partition", _raise(make))
    one, other = two_months(stage, UNREVIEWED, 0, tmp_path, ticks=FAILED_TICKS)
    assert_same(one, other)
    assert any("STEP_FAILURE" in line for line in one.transcript)
    assert not one.outcomes


def test_a_failing_sensor_tells_no_more_than_its_code(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(database: Any, *_: Any, **__: Any) -> Any:
        (row,) = await database.fetch("SELECT string_agg(raw::text, ' ') AS said FROM ingest.submitted_records")
        raise LookupError(row["said"])

    monkeypatch.setattr(sensors, "waiting", fail)
    one, other = two_months(stage, UNREVIEWED, 0, tmp_path, ticks=FAILED_TICKS)
    assert_same(one, other)
    assert any("LookupError (error <id" in line for line in one.database)


# -- the test would notice

Leak = Callable[[AssetExecutionContext, int, Any], Any]


def _count(_: AssetExecutionContext, bit: int, result: Any) -> Any:
    return result._replace(metadata={**result.metadata, "records": bit}) if isinstance(result, MaterializeResult) else result


def _number_of_events(context: AssetExecutionContext, bit: int, result: Any) -> Any:
    for _ in range(bit):
        context.log_event(AssetObservation(assets.ledger_key("expenses")))
    return result


def _order_of_events(context: AssetExecutionContext, bit: int, result: Any) -> Any:
    for name in sorted(("expenses", "journals"), reverse=bool(bit)):
        context.log_event(AssetObservation(assets.ledger_key(name)))
    return result


def _requests(context: AssetExecutionContext, bit: int, result: Any) -> Any:
    for _ in range(bit):
        context.instance.get_runs_count()
    return result


def _code(_: AssetExecutionContext, bit: int, result: Any) -> Any:
    if bit:
        raise ValueError
    raise KeyError


def _talk(context: AssetExecutionContext, bit: int, result: Any) -> Any:
    """What the wall leaves out leaves no trace, however much of it there is."""
    for number in range(1 + 10 * bit):
        context.log.info("line %d: %d", number, bit)
        print("said", bit)
    told = {"remark": "x" * bit, "total": bit, "bits": bit}
    context.log_event(
        AssetObservation(assets.ledger_key("expenses"), metadata=told, description="y" * bit, tags={"bit": str(bit)})
    )
    return result


def _nothing(_: AssetExecutionContext, __: int, result: Any) -> Any:
    return result


def _bit(currency: str) -> int:
    """One bit of what a month holds."""
    return int(currency == "GBP")


DIFFERENT = next(seed for seed in count() if _bit(Content(f"{seed} one").currency) != _bit(Content(f"{seed} other").currency))
"""A seed whose two months differ in that bit."""


def _leaking(leak: Leak) -> Callable[[AssetExecutionContext, Step], Any]:
    real = assets.in_partition

    def in_partition(context: AssetExecutionContext, step: Step) -> Any:
        async def leaking(run: RunbookContext) -> Any:
            return leak(context, _bit(run.entity.currency), await step(run))

        return real(context, leaking)

    return in_partition


@pytest.mark.parametrize(
    ("leak", "noticed"),
    [
        *((leak, True) for leak in (_count, _number_of_events, _order_of_events, _requests, _code)),
        *((leak, False) for leak in (_talk, _nothing)),
    ],
    ids=["count", "number of events", "order of events", "requests", "code", "talk", "nothing"],
)
def test_one_bit_of_content_would_be_noticed(
    stage: Stage, leak: Leak, noticed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "in_partition", _leaking(leak))
    one, other = two_months(stage, UNREVIEWED, DIFFERENT, tmp_path, ticks=FAILED_TICKS)
    assert (difference(one, other) is not None) == noticed

"""Binding across both planes: repeated, interrupted at each step, refused; and what the database itself does not let happen."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from bound_tenant import World

from ntro_dagster.boundary.schedules import PeriodOffsetInvalidError
from ntro_dagster.host import bindings
from ntro_dagster.host.bindings import bind, pause, resume, unbind
from ntro_dagster.host.deployments import NotDeployedError
from ntro_dagster.host.tenancy import retire_entity
from ntro_dagster.ingest.submission import EntityClosedError
from ntro_dagster.workspace.deployments import VersionNotFoundError
from ntro_dagster.workspace.registry import EntityNotFoundError, SlugError
from ntro_dagster.workspace.workflows import VersionInvalidError, WorkflowDiffersError, WorkflowNotFoundError


class KilledError(BaseException):
    """Nobody handles it, as nobody handles kill -9."""


def in_tenant(world: World) -> list[tuple[Any, ...]]:
    return world.sql(
        "SELECT w.id, w.runbook, e.slug, w.cron, w.timezone, w.paused FROM system.workflows w "
        "JOIN system.entities e ON e.id = w.entity_id WHERE w.closed_at IS NULL ORDER BY e.slug"
    )


def in_registry(world: World) -> list[tuple[Any, ...]]:
    return [
        (
            each.id,
            each.binding.runbook,
            each.binding.entity,
            each.binding.schedule.cron if each.binding.schedule else None,
            each.binding.schedule.timezone if each.binding.schedule else None,
            each.paused,
        )
        for each in world.workflows()
    ]


def agree(world: World) -> None:
    """Registry, tenant and the list that definitions are made from."""
    assert in_tenant(world) == in_registry(world)
    times = {(each.binding.runbook, each.binding.schedule) for each in world.workflows() if each.binding.schedule}
    assert {(each["runbook"], each["cron"], each["timezone"]) for each in world.active.schedules} == {
        (runbook, time.cron, time.timezone) for runbook, time in times if time
    }


def test_bound_once_however_often_it_is_asked(world: World) -> None:
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda _: bind(world.installation, world.binding("spv-1")), range(4)))
    assert len({each.id for each in made}) == 1
    unscheduled = bind(world.installation, world.binding("spv-2", None))
    assert unscheduled.binding.schedule is None
    agree(world)
    assert len(in_tenant(world)) == 2


def test_another_way_is_refused_until_it_is_unbound(world: World) -> None:
    first = bind(world.installation, world.binding("spv-1"))
    for other in [
        {"cron": "0 9 5 * *"},
        {"cron": None},
        {"pinned": "v_000000000001"},
        {"period_offset": -2},
        {"timezone": "UTC"},
    ]:
        with pytest.raises(WorkflowDiffersError):
            bind(world.installation, world.binding("spv-1", **other))
    agree(world)
    unbind(world.installation, first.id)
    agree(world)
    assert in_tenant(world) == []
    with pytest.raises(WorkflowNotFoundError):
        unbind(world.installation, first.id)
    second = bind(world.installation, world.binding("spv-1", "0 9 5 * *"))
    assert second.id != first.id
    agree(world)
    assert world.sql("SELECT count(*) FROM system.workflows") == [(2,)]


def test_paused_and_resumed(world: World) -> None:
    workflow = bind(world.installation, world.binding("spv-1"))
    for _ in range(2):
        assert pause(world.installation, workflow.id).paused
        agree(world)
    for _ in range(2):
        assert not resume(world.installation, workflow.id).paused
        agree(world)
    (after,) = world.workflows()
    assert len(after.pauses) == 1
    assert world.sql("SELECT armed_at FROM system.workflows") == [(after.armed_at,)]
    assert after.armed_at > after.created_at


@pytest.mark.parametrize(
    ("act", "step"),
    [*product(["bind", "pause", "resume", "unbind"], ["tell_workflows"]), ("bind", "settle"), ("unbind", "settle")],
)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_a_step_it_is_completed_by_the_next(
    world: World, step: str, after: bool, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, called = (bindings.Runbooks, step) if step == "settle" else (bindings, step)
    whole = getattr(owner, called)

    def killed(*arguments: Any, **named: Any) -> None:
        if after:
            whole(*arguments, **named)
        raise KilledError

    acts: dict[str, Callable[[], object]] = {
        "bind": lambda: bind(world.installation, world.binding("spv-1")),
        "pause": lambda: pause(world.installation, workflow.id),
        "resume": lambda: resume(world.installation, workflow.id),
        "unbind": lambda: unbind(world.installation, workflow.id),
    }
    bind(world.installation, world.binding("spv-2", "0 9 7 * *"))
    if act != "bind":
        workflow = bind(world.installation, world.binding("spv-1"))
    if act == "resume":
        pause(world.installation, workflow.id)
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(owner, called, killed)
        acts[act]()
    says = {slug: paused for _, _, slug, _, _, paused in in_registry(world)}
    does = {slug: paused for _, _, slug, _, _, paused in in_tenant(world)}
    for slug, paused in does.items():
        assert paused or not says.get(slug, True), "what is said not to run never runs"
    world.add_entity("spv-3")
    bind(world.installation, world.binding("spv-3"))  # any next command
    agree(world)


def test_a_stop_reaches_the_tenant_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = bind(world.installation, world.binding("spv-1"))

    def killed(*_: Any) -> None:
        raise KilledError

    monkeypatch.setattr(bindings.Workflows, "pause", killed)
    with pytest.raises(KilledError):
        pause(world.installation, workflow.id)
    assert world.sql("SELECT paused FROM system.workflows") == [(True,)]


def test_refused_before_anything_is_written(world: World) -> None:
    right = world.binding("spv-1")
    for wrong, error in [
        (replace(right, runbook="Expense Processor"), SlugError),
        (replace(right, runbook="another"), NotDeployedError),
        (replace(right, pinned="v_999999999999"), VersionNotFoundError),
        (replace(right, entity="SPV"), SlugError),
        (replace(right, entity="spv-9"), EntityNotFoundError),
        (replace(right, pinned="latest"), VersionInvalidError),
        (replace(right, period_offset=1), PeriodOffsetInvalidError),
    ]:
        with pytest.raises(error):
            bind(world.installation, wrong)
    assert in_registry(world) == []


def test_a_closed_entity_is_bound_to_nothing(world: World) -> None:
    bind(world.installation, world.binding("spv-1"))
    retire_entity(world.installation, "acme", "spv-1")
    assert world.workflows() == []
    with pytest.raises(EntityClosedError):
        bind(world.installation, world.binding("spv-1"))
    bind(world.installation, world.binding("spv-2"))
    agree(world)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO system.workflows SELECT gen_random_uuid(), runbook, entity_id FROM system.workflows",
        "UPDATE system.workflows SET paused = FALSE",
        "DELETE FROM system.workflows",
    ],
)
def test_the_tenants_program_cannot_change_when_it_is_started(world: World, statement: str) -> None:
    bind(world.installation, world.binding("spv-1"))
    with psycopg.connect(world.app) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE system.workflows SET cron = '0 9 5 * *'",
        "UPDATE system.workflows SET pinned = 'v_000000000001'",
        "UPDATE system.workflows SET closed_at = NULL WHERE closed_at IS NOT NULL",
        "DELETE FROM system.workflows",
        "TRUNCATE system.workflows CASCADE",
    ],
)
def test_what_was_bound_stands(world: World, statement: str) -> None:
    gone = bind(world.installation, world.binding("spv-1"))
    unbind(world.installation, gone.id)
    bind(world.installation, world.binding("spv-1"))
    with pytest.raises(psycopg.Error) as refused:
        world.sql(statement)
    assert refused.value.diag.message_primary == "WORKFLOW_IS_KEPT"


def test_one_open_workflow_per_runbook_and_entity(world: World) -> None:
    bind(world.installation, world.binding("spv-1"))
    copied = "runbook, entity_id, cron, timezone, period_offset, pinned, paused, armed_at, created_at"
    with pytest.raises(psycopg.errors.UniqueViolation):
        world.sql(f"INSERT INTO system.workflows (id, {copied}) SELECT %s, {copied} FROM system.workflows", uuid4())

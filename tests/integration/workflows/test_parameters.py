"""What is set of a workflow's parameters: kept with the tenant, never lost to a kill, never what the version does not take."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from bound_tenant import RUNBOOK, TENANT, VERSIONS, World

from ntro_dagster.bundles import Bundle, runbook_bundle
from ntro_dagster.bundles.archive import read_folder
from ntro_dagster.bundles.parameter_values import ParameterInvalidError
from ntro_dagster.host import bindings
from ntro_dagster.host import parameters as host
from ntro_dagster.host.bindings import bind, reconcile, unbind
from ntro_dagster.host.parameters import ParametersDifferError, set_parameters, what_is_set
from ntro_dagster.orchestration.parameters import ParametersUnfitError, as_typed, parameters_of
from ntro_dagster.platforms.postgres.database import TenantDatabase
from ntro_dagster.tenant.deployment import Change, carry_out
from ntro_dagster.tenant.parameters import ActiveVersionMovedError, ParametersUnsatisfiedError

OLD, NEW = VERSIONS
BASIS = "    basis: {type: string, enum: [accrual, cash], default: accrual}\n"
CUTOFF = "    cutoff: {type: string, format: date}\n"


class KilledError(BaseException):
    """Nobody handles it, as nobody handles kill -9."""


def declare(world: World, version: str, properties: str, required: str = "") -> Path:
    """Give a version these parameters."""
    root = world.installation.home.tenant(TENANT).bundles / RUNBOOK / version
    shutil.copytree(runbook_bundle(RUNBOOK).root, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    page = root / "runbook.md"
    head = f"parameters:\n  type: object\n{required}  properties:\n{properties}" if properties else ""
    page.write_text(runbook_bundle(RUNBOOK).root.joinpath("runbook.md").read_text().replace("---\n", f"---\n{head}", 1))
    return root


@pytest.fixture
def told(world: World) -> World:
    """Both versions have `basis`, and the newer one is active."""
    for version in VERSIONS:
        declare(world, version, BASIS)
    return world


def values(world: World) -> dict[str, dict[str, Any]]:
    """By entity."""
    workflows = world.workflows()
    found = what_is_set(world.installation, workflows)
    return {each.binding.entity: found[each.id] for each in workflows}


def kept(world: World) -> list[tuple[Any, ...]]:
    return world.sql("SELECT name, value, version, set_by FROM system.workflow_parameters ORDER BY seq")


def test_set_when_it_is_bound_and_changed_later_with_who_and_when(told: World) -> None:
    made = bind(told.installation, told.binding("spv-1"), {"basis": "cash"}, by="user:ann")
    bind(told.installation, told.binding("spv-2"))
    assert values(told) == {"spv-1": {"basis": "cash"}, "spv-2": {}}
    for _ in range(2):  # what is set already is not set again
        set_parameters(told.installation, made.id, {"basis": "accrual"}, by="user:bob")
    _, left = set_parameters(told.installation, made.id, {"basis": ""}, by="user:bob")
    assert left == {} and values(told)["spv-1"] == {}
    assert kept(told) == [
        ("basis", "cash", None, "user:ann"),
        ("basis", "accrual", None, "user:bob"),
        ("basis", None, None, "user:bob"),
    ]


def test_nothing_of_it_is_in_the_workspace(told: World) -> None:
    bind(told.installation, told.binding("spv-1"), {"basis": "cash"}, by="user:ann")
    with psycopg.connect(told.installation.workspace_url()) as workspace:
        columns = workspace.execute(
            "SELECT format('%I.%I', table_schema, table_name), column_name FROM information_schema.columns "
            "WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        assert ("registry.workflows", "runbook") in columns
        for table, column in columns:
            found = workspace.execute(f"SELECT 1 FROM {table} WHERE \"{column}\"::text ~ 'cash|basis|user:ann'").fetchone()
            assert found is None, f"{table}.{column}"


@pytest.mark.parametrize("setting", [{"basis": "barter"}, {"base": "cash"}])
def test_what_the_version_does_not_take_is_refused_before_anything_is_written(told: World, setting: dict[str, str]) -> None:
    with pytest.raises(ParameterInvalidError):
        bind(told.installation, told.binding("spv-1"), setting)
    assert told.workflows() == [] and kept(told) == []
    made = bind(told.installation, told.binding("spv-1"))
    with pytest.raises(ParameterInvalidError):
        set_parameters(told.installation, made.id, setting, by="user:ann")
    assert kept(told) == []


def test_what_is_required_and_not_set_is_refused(told: World) -> None:
    declare(told, NEW, CUTOFF, "  required: [cutoff]\n")
    with pytest.raises(ParameterInvalidError) as refused:
        bind(told.installation, told.binding("spv-1"))
    assert refused.value.explain() == "parameter cutoff is required, but not set"
    assert told.workflows() == []
    made = bind(told.installation, told.binding("spv-1"), {"cutoff": "2026-01-31"})
    with pytest.raises(ParameterInvalidError):
        set_parameters(told.installation, made.id, {"cutoff": ""}, by="user:ann")


def test_a_pinned_entity_goes_by_its_own_version(told: World) -> None:
    declare(told, OLD, CUTOFF)
    made = bind(told.installation, told.binding("spv-1", pinned=OLD), {"cutoff": "2026-01-31"})
    with pytest.raises(ParameterInvalidError):
        set_parameters(told.installation, made.id, {"basis": "cash"}, by="user:ann")
    assert values(told) == {"spv-1": {"cutoff": "2026-01-31"}}


def test_bound_again_it_must_be_with_what_is_set(told: World) -> None:
    first = bind(told.installation, told.binding("spv-1"), {"basis": "cash"})
    assert bind(told.installation, told.binding("spv-1"), {"basis": "cash"}).id == first.id
    assert bind(told.installation, told.binding("spv-1")).id == first.id
    with pytest.raises(ParametersDifferError):
        bind(told.installation, told.binding("spv-1"), {"basis": "accrual"})
    assert values(told) == {"spv-1": {"basis": "cash"}}
    unbind(told.installation, first.id)
    bind(told.installation, told.binding("spv-1"))
    assert values(told) == {"spv-1": {}}, "another workflow begins with nothing set"


def test_two_who_bind_at_once_with_different_values_get_one_answer(told: World) -> None:
    def one(basis: str) -> str | None:
        try:
            bind(told.installation, told.binding("spv-1"), {"basis": basis})
        except ParametersDifferError:
            return None
        return basis

    with ThreadPoolExecutor(4) as threads:
        won = {basis for basis in threads.map(one, ["cash", "accrual"] * 4) if basis}
    assert len(won) == 1
    assert values(told) == {"spv-1": {"basis": won.pop()}}


@pytest.mark.parametrize(
    ("owner", "step"),
    [(host, "set_values"), (bindings.Workflows, "bind"), (bindings, "tell_workflows"), (bindings.Runbooks, "settle")],
)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_a_step_it_never_runs_without_what_was_set(
    told: World, owner: Any, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = getattr(owner, step)

    def killed(*arguments: Any, **named: Any) -> None:
        if after:
            whole(*arguments, **named)
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(owner, step, killed)
        bind(told.installation, told.binding("spv-1"), {"basis": "cash"})
    reconcile(told.installation, TENANT)
    assert all(each == {"basis": "cash"} for each in values(told).values())
    bind(told.installation, told.binding("spv-1"), {"basis": "cash"})
    assert values(told) == {"spv-1": {"basis": "cash"}}


# -- deployments


def deployment(root: Path, version: str) -> Change:
    return Change(uuid4(), "deploy", RUNBOOK, version, read_folder(root), root / "migrations")


def test_a_version_that_the_values_do_not_satisfy_is_not_deployed(told: World) -> None:
    root = declare(told, NEW, BASIS.replace("accrual, cash", "accrual, modified"))
    made = bind(told.installation, told.binding("spv-1"))
    set_parameters(told.installation, made.id, {"basis": "cash"}, by="user:ann", wanted=OLD)
    carry_out(told.owner, deployment(root, NEW))  # what is for the old version alone is nothing to the new one
    unbind(told.installation, made.id)

    root = declare(told, NEW, BASIS)
    made = bind(told.installation, told.binding("spv-1"), {"basis": "cash"})
    bind(told.installation, told.binding("spv-2", pinned=OLD), {"basis": "cash"})
    root = declare(told, NEW, BASIS.replace("accrual, cash", "accrual, modified") + CUTOFF, "  required: [cutoff]\n")
    before = told.sql("SELECT count(*) FROM system.deployments")
    with pytest.raises(ParametersUnsatisfiedError) as refused:
        carry_out(told.owner, deployment(root, NEW))
    said = [(p.file, p.line, p.code, p.message) for p in refused.value.values["problems"]]
    assert said == [
        ("runbook.md", 6, "PARAMETER_UNSATISFIED", "basis is none of its choices, for entity spv-1"),
        ("runbook.md", 7, "PARAMETER_UNSATISFIED", "cutoff is required, but not set, for entity spv-1"),
    ]
    assert root.joinpath("runbook.md").read_text().splitlines()[5].startswith("    basis:")
    assert "runbook.md:6: basis" in refused.value.explain() and str(made.id) in refused.value.advice()
    assert told.sql("SELECT count(*) FROM system.deployments") == before

    # As the mend says; the version that is active goes on with what it had.
    set_parameters(told.installation, made.id, {"basis": "modified", "cutoff": "2026-01-31"}, by="user:ann", wanted=NEW)
    carry_out(told.owner, deployment(root, NEW))
    declare(told, OLD, BASIS)
    carry_out(told.owner, deployment(root.parent / OLD, OLD))


def test_values_are_not_set_for_a_version_that_is_active_no_more(told: World, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bind(told.installation, told.binding("spv-1"))
    root = declare(told, OLD, CUTOFF)
    carry_out(told.owner, deployment(root, OLD))  # the registry says still that it is the other one
    with pytest.raises(ActiveVersionMovedError):
        set_parameters(told.installation, made.id, {"basis": "cash"}, by="user:ann")
    assert kept(told) == []


# -- what a run is given


def given(world: World, bundle: Bundle, run_id: UUID, entity: str = "spv-1") -> dict[str, Any]:
    ((entity_id,),) = world.sql("SELECT id FROM system.entities WHERE slug = %s", entity)

    async def ask() -> dict[str, Any]:
        async with TenantDatabase(world.app) as database:
            return as_typed(bundle, await parameters_of(database, bundle, run_id=run_id, entity_id=entity_id))

    return asyncio.run(ask())


def test_a_run_has_the_values_of_its_entity_and_the_defaults_of_its_version(told: World) -> None:
    bundle = Bundle(RUNBOOK, declare(told, NEW, BASIS + CUTOFF), NEW)
    bind(told.installation, told.binding("spv-1"), {"basis": "cash"})
    assert given(told, bundle, uuid4()) == {"basis": "cash", "cutoff": None}
    assert given(told, bundle, uuid4(), "spv-2") == {"basis": "accrual", "cutoff": None}


def test_a_run_goes_on_with_what_it_began_with(told: World) -> None:
    bundle = Bundle(RUNBOOK, declare(told, NEW, BASIS), NEW)
    made = bind(told.installation, told.binding("spv-1"), {"basis": "cash"})
    run = uuid4()
    with psycopg.connect(told.app) as app:
        app.execute(
            "INSERT INTO system.runs (run_id, entity_id, period, code, runbook, version, parameters) "
            "SELECT %s, entity_id, '2026-01', 's_000000000000', runbook, %s, system.parameters_of(id, %s) FROM system.workflows",
            [run, NEW, NEW],
        )
    set_parameters(told.installation, made.id, {"basis": "accrual"}, by="user:ann")
    assert given(told, bundle, run) == {"basis": "cash"}
    assert given(told, bundle, uuid4()) == {"basis": "accrual"}
    with psycopg.connect(told.app) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute("UPDATE system.runs SET parameters = '{}'")


def test_a_run_that_would_run_with_what_its_version_does_not_take_fails(told: World) -> None:
    bind(told.installation, told.binding("spv-1"), {"basis": "cash"})
    bundle = Bundle(RUNBOOK, declare(told, "v_000000000003", CUTOFF, "  required: [cutoff]\n"), "v_000000000003")
    with pytest.raises(ParametersUnfitError) as refused:
        given(told, bundle, uuid4())
    assert "cash" not in str(refused.value) and "basis" not in str(refused.value)


# -- what the database itself does not let happen


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE system.workflow_parameters SET value = '\"accrual\"'",
        "DELETE FROM system.workflow_parameters",
        "TRUNCATE system.workflow_parameters",
    ],
)
def test_what_was_set_stands(told: World, statement: str) -> None:
    bind(told.installation, told.binding("spv-1"), {"basis": "cash"})
    with pytest.raises(psycopg.Error) as refused:
        told.sql(statement)
    assert refused.value.diag.message_primary == "HISTORY_IS_APPEND_ONLY"
    with psycopg.connect(told.app) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(statement)


def test_the_tenants_program_sets_nothing_and_what_has_ended_has_no_parameters(told: World) -> None:
    insert = (
        "INSERT INTO system.workflow_parameters (workflow_id, name, value, set_by) VALUES (%s, 'basis', '\"cash\"', 'user:ann')"
    )
    made = bind(told.installation, told.binding("spv-1"))
    with psycopg.connect(told.app) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(insert, [made.id])
    told.sql(insert, made.id)
    unbind(told.installation, made.id)
    with pytest.raises(psycopg.Error) as refused:
        told.sql(insert, made.id)
    assert refused.value.diag.message_primary == "WORKFLOW_HAS_ENDED"


def test_values_are_words_numbers_and_truths(told: World) -> None:
    insert = "INSERT INTO system.workflow_parameters (workflow_id, name, value, set_by) VALUES (%s, %s, %s, 'user:ann')"
    refusals: list[Callable[[], object]] = [
        lambda: told.sql(insert, uuid4(), "basis", '{"a": 1}'),
        lambda: told.sql(insert, uuid4(), "basis", "null"),
        lambda: told.sql(insert, uuid4(), "Basis", '"cash"'),
    ]
    for refused in refusals:
        with pytest.raises(psycopg.errors.CheckViolation):
            refused()

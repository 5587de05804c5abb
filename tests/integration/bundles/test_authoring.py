"""What an author uses, from the first command to a test that passes: scaffold, check, rehearse, a type from a CSV."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ntro_dagster.authoring.bundle import FolderTakenError, SlugInvalidError, new_bundle
from ntro_dagster.authoring.row_type import TypeNameInvalidError, TypeTakenError, new_type
from ntro_dagster.bundles.check import examine
from ntro_dagster.bundles.problems import Problem
from ntro_dagster.cli.main import run as ntro
from ntro_dagster.testing import HAPPY, REJECT_ALL, Decision, Expected, Scenario, rehearse
from ntro_dagster.testing.scenario import ScenarioInvalidError, read_scenario
from ntro_dagster.testing.scratch import scratch_database
from ntro_dagster.testing.tables import table_problems

SLUG = "rent-roll"
TYPE = "subledgers/statement_lines.py"
MIGRATION = "migrations/001_subledger_statement_lines.sql"
TABLE = "ledgers.rent_roll__statement_lines"
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Throw-away databases of this module's own, so that it does not depend on what lies in the user's cache."""
    directory = tmp_path_factory.mktemp("scratch")
    for each in (directory, *directory.parents[:3]):
        each.chmod(0o755)  # else, as root, the data would go to /var/lib/ntro
    before = os.environ.get("NTRO_SCRATCH")
    os.environ["NTRO_SCRATCH"] = str(directory / "cluster")
    yield directory
    if before is None:
        del os.environ["NTRO_SCRATCH"]
    else:
        os.environ["NTRO_SCRATCH"] = before


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("scaffold")
    new_bundle(SLUG, parent)
    return parent / SLUG


@pytest.fixture
def bundle(scaffold: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scaffold, tmp_path / SLUG))


def change(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text()
    assert text.count(old) == 1
    (root / file).write_text(text.replace(old, new))


def add(root: Path, file: str, text: str) -> None:
    path = root / file
    path.write_text((path.read_text() if path.exists() else "") + text)


def line_of(root: Path, file: str, text: str) -> int:
    return next(number for number, line in enumerate((root / file).read_text().splitlines(), start=1) if text in line)


def problems_of(root: Path) -> list[Problem]:
    checked = examine(root)
    assert [problem for problem in checked.problems if problem.is_error] == []
    return table_problems(root, checked)


def test_the_scaffold_passes_everything_at_once(scaffold: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Scaffold, check, rehearse, its own pytest, ruff and mypy: as `ntro runbook new` wrote it."""
    assert ntro(["workflow", "check", str(scaffold), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == []
    for scenario in ("happy", "reject_all", "one_rejected.yaml"):
        assert ntro(["workflow", "test", str(scaffold), "--scenario", scenario, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["passed"] and told["timeline"]
    tools = (
        ["pytest", "-q", "-p", "no:cacheprovider", "tests"],
        [
            "ruff",
            "check",
            "--no-cache",
            "--config",
            str(REPOSITORY / "pyproject.toml"),
            "--extend-per-file-ignores",
            "tests/*:S101",
            ".",
        ],
        ["ruff", "format", "--no-cache", "--check", "--config", str(REPOSITORY / "pyproject.toml"), "."],
        ["mypy", "--strict", "--no-incremental", "--config-file", os.devnull, "."],
    )
    for tool in tools:
        ran = subprocess.run([sys.executable, "-m", *tool], cwd=scaffold, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_scaffold_overwrites_nothing(scaffold: Path) -> None:
    before = {path: path.read_bytes() for path in scaffold.rglob("*") if path.is_file()}
    with pytest.raises(FolderTakenError):
        new_bundle(SLUG, scaffold.parent)
    assert {path: path.read_bytes() for path in scaffold.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("slug", ["Rent", "rent_roll", "-rent", "rent--roll", "../up", "r" * 31, "1rent", ""])
def test_a_slug_that_cannot_be_one(tmp_path: Path, slug: str) -> None:
    with pytest.raises(SlugInvalidError):
        new_bundle(slug, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_approver_who_made_the_row_is_refused(bundle: Path) -> None:
    scenario = Scenario(
        "one person",
        decisions=[Decision("accept", {"status": "NEEDS_ATTENTION"}, by="ann"), Decision("approve", by="ann")],
        expect=Expected(refused={"MAKER_IS_NOT_CHECKER": 1}, counts={"statement_lines": {"POSTED": 2, "PENDING": 1}}),
    )
    report = rehearse(bundle, scenario)
    assert report.passed, report.reasons


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        (Expected(counts={"statement_lines": {"POSTED": 2}}), "statement_lines: expected POSTED=2, found POSTED=3"),
        (Expected(refused={"CONTENT_CHANGED": 1}), "refused: expected CONTENT_CHANGED=1, found nothing"),
        (Expected(trial_balance={}), "account 2000: expected 0, found -1656.9"),
    ],
)
def test_an_expectation_that_fails_says_what_was_found(scaffold: Path, expect: Expected, reason: str) -> None:
    scenario = Scenario("wrong", decisions=[Decision("accept"), Decision("approve")], expect=expect)
    assert reason in rehearse(scaffold, scenario).reasons


def test_a_decision_that_fits_no_row_is_no_pass(scaffold: Path) -> None:
    report = rehearse(scaffold, Scenario("idle", decisions=[Decision("reject", {"supplier": "Nobody"})]))
    assert report.reasons == ("the decision `reject` (supplier=Nobody) fitted no row",)


def test_happy_is_not_happy_with_rows_that_cannot_be_accepted(bundle: Path) -> None:
    """Neither with none at all."""
    (sample,) = bundle.glob("samples/*/*/statement.csv")
    sample.write_text(sample.read_text().replace("86.40", "eighty"))
    report = rehearse(bundle, HAPPY)
    assert report.refused.keys() == {"STILL_INVALID"}
    assert any("1 rows are still NEEDS_ATTENTION" in reason for reason in report.reasons)
    shutil.rmtree(bundle / "samples")
    assert rehearse(bundle, HAPPY).reasons == ("no row came of the samples: put a document into samples/",)


def test_reject_all_posts_nothing(scaffold: Path) -> None:
    report = rehearse(scaffold, REJECT_ALL)
    assert report.passed and report.balances == {} and report.counts == {"statement_lines": {"REJECTED": 3}}


def test_a_failing_asset_is_a_reason_and_not_a_traceback(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(
        bundle, "assets.py", "        yield Payload(", "        if record.line > 2:\n            continue\n        yield Payload("
    )
    assert ntro(["workflow", "test", str(bundle)]) == 1
    told = capsys.readouterr().out
    assert "RECORDS_LOST" in told and "2 records have no row" in told


def test_a_bundle_with_problems_is_not_rehearsed(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(bundle, "runbook.md", "0.1.0", "one")
    assert ntro(["workflow", "test", str(bundle), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [problem["code"] for problem in told["problems"]] == ["VERSION_INVALID"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("decisons: []", "did you mean 'decisions'?"),
        ("decisions: [{decde: approve}]", "did you mean 'decide'?"),
        ("decisions: [{where: {status: PENDING}}]", "does not say what is decided"),
        ("expect: {trial_balance: {'1000': 12.5}}", "not in quotes: 12.5"),
        ("expect: {trial_balance: {'1000': abc}}", "'abc' is not an amount"),
        ("[a, b]", "not a list of `field: value`"),
        ("decisions: {", ""),
    ],
)
def test_a_scenario_that_cannot_be_read_says_why(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioInvalidError) as caught:
        read_scenario(path)
    assert why in caught.value.explain()


DRIFT: dict[str, tuple[Callable[[Path], None], str, str, str]] = {
    # what is done; file; text of its line; what is said
    "a field without a column": (
        lambda root: change(
            root, TYPE, "    category: str | None = None", "    category: str | None = None\n    unit: str | None = None"
        ),
        TYPE,
        "    unit: str",
        "unit is in the type, but not in",
    ),
    "a column without a field": (
        lambda root: change(root, MIGRATION, "    category            TEXT,", "    category            TEXT,\n    unit TEXT,"),
        MIGRATION,
        "    unit TEXT",
        "has unit (text), but the type has not",
    ),
    "a bare NUMERIC": (
        lambda root: change(root, MIGRATION, "NUMERIC(38, 9)", "NUMERIC(20, 2)"),
        TYPE,
        "    amount: Money",
        "amount is money in the type, but numeric(20,2) in",
    ),
    "no table": (
        lambda root: (root / MIGRATION).write_text("SELECT 1;\n") and None,
        TYPE,
        "@register_type",
        f"no migration creates {TABLE}",
    ),
    "a statement that PostgreSQL cannot read": (
        lambda root: add(root, MIGRATION, f"\n\nCREATE INDEX ON {TABLE} (suplier);\n"),
        MIGRATION,
        "CREATE INDEX",
        'column "suplier" does not exist',
    ),
    "an error in the third file": (
        lambda root: (
            add(root, "migrations/002_note.sql", f"COMMENT ON TABLE {TABLE} IS 'x';\n"),
            add(root, "migrations/003_more.sql", f"-- two lines\n\nALTER TABLE {TABLE}\n    ADD COLUM unit TEXT;\n"),
            None,
        )[-1],
        "migrations/003_more.sql",
        "ADD COLUM",
        "syntax error",
    ),
    "what the database refuses its owner": (
        lambda root: add(root, MIGRATION, "\nCREATE EXTENSION adminpack;\n"),
        MIGRATION,
        "CREATE EXTENSION",
        "PostgreSQL refuses it",
    ),
}


@pytest.mark.parametrize("case", DRIFT)
def test_type_and_table_are_compared_on_a_real_database(bundle: Path, case: str) -> None:
    mutate, file, text, said = DRIFT[case]
    mutate(bundle)
    (problem,) = problems_of(bundle)
    assert (problem.file, problem.line) == (file, line_of(bundle, file, text)), problem
    assert said in problem.message


def test_a_type_without_any_migration(bundle: Path) -> None:
    shutil.rmtree(bundle / "migrations")
    (problem,) = problems_of(bundle)
    assert (problem.file, problem.code) == (TYPE, "TABLE_MISSING")


CSV = """Tenant Name,Unit No.,Monthly Rent,Paid on,Lease start,Vacant,Order,Id,Floor,Grouped,Empty
Ann Example,001,1200.00,2026-01-05,31/12/2024,yes,3,A1,1,"1,200.00",
Bob Example,010,950.5,2026-01-06,05/06/2025,no,4,A2,2,950.50,
"""


def test_a_type_from_a_csv_fits_its_table_and_runs(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "rents.csv"
    source.write_text(CSV)
    written = new_type("rents", source, bundle)
    types = {column.name: column.type.value for column in written.columns}
    assert types == {
        "tenant_name": "text",
        "unit_no": "text",
        "monthly_rent": "money",
        "paid_on": "date",
        "lease_start": "date",
        "vacant": "boolean",
        "source_order": "integer",
        "source_id": "text",
        "floor": "integer",
        "grouped": "text",
        "empty": "text",
    }
    assert all(column.why for column in written.columns)
    checked = examine(bundle)
    assert [problem.code for problem in checked.problems] == ["TYPE_UNFILLED"]
    assert table_problems(bundle, checked) == []
    assert rehearse(bundle, HAPPY).passed
    for tool in (["ruff", "check"], ["ruff", "format", "--check"]):
        command = [sys.executable, "-m", *tool, "--no-cache", "--config", str(REPOSITORY / "pyproject.toml"), "."]
        ran = subprocess.run(command, cwd=bundle / "subledgers", capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    with pytest.raises(TypeTakenError):
        new_type("rents", source, bundle)


@pytest.mark.parametrize("name", ["expenses", "Rents", "1rents", "a" * 41, "../rents"])
def test_a_type_name_that_cannot_be_one(bundle: Path, tmp_path: Path, name: str) -> None:
    source = tmp_path / "rents.csv"
    source.write_text(CSV)
    before = sorted(bundle.rglob("*"))
    with pytest.raises(TypeNameInvalidError):
        new_type(name, source, bundle)
    assert sorted(bundle.rglob("*")) == before


def test_throw_away_databases_do_not_see_each_other_and_go(scratch: Path) -> None:
    import psycopg  # noqa: PLC0415

    with scratch_database() as one, scratch_database() as other:
        assert one.database != other.database
        with psycopg.connect(one.owner) as connection:
            connection.execute("CREATE TABLE ledgers.mine (id INT)")
        with psycopg.connect(other.owner) as connection:
            found: Any = connection.execute("SELECT to_regclass('ledgers.mine')").fetchone()
            assert found == (None,)
            gone = connection.execute("SELECT datname FROM pg_database").fetchall()
    with scratch_database() as third, psycopg.connect(third.owner) as connection:
        names = {name for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall()}
        assert not {one.database, other.database} & names
        assert {one.database, other.database} <= {name for (name,) in gone}


def test_the_last_one_out_stops_the_server(scratch: Path) -> None:
    from ntro_dagster.testing.scratch import ScratchServer  # noqa: PLC0415

    with scratch_database():
        server = ScratchServer(scratch / "cluster")
        with scratch_database():
            pass
        assert server.is_ready()
    assert not server.is_ready()

"""A table of bad bundles: each is a mutation of the scaffold, and each is told by file, line and code, without a database."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ntro_dagster.authoring.bundle import new_bundle
from ntro_dagster.bundles import layout
from ntro_dagster.bundles.check import check, examine, static
from ntro_dagster.bundles.problems import errors
from ntro_dagster.tenant.seclusion import possible

SLUG = "rent-roll"
TYPE = "subledgers/statement_lines.py"
MIGRATION = "migrations/001_subledger_statement_lines.sql"


@pytest.fixture(scope="module")
def scaffold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("scaffold")
    new_bundle(SLUG, parent)
    return parent / SLUG


@pytest.fixture
def bundle(scaffold: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scaffold, tmp_path / SLUG))


Mutation = Callable[[Path], None]


def replace(file: str, old: str, new: str) -> Mutation:
    def mutate(root: Path) -> None:
        text = (root / file).read_text()
        assert text.count(old) == 1, f"{old!r} must stand in {file} once"
        (root / file).write_text(text.replace(old, new))

    return mutate


def append(file: str, text: str) -> Mutation:
    def mutate(root: Path) -> None:
        path = root / file
        path.write_text((path.read_text() if path.exists() else "") + text)

    return mutate


def line_of(root: Path, file: str, text: str) -> int:
    return next(number for number, line in enumerate((root / file).read_text().splitlines(), start=1) if text in line)


def link(root: Path) -> None:
    (root / "secret.csv").symlink_to("/etc/passwd")


def large(root: Path) -> None:
    with (root / "samples" / "big.csv").open("wb") as file:
        file.truncate(layout.LARGEST_FILE + 1)


def huge(root: Path) -> None:
    for number in range(5):
        with (root / f"{number}.bin").open("wb") as file:
            file.truncate(layout.LARGEST_FILE)


def pipe(root: Path) -> None:
    os.mkfifo(root / "samples" / "pipe")


def renamed(old: str, new: str) -> Mutation:
    def mutate(root: Path) -> None:
        (root / old).rename(root / new)

    return mutate


def removed(file: str) -> Mutation:
    return lambda root: (root / file).unlink()


PARAMETERS = "parameters:\n  type: object\n  properties:\n"
DECIMAL = "    rate:\n      type: string\n      format: decimal\n      pattern: '^[0-9]|.*$'\n"
A_LIST = """

@subledger_asset("journal_proposals")
async def proposals(run: RunbookContext) -> list[Payload]:
    return []
"""
AGAIN = """

@subledger_asset("statement_lines")
async def again(run: RunbookContext) -> AsyncIterator[Payload]:
    yield Payload({}, "x")
"""

TABLE: dict[str, tuple[Mutation, str, str | int, str]] = {
    # what is done to the scaffold; file; text of the line it is told at, or its number; code
    "no runbook.md": (removed("runbook.md"), "runbook.md", 1, "RUNBOOK_MISSING"),
    "no frontmatter": (replace("runbook.md", "---\nslug", "slug"), "runbook.md", 1, "FRONTMATTER_MISSING"),
    "frontmatter is no YAML": (
        replace("runbook.md", "jurisdictions: [UK]", "jurisdictions: [UK"),
        "runbook.md",
        "tags:",
        "FRONTMATTER_UNREADABLE",
    ),
    "an alias": (replace("runbook.md", "[UK]", "&a [UK]"), "runbook.md", "jurisdictions:", "FRONTMATTER_UNREADABLE"),
    "a field twice": (replace("runbook.md", "tags:", "version: 2.0.0\ntags:"), "runbook.md", "version: 2.0.0", "FIELD_REPEATED"),
    "a field missing": (replace("runbook.md", "version: 0.1.0\n", ""), "runbook.md", 1, "FIELD_MISSING"),
    "a field misspelt": (replace("runbook.md", "tags:", "tgas:"), "runbook.md", "tgas:", "FIELD_UNKNOWN"),
    "a bad slug": (replace("runbook.md", f"slug: {SLUG}", "slug: Rent_Roll"), "runbook.md", "slug:", "SLUG_INVALID"),
    "a bad version": (replace("runbook.md", "0.1.0", "1.0"), "runbook.md", "version:", "VERSION_INVALID"),
    "a bad cron": (replace("runbook.md", "0 8 5 * *", "0 25 5 * *"), "runbook.md", "schedule:", "SCHEDULE_INVALID"),
    "a cron of six fields": (replace("runbook.md", "0 8 5 * *", "0 0 8 5 * *"), "runbook.md", "schedule:", "SCHEDULE_INVALID"),
    "a bad time zone": (replace("runbook.md", "Europe/London", "Europe/Londn"), "runbook.md", "timezone:", "TIMEZONE_INVALID"),
    "a bad jurisdiction": (replace("runbook.md", "[UK]", "[UK, jersey]"), "runbook.md", "jurisdictions:", "JURISDICTION_INVALID"),
    "a bad start": (replace("runbook.md", 'start: "', 'start: "0'), "runbook.md", "start:", "START_INVALID"),
    "reads nothing known": (
        replace("runbook.md", "  statement_lines:", "  statements:"),
        "runbook.md",
        "  statements:",
        "READS_UNFILLED",
    ),
    "an unknown reader": (
        replace("runbook.md", "reads:", "sources:\n  rents:\n    reader: tabel\nreads:"),
        "runbook.md",
        "reader: tabel",
        "SOURCES_INVALID",
    ),
    "made of nothing": (
        replace("runbook.md", "reads:", "derives:\n  journal_proposals: {from: []}\nreads:"),
        "runbook.md",
        "journal_proposals:",
        "DERIVES_INVALID",
    ),
    "a section missing": (replace("runbook.md", "## Edge cases", "## Oddities"), "runbook.md", "timezone:", "SECTION_MISSING"),
    "a parameter of free text": (
        replace("runbook.md", "reads:", f"{PARAMETERS}    note: {{type: string}}\nreads:"),
        "runbook.md",
        "note:",
        "PARAMETER_INVALID",
    ),
    "a parameter that is a float": (
        replace("runbook.md", "reads:", f"{PARAMETERS}    rate:\n      type: number\nreads:"),
        "runbook.md",
        "type: number",
        "PARAMETER_INVALID",
    ),
    "a decimal that lets words through": (
        replace(
            "runbook.md",
            "reads:",
            f"{PARAMETERS}{DECIMAL}reads:",
        ),
        "runbook.md",
        "pattern:",
        "PARAMETER_INVALID",
    ),
    "no assets.py": (removed("assets.py"), "assets.py", 1, "ASSETS_MISSING"),
    "a syntax error": (append("assets.py", "\ndef broken(:\n"), "assets.py", "def broken(:", "SYNTAX_ERROR"),
    "a syntax error in a test": (append("tests/test_more.py", "x = (\n"), "tests/test_more.py", 1, "SYNTAX_ERROR"),
    "another bundle imported": (
        append("assets.py", "\nfrom ntro_bundle_capital_calls.assets import calls\n"),
        "assets.py",
        "ntro_bundle_capital_calls",
        "IMPORTS_ANOTHER_BUNDLE",
    ),
    "the host imported": (
        append("assets.py", "\nfrom ntro_dagster.host import home\n"),
        "assets.py",
        "host import",
        "IMPORT_FORBIDDEN",
    ),
    "the workspace imported inside a function": (
        append("assets.py", "\n\ndef look():\n    import ntro_dagster.workspace.registry\n"),
        "assets.py",
        "workspace.registry",
        "IMPORT_FORBIDDEN",
    ),
    "the host imported by another spelling": (
        append("assets.py", "\nfrom ntro_dagster import host\n"),
        "assets.py",
        "import host",
        "IMPORT_FORBIDDEN",
    ),
    "a package that is not there": (append("assets.py", "\nimport flask\n"), "assets.py", "import flask", "IMPORT_NOT_INSTALLED"),
    "its own module as if installed": (
        append("assets.py", "\nimport subledgers\n"),
        "assets.py",
        "import subledgers",
        "IMPORT_NOT_RELATIVE",
    ),
    "a relative import of nothing": (
        append("assets.py", "\nfrom .readers import line\n"),
        "assets.py",
        ".readers",
        "IMPORT_UNRESOLVED",
    ),
    "a relative import out of the bundle": (
        append(TYPE, "\nfrom ...secrets import key\n"),
        TYPE,
        "...secrets",
        "IMPORT_UNRESOLVED",
    ),
    "a module of the platform's that is not there": (
        append("assets.py", "\nfrom ntro_dagster.ledger import x\n"),
        "assets.py",
        "ntro_dagster.ledger",
        "MODULE_NOT_FOUND",
    ),
    "a range in requirements": (
        append("requirements.txt", "pydantic>=2\n"),
        "requirements.txt",
        "pydantic",
        "REQUIREMENT_NOT_PINNED",
    ),
    "an option in requirements": (
        append("requirements.txt", "-r others.txt\n"),
        "requirements.txt",
        "-r",
        "REQUIREMENT_NOT_PINNED",
    ),
    "a pin against what is installed": (
        append("requirements.txt", "Pydantic==1.10\n"),
        "requirements.txt",
        "Pydantic",
        "REQUIREMENT_CONTRADICTS",
    ),
    "a pin of what is not installed": (
        append("requirements.txt", "flask==3.0.0\n"),
        "requirements.txt",
        "flask",
        "REQUIREMENT_NOT_INSTALLED",
    ),
    "a migration without a number": (renamed(MIGRATION, "migrations/lines.sql"), "migrations/lines.sql", 1, "MIGRATION_NAME"),
    "a number left out": (append("migrations/003_more.sql", "SELECT 1;\n"), "migrations/003_more.sql", 1, "MIGRATION_MISSING"),
    "a number twice": (append("migrations/001_zz.sql", "SELECT 1;\n"), "migrations/001_zz.sql", 1, "MIGRATION_REPEATED"),
    "an index made concurrently": (
        append(MIGRATION, "\nCREATE INDEX CONCURRENTLY i ON ledgers.rent_roll__statement_lines (supplier);\n"),
        MIGRATION,
        "CONCURRENTLY",
        "SQL_NOT_IN_TRANSACTION",
    ),
    "a vacuum behind a comment": (
        append(MIGRATION, "\n/* tidy /* up */ */ vacuum full;\n"),
        MIGRATION,
        "vacuum",
        "SQL_NOT_IN_TRANSACTION",
    ),
    "a commit": (append(MIGRATION, "\nCOMMIT;\n"), MIGRATION, "COMMIT", "SQL_ENDS_TRANSACTION"),
    "another role": (append(MIGRATION, "\nSET LOCAL ROLE ntro_desk;\n"), MIGRATION, "SET LOCAL", "SQL_SWITCHES_ROLE"),
    "another search path": (
        append(MIGRATION, "\nSELECT set_config('search_path', 'system', false);\n"),
        MIGRATION,
        "set_config",
        "SQL_SWITCHES_ROLE",
    ),
    "another role in a block": (
        append(MIGRATION, "\nDO $$\nBEGIN\n  RESET ROLE;\nEND $$;\n"),
        MIGRATION,
        "RESET ROLE",
        "SQL_SWITCHES_ROLE",
    ),
    "history rewritten": (
        append(MIGRATION, "\nDELETE FROM system.history;\n"),
        MIGRATION,
        "system.history",
        "SQL_OF_THE_PLATFORM",
    ),
    "a rule switched off": (
        append(MIGRATION, "\nALTER TABLE ledgers.rent_roll__statement_lines DISABLE TRIGGER ALL;\n"),
        MIGRATION,
        "DISABLE TRIGGER",
        "SQL_OF_THE_PLATFORM",
    ),
    "another's table": (
        append(MIGRATION, "\nALTER TABLE ledgers.expenses ADD COLUMN x TEXT;\n"),
        MIGRATION,
        "ledgers.expenses",
        "TABLE_OF_ANOTHER",
    ),
    "a symbolic link": (link, "secret.csv", 1, "SYMLINK"),
    "a pipe": (pipe, "samples/pipe", 1, "NOT_A_FILE"),
    "a large file": (large, "samples/big.csv", 1, "FILE_TOO_LARGE"),
    "a large bundle": (huge, ".", 1, "BUNDLE_TOO_LARGE"),
    "a name that not every system keeps": (append("what?.md", "x"), "what?.md", 1, "FILE_NAME"),
    "names that differ in capitals": (append("ASSETS.py", "x = 1\n"), "assets.py", 1, "FILE_NAME"),
    "a type of the platform's": (
        replace(TYPE, 'register_type("statement_lines")', 'register_type("expenses")'),
        TYPE,
        "@register_type",
        "SUBLEDGER_NAME_TAKEN",
    ),
    "a type of another runbook's": (
        replace(TYPE, 'register_type("statement_lines")', 'register_type("statement_lines", owner_runbook="other")'),
        TYPE,
        "@register_type",
        "SUBLEDGER_NAME_INVALID",
    ),
    "a type without a proposal": (replace(TYPE, "def propose_for_gl", "def propose"), TYPE, "@register_type", "PROPOSAL_MISSING"),
    "a float for money": (replace(TYPE, "amount: Money", "amount: float"), TYPE, "amount: float", "COLUMN_TYPE"),
    "a field required that is none": (
        replace(TYPE, '("supplier", "amount", "currency")', '("suplier", "amount")'),
        TYPE,
        "required:",
        "TYPE_FIELD_UNKNOWN",
    ),
    "an asset of no type": (
        replace("assets.py", '"statement_lines")', '"statement_line")'),
        "assets.py",
        "@subledger_asset",
        "ASSET_WITHOUT_TYPE",
    ),
    "an asset that is no generator": (
        append(
            "assets.py",
            A_LIST,
        ),
        "assets.py",
        '@subledger_asset("journal_proposals")',
        "ASSET_NOT_A_GENERATOR",
    ),
    "an asset twice": (
        append(
            "assets.py",
            AGAIN,
        ),
        "assets.py",
        1,
        "ASSET_REPEATED",
    ),
    "an asset outside the tenant": (
        append(
            "assets.py",
            '\n\nimport dagster\n\n\n@dagster.asset(key=["other", "ledgers", "rows"])\ndef theirs() -> None:\n    pass\n',
        ),
        "assets.py",
        "@dagster.asset",
        "ASSET_OUTSIDE_TENANT",
    ),
    "no asset at all": (replace("assets.py", '@subledger_asset("statement_lines")\n', ""), "assets.py", 1, "NO_ASSET"),
    "a type that nothing fills": (
        replace("assets.py", '@subledger_asset("statement_lines")', '@subledger_asset("journal_proposals")'),
        TYPE,
        "@register_type",
        "TYPE_UNFILLED",
    ),
    "an exception on import": (append(TYPE, "\n1 / 0\n"), TYPE, "1 / 0", "LOAD_FAILED"),
    "an exit on import": (append("assets.py", "\nraise SystemExit(0)\n"), "assets.py", "SystemExit", "LOAD_FAILED"),
    "the process ended on import": (append("assets.py", "\nimport os\n\nos._exit(0)\n"), "assets.py", 1, "LOAD_FAILED"),
    "a forged answer": (append("assets.py", '\nimport os\n\nos.write(1, b"{}")\nos._exit(0)\n'), "assets.py", 1, "LOAD_FAILED"),
    "a name that no module has": (
        append("assets.py", "\nfrom ntro_dagster.gl.posting import nothing\n"),
        "assets.py",
        "import nothing",
        "LOAD_FAILED",
    ),
}


TOLD_BY_LOADING = {
    "ASSET_NOT_A_GENERATOR",
    "ASSET_OUTSIDE_TENANT",
    "ASSET_REPEATED",
    "ASSET_WITHOUT_TYPE",
    "COLUMN_TYPE",
    "LOAD_FAILED",
    "NO_ASSET",
    "PROPOSAL_MISSING",
    "READS_UNFILLED",
    "SUBLEDGER_NAME_INVALID",
    "SUBLEDGER_NAME_TAKEN",
    "TYPE_FIELD_UNKNOWN",
    "TYPE_UNFILLED",
}
"""The others are found without importing the code, which takes a process and a second."""


@pytest.mark.parametrize("case", TABLE)
def test_a_bad_bundle_is_told_by_file_line_and_code(bundle: Path, case: str) -> None:
    mutate, file, where, code = TABLE[case]
    mutate(bundle)
    line = where if isinstance(where, int) else line_of(bundle, file, where)
    if code == "SECTION_MISSING":
        line = (bundle / file).read_text().splitlines().index("---", 1) + 2
    if code == "ASSET_REPEATED":
        line = len((bundle / "assets.py").read_text().splitlines()) - 2
    found = check(bundle) if code in TOLD_BY_LOADING else static(bundle)[1]
    assert (file, line, code) in {(problem.file, problem.line, problem.code) for problem in found}, found
    assert all(problem.message and problem.mend for problem in found)


def test_the_scaffold_has_nothing_to_complain_of(scaffold: Path) -> None:
    assert check(scaffold) == []


def test_everything_is_told_at_once(bundle: Path) -> None:
    for case in ("a bad version", "a bad cron", "a misspelt import", "a commit", "a range in requirements", "a symbolic link"):
        if case in TABLE:
            TABLE[case][0](bundle)
    assert {problem.code for problem in errors(check(bundle))} >= {
        "VERSION_INVALID",
        "SCHEDULE_INVALID",
        "SQL_ENDS_TRANSACTION",
        "REQUIREMENT_NOT_PINNED",
        "SYMLINK",
    }


def test_a_misspelt_field_is_named_as_it_should_be(bundle: Path) -> None:
    TABLE["a field misspelt"][0](bundle)
    (problem,) = check(bundle)
    assert "did you mean 'tags'?" in problem.message


def test_a_bundle_that_is_no_folder(tmp_path: Path) -> None:
    (problem,) = check(tmp_path / "nothing")
    assert problem.code == "NOT_A_BUNDLE"


@pytest.mark.skipif(not possible(), reason="this kernel has no Landlock")
def test_code_that_is_looked_over_reads_no_file(bundle: Path) -> None:
    """Not even one that every user of the machine may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        secret = Path(folder, "secret.txt")
        secret.write_text("the figures")
        secret.chmod(0o644)
        append("assets.py", f"\nfrom pathlib import Path\n\nPath({str(secret)!r}).read_text()\n")(bundle)
        (problem,) = check(bundle)
    assert (problem.file, problem.code) == ("assets.py", "LOAD_FAILED")
    assert "PermissionError" in problem.message
    assert problem.line == line_of(bundle, "assets.py", "read_text")


def test_code_that_is_looked_over_sees_no_environment(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NTRO_PLATFORM_URL", "postgresql://secret")
    append("assets.py", "\nimport os\n\nassert 'NTRO_PLATFORM_URL' not in os.environ, 'seen'\n")(bundle)
    assert check(bundle) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_code_that_root_looks_over_is_nobody(bundle: Path) -> None:
    append("assets.py", "\nimport os\n\nassert os.geteuid() != 0, 'root'\n")(bundle)
    bundle.chmod(0o700)
    assert check(bundle) == []


@pytest.mark.parametrize(
    "line",
    [
        "import dagster",
        "from ntro_dagster.orchestration.assets import subledger_asset as by_its_old_name",
        "import http.client, pickle, sqlite3, statistics, tomllib, unittest.mock, xml.etree.ElementTree",
    ],
)
def test_a_bundle_imports_what_is_there(bundle: Path, line: str) -> None:
    append("assets.py", f"{line}\n")(bundle)
    assert [problem.message for problem in errors(examine(bundle).problems)] == []


def test_what_a_bundle_prints_is_no_answer(bundle: Path) -> None:
    append("assets.py", "\nprint('{}')\n")(bundle)
    assert check(bundle) == []


def test_what_the_code_defines_comes_as_data(scaffold: Path) -> None:
    loaded = examine(scaffold).loaded
    (kind,) = loaded.types
    assert kind.description["table"] == "rent_roll__statement_lines"
    assert kind.description["columns"]["amount"] == "money"
    assert (kind.file, kind.lines["amount"]) == (TYPE, line_of(scaffold, TYPE, "    amount: Money"))
    assert loaded.fills == ("statement_lines",)

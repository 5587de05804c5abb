"""What every command pays for before it does anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNBOOKS = Path(__file__).parents[3] / "runbooks"
HEAVY = ["dagster", "psycopg", "sqlalchemy", "ntro_dagster.host.home"]
SHOW = """
import json, sys
from ntro_dagster.cli.main import run
code = run(sys.argv[1:])
print(json.dumps([code, [name for name in {heavy!r} if name in sys.modules]]))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["ingest", "--help"], ["nonsense"]])
def test_help_and_usage_errors_load_nothing_heavy(arguments: list[str]) -> None:
    heavy = [*HEAVY, "pydantic"] if arguments == ["--help"] else HEAVY
    done = subprocess.run(
        [sys.executable, "-c", SHOW.format(heavy=heavy), *arguments], capture_output=True, text=True, check=True
    )
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []  # pydantic: Typer itself wants it as soon as there is an argument to check
    assert code == (2 if arguments == ["nonsense"] else 0)


@pytest.mark.parametrize(
    "modules",
    [
        "ntro_dagster.host.tenancy, ntro_dagster.workspace.workflows, ntro_dagster.workspace.deployments",  # most commands
        "ntro_dagster.workspace.feed",  # `ntro run`
        "ntro_dagster.gl.accounts, ntro_dagster.gl.trial_balance",
        "ntro_dagster.tenant.bundle_load",  # asks what a bundle defines
    ],
)
def test_what_needs_no_dagster_does_not_load_it(modules: str) -> None:
    show = f"import sys, {modules}; print([name for name in ('dagster', 'sqlalchemy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@pytest.mark.parametrize("slug", sorted(path.parent.name for path in RUNBOOKS.glob("*/assets.py")))
def test_shipped_runbooks_are_described_without_dagster(slug: str) -> None:
    show = (
        "import sys; from ntro_dagster.bundles import runbook_bundle; from ntro_dagster.tenant.bundle_load import BundleLoader; "
        f"found = BundleLoader(runbook_bundle({slug!r})).describe(); "
        "print(found['problems'], bool(found['fills']), 'dagster' in sys.modules)"
    )
    environment = os.environ | {"NTRO_TENANT": "checked"}
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[] True False"


def test_the_package_itself_loads_nothing_heavy() -> None:
    show = "import sys, ntro_dagster; print([name for name in ('dagster', 'pydantic', 'typer', 'rich') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.strip() == "[]"

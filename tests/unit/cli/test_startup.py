"""What every command pays for before it does anything."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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


def test_the_package_itself_loads_nothing_heavy() -> None:
    show = "import sys, ntro_dagster; print([name for name in ('dagster', 'pydantic', 'typer', 'rich') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout.strip() == "[]"

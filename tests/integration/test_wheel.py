"""The wheel works without a checkout: it carries the platform's bundle and the runbooks."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]

WHAT_IT_HOLDS = """
import ntro_dagster
from pathlib import Path
from ntro_dagster.bundles import platform_bundle, runbook_bundles
from ntro_dagster.platforms.migrations import migration_files
from ntro_dagster.subledger.registry import load_types, subledger_types
load_types(platform_bundle(), *runbook_bundles())
print(Path(ntro_dagster.__file__).parents[1])
print(*[file.name for file in migration_files(platform_bundle().migrations)])
print(*[kind.name for kind in subledger_types(platform_bundle())])
print(*[bundle.slug for bundle in runbook_bundles()])
"""


def test_wheel_holds_everything(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    names = [path.name for path in installed.rglob("*")]
    assert "__pycache__" not in names
    said = subprocess.run(
        [sys.executable, "-c", WHAT_IT_HOLDS],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin"},
    )
    where, migrations, types, runbooks = said.stdout.splitlines()
    assert where == str(installed)
    assert migrations.split() == sorted(path.name for path in (ROOT / "migrations").glob("*.sql"))
    assert types.split() == ["expenses", "journal_proposals"]
    assert runbooks.split() == sorted(path.parent.name for path in (ROOT / "runbooks").glob("*/runbook.md"))

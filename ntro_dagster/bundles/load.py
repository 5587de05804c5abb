"""Loads a bundle's code where it can do no harm, and asks what it defines.

In a process of its own that reads nothing but this program, Python and the bundle (`tenant.seclusion`), with an empty
environment and a limit on time, memory and output. The process is named here, not imported: bundles lie below the tenant.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ntro_dagster.bundles.layout import bundle_files
from ntro_dagster.bundles.problems import Problem, Severity

CHILD = "ntro_dagster.tenant.bundle_load"
PATIENCE_S = 60.0
LARGEST_ANSWER = 4 * 2**20
"""Bytes. The child may write no file larger than this either."""


@dataclass(frozen=True, slots=True)
class LoadedType:
    """A row type of the bundle, without its code.

    Attributes:
        description: as `subledger.description.TypeDescription` writes it.
        lines: name of a field -> line of `file` that declares it.
    """

    description: Mapping[str, Any]
    file: str
    line: int
    lines: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the bundle's code said it defines. `fills`: subledgers that its assets fill."""

    types: tuple[LoadedType, ...] = ()
    fills: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(default=())


def load(root: Path, slug: str, *, search_path: Sequence[str] = ()) -> Loaded:
    """Args: `search_path`: beside this program's own, as PYTHONPATH of the tenant's processes."""
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as complaints, _in_reach(root) as shown:
        try:
            ended = subprocess.run(
                [sys.executable, "-m", CHILD, str(shown.resolve()), slug, str(LARGEST_ANSWER)],
                env=_environment(search_path),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=complaints,
                timeout=PATIENCE_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            said = f"its code was still being imported after {PATIENCE_S:.0f} s"
            return _failed("LOAD_TIMED_OUT", said, "do the work in an asset, not when a module is imported")
        answer.seek(0)
        try:
            return _told(json.loads(answer.read(LARGEST_ANSWER + 1)))
        except (ValueError, KeyError, TypeError, AttributeError):
            complaints.seek(max(0, complaints.seek(0, os.SEEK_END) - 2000))
            last = complaints.read().decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            said = f"its code ended the process that imported it (exit {ended}): {last[0]}"
            return _failed(
                "LOAD_FAILED", said, "code that is imported must not exit, print to file descriptors, or need much memory"
            )


@contextmanager
def _in_reach(root: Path) -> Iterator[Path]:
    """The bundle, or for root, whose child becomes nobody, a copy that nobody can read."""
    if os.geteuid() != 0:
        yield root
        return
    with tempfile.TemporaryDirectory(prefix="ntro-bundle-") as copy:
        Path(copy).chmod(0o755)
        for path in bundle_files(root):
            if path.is_symlink() or not path.is_file():
                continue
            target = Path(copy, path.relative_to(root))
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o644)
        for folder in (path for path in Path(copy).rglob("*") if path.is_dir()):
            folder.chmod(0o755)
        yield Path(copy)


def _failed(code: str, message: str, mend: str) -> Loaded:
    return Loaded(problems=(Problem("assets.py", 1, code, message, mend),))


def _environment(search_path: Sequence[str]) -> dict[str, str]:
    """All that the code can know: a tenant's name that is nobody's."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    return {**kept, "NTRO_TENANT": "checked", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(search_path)}


def _told(answer: Mapping[str, Any]) -> Loaded:
    return Loaded(
        types=tuple(
            LoadedType(
                description=dict(each["description"]),
                file=str(each["file"]),
                line=int(each["line"]),
                lines={str(name): int(line) for name, line in each["lines"].items()},
            )
            for each in answer["types"]
        ),
        fills=tuple(map(str, answer["fills"])),
        problems=tuple(
            Problem(str(file), int(line), str(code), str(message), str(mend), Severity(severity))
            for file, line, code, message, mend, severity in answer["problems"]
        ),
    )

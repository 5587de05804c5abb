"""A peer's own Python, with what it needs and what the unit of work needs, and none of what ntro runs on."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
INSTALL_PATIENCE_S = 600


class NotInstallableError(Exception):
    """A peer cannot be installed here; `str()` is the last line that pip printed."""


@dataclass(frozen=True, slots=True)
class Venv:
    root: Path

    def program(self, name: str) -> str:
        return str(self.root / "bin" / name)

    def environment(self, *places: Path) -> dict[str, str]:
        """Of this machine what every process needs; modules from the repository and from `places`. No variable that would keep
        compiled modules from being written: each process would compile them again.
        """
        return {
            "PATH": f"{self.root / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": os.pathsep.join(map(str, (REPOSITORY, *places))),
            "LANG": "C.UTF-8",
        }


def installed_venv(root: Path, requirements: Path) -> Venv:
    """Args: `requirements`: every package, pinned; nothing else is installed.

    Raises: `NotInstallableError`.
    """
    venv.create(root, with_pip=True)
    made = Venv(root)
    command = [made.program("python"), "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(requirements)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=INSTALL_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise NotInstallableError(f"pip was not done after {INSTALL_PATIENCE_S} s") from None
    if done.returncode:
        raise NotInstallableError((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    return made


def compile_ours() -> None:
    """So that no process of anybody's compiles what it imports from the repository."""
    packages = [str(REPOSITORY / name) for name in ("benchmarks", "ntro_dagster", "subledgers", "runbooks")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-m", "compileall", "-q", *packages], env=environment, check=True)

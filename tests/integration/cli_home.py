"""One installation, driven through the `ntro` command alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntro_dagster.host.ports import free_port
from tests.integration.warm_ntro import warm_ntro

NTRO = Path(sys.executable).parent / "ntro"
FIRST_PORT = int(os.environ["NTRO_FIRST_DESK_PORT"]) - 4_000
"""Of the Dagster UI: a range for each worker, so that a home which is down for a moment finds its port free again."""
ROOT = Path(__file__).parents[2]
HEADER = "Department family,Entity,Date,Expense Type,Expense area,Supplier,Transaction number,Amount\n"


@dataclass(frozen=True)
class Done:
    """One command line's end."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, str]:
        """The error of a command run with `--json`: one object, alone on standard error."""
        found: dict[str, str] = json.loads(self.err)
        assert set(found) == {"code", "message", "mend"}
        assert "\n" not in found["message"]
        assert found["mend"]
        return found


_called: set[tuple[str, ...]] = set()


def _is_first(words: list[str]) -> bool:
    """Whether a command comes for the first time. It has a process begun for it, as a person's has; later ones are forked."""
    command = tuple(word for word in words if re.fullmatch("[a-z][a-z-]+", word))[:2]
    first = command not in _called
    _called.add(command)
    return first


@dataclass(frozen=True)
class CommandLine:
    """`ntro` in one home."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("NTRO_", "DAGSTER_")) or name == "NTRO_FIRST_DESK_PORT"
        }
        return kept | {"NTRO_HOME": str(self.home)}

    def __call__(self, *arguments: str | Path, prefix: tuple[str, ...] = (), timeout: float = 120) -> Done:
        words = [*map(str, arguments)]
        if not prefix and not _is_first(words):
            return Done(*warm_ntro().run(words, self.environment, timeout))
        done = subprocess.run(
            [*prefix, str(NTRO), *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
        """A command that stays until it is interrupted; a test run in the background would hand down an ignored Ctrl-C."""
        heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        return subprocess.Popen([str(NTRO), *arguments], env=self.environment | {"TERM": "xterm"}, text=True, **streams, **heed)

    def ok(self, *arguments: str | Path) -> Any:
        """The JSON of a command that must succeed."""
        done = self(*arguments, "--json")
        assert done.code == 0, f"{arguments}: {done.code}\n{done.out}\n{done.err}"
        assert done.err == ""
        return done.json

    def refused(self, *arguments: str | Path, prefix: tuple[str, ...] = ()) -> tuple[str, int]:
        """Code and exit code of a command that must fail: with one line and a mend, and no traceback anywhere."""
        human = self(*arguments, prefix=prefix)
        first, second, *rest = human.err.splitlines()
        assert first.startswith("error "), human.err
        assert second.startswith("→ "), human.err
        assert rest == []
        told = self("--json", *arguments, prefix=prefix)
        assert told.code == human.code != 0
        assert f"error {told.error['code']}: " in first
        assert "Traceback" not in human.err + told.err
        return told.error["code"], told.code


@contextmanager
def command_line() -> Iterator[CommandLine]:
    """A home with nothing in it, and nothing running in the end. A short path: sockets are in it."""
    root = Path(tempfile.mkdtemp(prefix="ntro-cli-", dir="/tmp"))
    ntro = CommandLine(root / "home")
    try:
        yield ntro
    finally:
        data = (ntro.home / "postgres" / "data").resolve()
        if (ntro.home / "home.json").exists():
            ntro("down")
        shutil.rmtree(root)
        if data.is_dir():  # as root, the database lies where its own user can reach it
            shutil.rmtree(data.parent)


@contextmanager
def installed() -> Iterator[CommandLine]:
    """A running home with tenant `acme` and its entity `spv-1`."""
    with command_line() as ntro:
        ntro.ok("up", "--detach", "--port", str(free_port(FIRST_PORT)))
        ntro.ok("tenant", "create", "acme", "--name", "Acme Capital")
        ntro.ok("workflow", "push", ROOT / "runbooks" / "expense-processor")
        ntro.ok("workflow", "deploy", "expense-processor", "--tenant", "acme")
        ntro.ok("entity", "create", "spv-1", "--tenant", "acme", "--name", "SPV One")
        yield ntro


def write_return(path: Path, *lines: str) -> Path:
    """A spending return: `entity,date,supplier,amount` a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, line in enumerate(lines, 1):
        entity, date, supplier, amount = line.split(",")
        rows.append(f"Dept,{entity},{date},Travel,Area,{supplier},{number},{amount}\n")
    path.write_text(HEADER + "".join(rows))
    return path

"""How long it takes until something can be done, and what an installation takes while nothing is done."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
from psycopg.conninfo import conninfo_to_dict

from benchmarks.installed import SLUG, installed
from benchmarks.measure import told
from benchmarks.processor_time import between, used
from ntro_dagster.host.home import Role
from ntro_dagster.host.installation import Installation, credential

TIMES = 5
IDLE_S = 60.0
SETTLE_S = 15.0
NTRO = Path(sys.executable).with_name("ntro")
SHOWN = {"name": "what", "value": "median", "unit": "", "spread": "spread", "aim": "aim"}

Found = dict[str, Any]


def measure() -> list[Found]:
    """Commands by the clock, from their start to their end; memory as PSS, which counts a shared page once in all."""
    with installed(started=False) as installation:
        home = installation.home.root
        installation.down()
        found = [_figure("ntro --help", "s", _timed(lambda: _ntro("--help")), 0.3)]
        ups: list[float] = []
        with ExitStack() as running:
            for _ in range(TIMES):
                running.close()
                begun = time.monotonic()
                running.enter_context(_up(home))
                ups.append(time.monotonic() - begun)
            return found + _of_a_running_one(installation, ups)


def _of_a_running_one(installation: Installation, ups: Sequence[float]) -> list[Found]:
    home, found = installation.home.root, []
    found.append(_figure("ntro up, one tenant, until it may be used", "s", ups, 15.0))
    found.append(_figure("ntro status", "s", _timed(lambda: _ntro("status", home=home)), 0.5))
    time.sleep(SETTLE_S)
    found.append(_figure("memory of an idle tenant", "MB", [_tenant_mb(installation)], 200.0))
    found.append(_figure("CPU of an idle installation with one tenant", "% of a core", [_idle(installation)], None))
    found.append(_figure("ntro tenant create, until it may be used", "s", _timed(_another(home)), 3.0))
    return found


def _figure(name: str, unit: str, values: Sequence[float], aim: float | None) -> Found:
    middle = statistics.median(values)
    spread = f"{(max(values) - min(values)) / middle:.0%}" if len(values) > 1 else ""
    return told({"name": name, "value": round(middle, 2), "unit": unit, "times": len(values), "spread": spread, "aim": aim})


def _timed(do: Callable[[], object]) -> list[float]:
    return [_seconds(do) for _ in range(TIMES)]


def _seconds(do: Callable[[], object]) -> float:
    begun = time.monotonic()
    do()
    return time.monotonic() - begun


def _ntro(*words: str, home: Path | None = None) -> None:
    subprocess.run([NTRO, *words, *(["--home", home] if home else [])], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def _up(home: Path) -> Iterator[None]:
    """Until it says that it is up; ended as by Ctrl-C."""
    with subprocess.Popen([NTRO, "up", "--home", home], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        assert up.stdout
        try:
            said: deque[str] = deque(maxlen=8)
            for line in up.stdout:
                said.append(line)
                if "Ctrl-C" in line:
                    break
            else:
                raise RuntimeError(f"ntro up ended: {' '.join(said)}")
            yield
        finally:
            up.send_signal(signal.SIGINT)
            up.stdout.read()


def _another(home: Path) -> Callable[[], None]:
    numbers = iter(range(TIMES))
    return lambda: _ntro("tenant", "create", f"more_{next(numbers)}", "--name", "More", home=home)


def _tenant_mb(installation: Installation) -> float:
    """Of everything that one tenant adds: code server, what runs are forked from, desk, its sessions of PostgreSQL."""
    pids = {process.name: process.pid for process in installation.status() if process.pid}
    database = conninfo_to_dict(credential(installation.home, SLUG, Role.APP))["dbname"]
    trees = [psutil.Process(pids[name]) for name in (f"tenant-{SLUG}", f"desk-{SLUG}")]
    processes = [each for tree in trees for each in (tree, *tree.children(recursive=True))]
    sessions = psutil.Process(pids["postgres"]).children()
    processes += [each for each in sessions if str(database) in " ".join(each.cmdline())]
    return sum(each.memory_full_info().pss for each in processes) / 2**20


def _idle(installation: Installation) -> float:
    before = used(installation)
    time.sleep(IDLE_S)
    return sum(between(before, used(installation)).values()) / IDLE_S * 100

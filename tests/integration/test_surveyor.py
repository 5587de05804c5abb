"""Surveys forked from one process: what each is told, what becomes of one that hangs, and of the process itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil
import pytest

from ntro_dagster.boundary.names import ACTIVE
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.bundles.bundle import Bundle
from ntro_dagster.host.surveyor import Surveyor, SurveyorGoneError

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="surveys are forked on Linux alone")
PAGE = "---\nslug: told\nname: Told\nversion: 1.0.0\nschedule: '0 6 1 * *'\ntimezone: UTC\n---\n"
TELLS = """
import os, sys
print("ENVIRONMENT", sorted(os.environ), file=sys.stderr)
def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
print("OPEN", [number for number in range(256) if is_open(number)], file=sys.stderr)
"""
Asks = Callable[..., dict[str, Any]]


@pytest.fixture
def complaints(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "survey.log").open("w+b") as file:
        yield file


@pytest.fixture
def surveyor() -> Iterator[Surveyor]:
    others = below()  # of tests before, in this process
    surveyor = Surveyor()
    yield surveyor
    surveyor.close()
    assert below() == others


@pytest.fixture
def ask(surveyor: Surveyor, complaints: IO[bytes], tmp_path: Path) -> Asks:
    def asked(code: str = "", tenant: str = "acme", seconds: float = 60.0) -> dict[str, Any]:
        root = tmp_path / "told"
        root.mkdir(exist_ok=True)
        (root / "runbook.md").write_text(PAGE)
        (root / "subledgers.py").write_text(code)
        listed = tmp_path / "active.json"
        listed.write_text(ActiveSet(bundles=(Bundle("told", root, "v_000000000000"),)).to_json())
        environment = {"PATH": os.environ["PATH"], "NTRO_TENANT": tenant, ACTIVE: str(listed)}
        answer = surveyor.ask(environment, complaints.fileno(), user=None, seconds=seconds)
        found: dict[str, Any] = json.loads(answer)
        return found

    return asked


def below() -> list[psutil.Process]:
    """Processes of ours that surveys are forked from, and surveys."""
    return [each for each in psutil.Process().children(recursive=True) if _surveys(each)]


def _surveys(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # it has ended since it was listed; a zombie is one, too
        return "ntro_dagster.tenant.surveyor" in " ".join(process.cmdline())
    return False


def test_each_survey_has_its_own_environment_and_nothing_open(ask: Asks, complaints: IO[bytes]) -> None:
    for tenant in ("acme", "beta"):
        assert "refused" in ask(TELLS, tenant)  # the bundle has no assets
    complaints.seek(0)
    told = [line for line in complaints.read().decode().splitlines() if line.startswith(("ENVIRONMENT", "OPEN"))]
    assert told[0] == told[2] == f"ENVIRONMENT {sorted(['PATH', 'NTRO_TENANT', ACTIVE])}"
    assert len(set(told)) == 2
    assert told[1] == "OPEN [0, 1, 2]"


def test_what_one_was_told_the_next_cannot_find(ask: Asks, complaints: IO[bytes]) -> None:
    ask(tenant="somebodys-very-own")
    ask(
        "import gc, sys\n"
        "print('FOUND', any('somebodys-very-own' in str(each) for each in gc.get_objects() if isinstance(each, (dict, list))),"
        " file=sys.stderr)\n"
    )
    complaints.seek(0)
    assert b"FOUND False" in complaints.read()


def test_one_that_hangs_is_killed_and_the_next_is_answered(ask: Asks) -> None:
    ask()
    before = below()
    with pytest.raises(subprocess.TimeoutExpired):
        ask("while True: pass", seconds=1.0)
    psutil.wait_procs([each for each in below() if each not in before], timeout=30)
    assert below() == before
    assert "refused" in ask()


def test_one_that_ends_the_process_says_nothing(ask: Asks) -> None:
    with pytest.raises(json.JSONDecodeError):
        ask("import os; os._exit(0)")
    assert "refused" in ask()


def test_a_process_that_died_is_started_again(ask: Asks) -> None:
    others = below()
    ask()
    (process,) = [each for each in below() if each not in others]
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    with pytest.raises(SurveyorGoneError):
        ask()
    assert "refused" in ask()


def test_it_ends_with_whoever_asks(tmp_path: Path) -> None:
    script = "\n".join(
        [
            "import os, psutil",
            "from ntro_dagster.host.surveyor import Surveyor",
            "environment = {'PATH': os.environ['PATH'], 'NTRO_TENANT': 'acme'}",
            "said = Surveyor().ask(environment, 2, user=None, seconds=60)",
            "print(len(said) > 1000, *[each.pid for each in psutil.Process().children()], flush=True)",
            "os.kill(os.getpid(), 9)",
        ]
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout
    answered, *children = said.split()
    assert answered == "True"
    gone, left = psutil.wait_procs([psutil.Process(int(each)) for each in children if psutil.pid_exists(int(each))], timeout=30)
    assert left == [], gone

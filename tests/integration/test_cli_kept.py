"""A failed run, from the id that the workspace shows to the whole story that the tenant keeps, by the commands alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import psycopg
import pytest

from ntro_dagster.boundary.tenant_logs import aside
from tests.integration.cli_home import CommandLine, installed, write_return

T = TypeVar("T")
EXPENSES = ("--tenant", "acme", "--subledger", "expenses")


def eventually(look: Callable[[], T], seconds: float = 90.0) -> T:
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "deadline passed"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def ntro() -> Iterator[CommandLine]:
    with installed() as ntro:
        yield ntro


@pytest.fixture(scope="module")
def failed(ntro: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A posting that found no account for its one row."""
    path = write_return(tmp_path_factory.mktemp("r") / "2025-01" / "a.csv", "SPV One,05/01/2025,Rail Ltd,100.00")
    ntro.ok("ingest", path, "--tenant", "acme", "--wait")
    with psycopg.connect((ntro.home / "tenants/acme/credentials/owner").read_text().strip(), autocommit=True) as owner:
        owner.execute("INSERT INTO ledgers.periods SELECT id, '2025-01', 'CLOSED' FROM system.entities")
        ntro.ok("review", "approve", *EXPENSES, "--period", "2025-01", "--as", "bob", "--wait")
        owner.execute("UPDATE ledgers.accounts SET active = FALSE")
        owner.execute("UPDATE ledgers.periods SET status = 'OPEN'")
    runs = eventually(lambda: ntro.ok("run", "list", "--tenant", "acme", "--status", "FAILURE"))
    shown: dict[str, Any] = ntro.ok("run", "show", runs[-1]["run_id"])
    return shown


def test_a_failed_run_says_what_to_type_next(ntro: CommandLine, failed: dict[str, Any]) -> None:
    (failure,) = failed["failures"]
    assert failure["asset"] == "ledgers/journals"
    assert failure["code"] == "ROWS_NOT_POSTED"
    human = ntro("run", "show", failed["run_id"]).out
    assert f"ledgers/journals: {failure['code']} (error {failure['error_id']})\n" in human
    assert f"→ ntro errors show {failure['error_id']} --tenant acme\n" in human


def test_the_whole_story_of_an_error(ntro: CommandLine, failed: dict[str, Any]) -> None:
    (failure,) = failed["failures"]
    listed = ntro.ok("errors", "list", "--tenant", "acme", "--run", failed["run_id"][:8])
    assert [(error["id"], error["code"], error["partition"]) for error in listed] == [
        (failure["error_id"], failure["code"], "spv-1|2025-01")
    ]
    assert len(ntro.ok("errors", "list", "--tenant", "acme", "--limit", "1")) == 1
    assert ntro.ok("errors", "list", "--tenant", "acme", "--run", "00000000") == []
    whole = ntro.ok("errors", "show", failure["error_id"][:8], "--tenant", "acme")
    assert set(whole) == {"id", "at", "code", "run_id", "step", "partition", "story", "advice", "traceback", "values"}
    assert (whole["id"], whole["run_id"], whole["step"]) == (failure["error_id"], failed["run_id"], "acme__ledgers__journals")
    assert whole["advice"]
    human = ntro("errors", "show", failure["error_id"], "--tenant", "acme").out
    for part in (failure["code"], "spv-1|2025-01", whole["story"], whole["advice"], "Traceback (most recent call last):"):
        assert part in human
    assert f"ntro run logs {failed['run_id'][:8]} --tenant acme" in human
    assert failure["error_id"][:8] in ntro("errors", "list", "--tenant", "acme", "--run", failed["run_id"]).out


def test_the_output_of_a_run(ntro: CommandLine, failed: dict[str, Any]) -> None:
    (failure,) = failed["failures"]
    shown = ntro.ok("run", "logs", failed["run_id"][:8], "--tenant", "acme")
    assert (shown["run_id"], shown["tenant"]) == (failed["run_id"], "acme")
    assert failure["error_id"] in shown["text"]
    assert Path(shown["path"]).stat().st_mode & 0o777 == 0o600
    assert ntro("run", "logs", failed["run_id"], "--tenant", "acme").out == shown["text"]


def test_an_error_that_the_database_has_not_taken_yet_is_shown(ntro: CommandLine) -> None:
    directory = aside(ntro.home / "tenants/acme/logs")
    directory.mkdir(mode=0o700, exist_ok=True)
    error = str(uuid4())
    row = {"id": error, "at": "2026-01-01T00:00:00+00:00", "run_id": None, "step": "s", "partition": None, "code": "X",
           "story": "because", "advice": "", "traceback": "Traceback", "values": "{}"}  # fmt: skip
    (directory / f"{error}.json").write_text(json.dumps({"kind": "errors", "why": "x", "row": row}))
    assert ntro.ok("errors", "show", error, "--tenant", "acme")["story"] == "because"
    assert "because" in ntro("errors", "show", error, "--tenant", "acme").out


def test_what_is_not_there(ntro: CommandLine) -> None:
    assert ntro.refused("errors", "show", str(uuid4()), "--tenant", "acme") == ("ERROR_NOT_FOUND", 4)
    assert ntro.refused("errors", "show", "%' OR TRUE", "--tenant", "acme") == ("ERROR_NOT_FOUND", 4)
    assert ntro.refused("errors", "show", "12345678", "--tenant", "nobody") == ("TENANT_NOT_FOUND", 4)
    assert ntro.refused("errors", "list", "--tenant", "acme", "--run", "x") == ("USAGE", 2)
    assert ntro.refused("run", "logs", str(uuid4()), "--tenant", "acme") == ("RUN_LOG_NOT_FOUND", 4)
    assert ntro.refused("run", "logs", "../../credentials/owner", "--tenant", "acme") == ("RUN_LOG_NOT_FOUND", 4)
    assert ntro.refused("run", "logs", "****", "--tenant", "acme") == ("RUN_LOG_NOT_FOUND", 4)


def test_the_journal_outlives_a_restart_of_everything(ntro: CommandLine, failed: dict[str, Any]) -> None:
    (failure,) = failed["failures"]
    assert ntro("down").code == 0
    assert ntro("run", "logs", failed["run_id"], "--tenant", "acme").code == 0  # a file
    assert ntro("errors", "show", failure["error_id"], "--tenant", "acme").code == 3
    ntro.ok("up", "--detach")
    assert ntro.ok("errors", "show", failure["error_id"], "--tenant", "acme")["id"] == failure["error_id"]
    eventually(lambda: not list(aside(ntro.home / "tenants/acme/logs").glob("*.json")))  # the code server took it back

"""A month-end typed by hand: every command against one real installation."""

from __future__ import annotations

import csv
import io
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.cli_home import NTRO, CommandLine, command_line, installed, write_return

EXPENSES = ("--tenant", "acme", "--subledger", "expenses")


def wait_for(look: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, "deadline passed"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def ntro() -> Iterator[CommandLine]:
    with installed() as ntro:
        yield ntro


def test_up_is_idempotent_and_status_and_doctor_are_content(ntro: CommandLine) -> None:
    before = ntro.ok("status")
    names = {process["name"] for process in before["processes"]}
    assert names == {"postgres", "relay", "webserver", "daemon", "tenant-acme", "desk-acme"}
    again = ntro.ok("up", "--detach")
    assert {p["name"]: p["pid"] for p in again["processes"]} == {p["name"]: p["pid"] for p in before["processes"]}
    told = ntro.ok("doctor")
    assert told["problems"] == 0
    walls = [check for check in told["checks"] if check["name"] == "wall of acme"]
    assert [check["state"] for check in walls] == ["ok"]


def test_no_secret_stands_in_an_argument_list(ntro: CommandLine) -> None:
    secrets = {
        found[1]
        for path in [*(ntro.home / "credentials").iterdir(), *(ntro.home / "tenants/acme/credentials").iterdir()]
        if (found := re.search(r":([^:@/]+)@", path.read_text()))
    }
    assert len(secrets) >= 5
    for process in ntro.ok("status")["processes"]:
        arguments = " ".join(psutil.Process(process["pid"]).cmdline())
        assert not [secret for secret in secrets if secret in arguments]


def test_tenants_and_entities_are_shown(ntro: CommandLine) -> None:
    (tenant,) = ntro.ok("tenant", "list")
    assert (tenant["slug"], tenant["status"], tenant["data_platform"]) == ("acme", "ACTIVE", "managed-postgres")
    shown = ntro.ok("tenant", "show", "acme")
    assert shown["name"] == "Acme Capital"
    assert ntro.ok("entity", "list", "--tenant", "acme")[0]["name"] == "SPV One"
    assert "Acme Capital" not in ntro("tenant", "list").out  # the registry knows no names


def test_a_month_from_files_to_the_trial_balance(ntro: CommandLine, tmp_path: Path) -> None:
    folder = tmp_path / "returns" / "2025-01"
    write_return(
        folder / "a.csv", "SPV One,05/01/2025,Rail Ltd,100.00", "SPV One,06/01/2025,Rail Ltd,-20.50", "SPV One,07/01/2025,,12.345"
    )
    write_return(folder / "sub" / "b.csv", "Spv one,08/01/2025,Paper Co,30.10", "Fund É,08/01/2025,Paper Co,1.00")
    write_return(folder / "sub" / "c.csv", "FUND é,09/01/2025,Paper Co,2.00")
    (folder / ".hidden").write_text("x")
    (folder / "README.md").write_text("# Returns\n")

    first = ntro("ingest", folder, "--tenant", "acme", "--json")
    assert first.code == 5
    outcomes = {found["name"]: found for found in first.json["files"]}
    assert {name: (found["status"], found["code"]) for name, found in outcomes.items()} == {
        "README.md": ("refused", outcomes["README.md"]["code"]),
        "a.csv": ("accepted", None),
        "b.csv": ("refused", "ENTITY_UNKNOWN"),
        "c.csv": ("refused", "ENTITY_UNKNOWN"),
    }
    assert "Fund É" in outcomes["b.csv"]["message"]

    second = ntro("ingest", folder, "--tenant", "acme", "--create-entities", "--wait", "--json")
    assert second.code == 5  # README.md
    outcomes = {found["name"]: found for found in second.json["files"]}
    assert outcomes["a.csv"]["status"] == "duplicate"
    assert (outcomes["a.csv"]["accepted_rows"], outcomes["a.csv"]["rejected_rows"]) == (1, 2)
    assert {issue["code"]: issue["rows"] for issue in outcomes["a.csv"]["issues"]} == {
        "AMOUNT_NEGATIVE": 1,
        "AMOUNT_PRECISION": 1,
        "VENDOR_MISSING": 1,
    }
    assert outcomes["b.csv"]["status"] == "staged"
    assert outcomes["b.csv"]["entities"] == ["fund-e", "spv-1"]
    assert outcomes["c.csv"]["entities"] == ["fund-e"]  # one spelling, one entity

    rows = ntro.ok("rows", "expenses", "--tenant", "acme", "--entity", "spv-1", "--period", "2025-01")
    assert rows["total"] == 4
    by_amount = {row["amount_gross"]: row for row in rows["rows"]}
    assert set(by_amount) == {"100.00", "-20.50", "12.345", "30.10"}
    assert ntro.ok("rows", "expenses", "--tenant", "acme", "--limit", "1")["total"] == 6

    dry = ntro.ok("review", "approve", *EXPENSES, "--period", "2025-01", "--dry-run")
    assert (dry["rows"], dry["dry_run"]) == (4, True)
    assert ntro.ok("rows", "summary", "expenses", "--tenant", "acme", "--status", "APPROVED")["groups"] == []

    negative, odd = by_amount["-20.50"]["id"], by_amount["12.345"]["id"]
    rejected = ntro.ok("review", "reject", negative[:8], *EXPENSES, "--reason", "credit note", "--wait")
    assert rejected["signals"][0]["applied"] == 1
    accepted = ntro.ok(
        "review", "accept", odd, *EXPENSES, "--set", "vendor=Cab & Co, Ltd", "--set", "amount_gross=12.34",
        "--reason", "seen the bill", "--as", "ann", "--wait",
    )  # fmt: skip
    assert accepted["signals"][0]["applied"] == 1
    own = ntro("review", "approve", odd, *EXPENSES, "--as", "user:ann", "--wait", "--json")
    assert (own.code, own.json["signals"][0]["refused"]) == (5, {"MAKER_IS_NOT_CHECKER": 1})

    approved = ntro.ok("review", "approve", *EXPENSES, "--period", "2025-01", "--as", "bob", "--wait")
    assert sum(signal["applied"] for signal in approved["signals"]) == approved["rows"] == 5
    assert approved["filed_by"] == "user:bob"

    def posted() -> bool:
        return sum(r["rows"] for r in ntro.ok("rows", "summary", "expenses", "-t", "acme", "-s", "posted")["groups"]) == 5

    wait_for(posted)
    summary = ntro.ok("rows", "summary", "expenses", "--tenant", "acme", "--entity", "spv-1")["groups"]
    assert {(group["status"], group["rows"], group["total"]) for group in summary} == {
        ("POSTED", 3, "142.44"),
        ("REJECTED", 1, "-20.50"),
    }

    balance = ntro.ok("trial-balance", "--tenant", "acme", "--entity", "spv-1", "--period", "2025-01")
    (currency,) = balance["currencies"]
    assert (currency["currency"], currency["debit"], currency["credit"], balance["balanced"]) == ("GBP", "142.44", "142.44", True)
    exported = ntro("trial-balance", "--tenant", "acme", "--entity", "spv-1", "--period", "2025-01", "--csv").out
    read = list(csv.DictReader(io.StringIO(exported, newline="")))
    assert [(line["account"], line["debit"], line["credit"]) for line in read] == [
        (line["account"], line["debit"], line["credit"]) for line in currency["lines"]
    ]
    assert "0.00" in exported


def test_runs_are_started_listed_shown_and_watched(ntro: CommandLine, tmp_path: Path) -> None:
    watcher = ntro.start("run", "watch", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watcher.stdout and watcher.stderr
    assert watcher.stderr.readline() == "watching; Ctrl-C ends it\n"
    started = ntro(
        "run", "start", "expense-processor", "--tenant", "acme", "--entity", "spv-1", "--period", "2024-11", "--wait", "--json"
    )
    assert started.code == 0, started.err
    run = started.json
    assert (run["status"], run["runbook"], run["entity"], run["period"], run["work"]) == (
        "SUCCESS",
        "expense-processor",
        "spv-1",
        "2024-11",
        None,
    )
    assert run["assets_done"] == 5
    assert run["steps"][0]["asset"] == "ingest/submitted_records"
    listed = ntro.ok("run", "list", "--tenant", "acme", "--period", "2024-11")
    assert [found["run_id"] for found in listed] == [run["run_id"]]
    assert ntro.ok("run", "show", run["run_id"][:8])["run_id"] == run["run_id"]
    assert ntro.refused("run", "cancel", run["run_id"]) == ("RUN_FINISHED", 2)

    told: list[str] = []
    while not told or not ("SUCCESS" in told[-1] and run["run_id"][:8] in told[-1]):
        told.append(watcher.stdout.readline())
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 130
    assert err == "error INTERRUPTED: interrupted\n"


def test_a_closed_entity_takes_no_more_documents_or_runs(ntro: CommandLine, tmp_path: Path) -> None:
    ntro.ok("entity", "create", "old-1", "--tenant", "acme", "--name", "Old One")
    ntro.ok("entity", "close", "old-1", "--tenant", "acme")
    ntro.ok("entity", "close", "old-1", "--tenant", "acme")
    path = write_return(tmp_path / "2025-01" / "old.csv", "Old One,05/01/2025,Rail Ltd,1.00")
    assert ntro.refused("ingest", path, "--tenant", "acme", "--create-entities") == ("ENTITY_CLOSED", 2)
    assert ntro.refused("run", "start", "expense-processor", "-t", "acme", "-e", "old-1", "-p", "2025-01") == ("ENTITY_CLOSED", 2)
    assert "old-1" not in {entity["slug"] for entity in ntro.ok("entity", "list", "-t", "acme")}


def test_names_without_a_latin_letter_and_names_that_share_a_spelling(ntro: CommandLine, tmp_path: Path) -> None:
    path = write_return(
        tmp_path / "2025-02" / "names.csv",
        "東京ファンド,05/02/2025,Rail Ltd,1.00",
        "SPV  TWO,05/02/2025,Rail Ltd,2.00",
        "Spv-Two,05/02/2025,Rail Ltd,3.00",
    )
    (found,) = ntro.ok("ingest", path, "--tenant", "acme", "--create-entities", "--wait")["files"]
    assert len(found["entities"]) == 2
    again = write_return(
        tmp_path / "2025-03" / "again.csv", "東京ファンド,05/03/2025,Rail Ltd,1.00", "spv two,05/03/2025,Rail Ltd,2.00"
    )
    (known,) = ntro.ok("ingest", again, "--tenant", "acme", "--wait")["files"]
    assert known["entities"] == found["entities"]


def test_a_pipe_that_closes_early_is_no_error(ntro: CommandLine) -> None:
    with subprocess.Popen(
        [NTRO, "rows", "expenses", "--tenant", "acme", "--json"],
        env=ntro.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as rows:
        assert rows.stdout and rows.stderr
        rows.stdout.close()
        assert rows.stderr.read() == b""
        assert rows.wait() == 141


@pytest.mark.parametrize("victim", ["postgres", pytest.param("supervisord", marks=pytest.mark.long), "everything"])
def test_after_a_crash_up_just_works(ntro: CommandLine, victim: str) -> None:
    total = ntro.ok("rows", "expenses", "--tenant", "acme")["total"]
    pids = {process["name"]: process["pid"] for process in ntro.ok("status")["processes"]}
    pids["supervisord"] = int((ntro.home / "run" / "supervisord.pid").read_text())
    for pid in pids.values() if victim == "everything" else [pids[victim]]:
        psutil.Process(pid).kill()
    assert ntro("up", "--detach").code == 0
    assert ntro.ok("rows", "expenses", "--tenant", "acme")["total"] == total
    assert all(process["pid"] for process in ntro.ok("status")["processes"])


def test_up_in_the_foreground_stops_everything_at_ctrl_c() -> None:
    with command_line() as ntro:
        reader, writer = pty.openpty()
        up = ntro.start("up", stdout=writer, stderr=writer, stdin=writer, start_new_session=True)
        os.close(writer)
        said = ""
        while "Ctrl-C stops everything" not in said:
            said += os.read(reader, 1000).decode()
        pids = [process["pid"] for process in ntro.ok("status")["processes"]]
        assert len(pids) == 4
        up.send_signal(signal.SIGINT)
        while True:
            try:
                if not os.read(reader, 1000):
                    break
            except OSError:  # the terminal's other end is closed
                break
        assert up.wait(timeout=60) == 0
        os.close(reader)
        assert not [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
        assert ntro("status").code == 3
        assert ntro("down").code == 0

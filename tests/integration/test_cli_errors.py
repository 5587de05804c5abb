"""Bad input: one clear line that says what to do, a non-zero exit code, nothing half-written."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.integration.cli_home import CommandLine, command_line, installed, write_return

AS_ROOT = os.geteuid() == 0
WITHOUT_ROOTS_EYES = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if AS_ROOT else ()


@pytest.fixture(scope="module")
def ntro() -> Iterator[CommandLine]:
    with installed() as ntro:
        yield ntro


@pytest.fixture
def untouched(ntro: CommandLine) -> Iterator[None]:
    """The test leaves no document, no row, no file in the store."""

    store = ntro.home / "tenants/acme/documents"
    url = (ntro.home / "tenants/acme/credentials/owner").read_text().strip()
    tables = ("ingest.submitted_documents", "ingest.intake", "system.entities", "system.signals", "ledgers.expenses")

    def state() -> tuple[object, ...]:
        with psycopg.connect(url) as database:
            counts = [database.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() for table in tables]
        return (*counts, sorted(path.name for path in store.rglob("*")))

    before = state()
    yield
    assert state() == before


def refused_file(ntro: CommandLine, path: Path, *, prefix: tuple[str, ...] = ()) -> tuple[str, int]:
    """A single file that is refused: told on both streams, as the same error."""
    arguments = ("ingest", path, "--tenant", "acme", "--entity", "spv-1", "--period", "2025-01")
    (outcome,) = ntro(*arguments, "--json", prefix=prefix).json["files"]
    code, exit_code = ntro.refused(*arguments, prefix=prefix)
    assert (outcome["status"], outcome["code"], outcome["document_id"]) == ("refused", code, None)
    assert outcome["mend"]
    return code, exit_code


@contextmanager
def tiny_disk(where: Path, size: str) -> Iterator[Path]:
    if not AS_ROOT:
        pytest.skip("mounting a tiny disk needs root")
    where.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount") or "mount"
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size},mode=0700", "ntro-test", where], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this machine does not let us mount: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run([shutil.which("umount") or "umount", where], check=True)


@pytest.mark.parametrize("slug", ["Acme-1", "9lives", "a b", "../up", "", "x" * 32])
def test_a_wrong_tenant_slug(ntro: CommandLine, slug: str) -> None:
    assert ntro.refused("tenant", "create", slug, "--name", "X") == ("SLUG_INVALID", 2)
    assert [tenant["slug"] for tenant in ntro.ok("tenant", "list")] == ["acme"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("slug", ["SPV 1", "a|b", "../x", "é"])
def test_a_wrong_entity_slug(ntro: CommandLine, slug: str) -> None:
    assert ntro.refused("entity", "create", slug, "--tenant", "acme", "--name", "X") == ("SLUG_INVALID", 2)


@pytest.mark.usefixtures("untouched")
def test_names_that_are_taken_or_that_nothing_goes_by(ntro: CommandLine, tmp_path: Path) -> None:
    path = write_return(tmp_path / "a.csv", "SPV One,05/01/2025,Rail Ltd,1.00")
    month = ("--period", "2025-01")
    assert ntro.refused("tenant", "create", "acme", "--name", "X") == ("TENANT_EXISTS", 2)
    assert ntro.refused("entity", "create", "spv-1", "--tenant", "acme", "--name", "X") == ("ENTITY_EXISTS", 2)
    assert ntro.refused("entity", "create", "x", "--tenant", "acme", "--name", "X", "--currency", "pound") == (
        "CURRENCY_INVALID",
        2,
    )
    assert ntro.refused("tenant", "show", "nope") == ("TENANT_NOT_FOUND", 4)
    for tenant in ("nope", "../tenants/acme"):
        assert ntro.refused("ingest", path, "--tenant", tenant, *month) == ("TENANT_NOT_FOUND", 4)
        assert ntro.refused("rows", "expenses", "--tenant", tenant) == ("TENANT_NOT_FOUND", 4)
        assert ntro.refused("entity", "create", "x", "--tenant", tenant, "--name", "X") == ("TENANT_NOT_FOUND", 4)
    for command in (["rows", "expenses"], ["trial-balance", *month], ["review", "approve", "--subledger", "expenses"]):
        assert ntro.refused(*command, "--tenant", "acme", "--entity", "nope") == ("ENTITY_UNKNOWN", 4)
    assert ntro.refused("run", "start", "expense-processor", "-t", "acme", "-e", "nope", *month) == ("ENTITY_UNKNOWN", 4)
    assert ntro.refused("run", "start", "nope", "-t", "acme", "-e", "spv-1", *month) == ("RUNBOOK_NOT_FOUND", 4)
    assert ntro.refused("rows", "nope", "--tenant", "acme") == ("SUBLEDGER_NOT_FOUND", 4)
    assert ntro.refused("rows", "expenses", "--tenant", "acme", "--status", "nope") == ("STATUS_UNKNOWN", 2)
    assert ntro.refused("run", "show", "ffffffff") == ("RUN_NOT_FOUND", 4)


@pytest.mark.usefixtures("untouched")
def test_entities_that_a_document_names_and_nobody_knows(ntro: CommandLine, tmp_path: Path) -> None:
    path = write_return(tmp_path / "2025-01" / "a.csv", "SPV One,05/01/2025,Rail Ltd,1.00", "SPV Nine,05/01/2025,Rail Ltd,1.00")
    done = ntro("ingest", path, "--tenant", "acme", "--json")
    assert done.code == 4
    assert done.error["code"] == "ENTITY_UNKNOWN"
    assert "SPV Nine" in done.error["message"]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("period", "code"),
    [
        ("2025-13", "PERIOD_INVALID"),
        ("202501", "PERIOD_INVALID"),
        ("2009-12", "PERIOD_OUT_OF_RANGE"),
        ("2999-01", "PERIOD_OUT_OF_RANGE"),
    ],
)
def test_a_period_that_is_none(ntro: CommandLine, tmp_path: Path, period: str, code: str) -> None:
    path = write_return(tmp_path / "a.csv", "SPV One,05/01/2025,Rail Ltd,1.00")
    assert ntro.refused("ingest", path, "--tenant", "acme", "--period", period) == (code, 2)
    assert ntro.refused("run", "start", "expense-processor", "-t", "acme", "-e", "spv-1", "-p", period) == (code, 2)
    if code == "PERIOD_INVALID":
        assert ntro.refused("rows", "expenses", "-t", "acme", "-p", period) == (code, 2)
        assert ntro.refused("trial-balance", "-t", "acme", "-e", "spv-1", "-p", period) == (code, 2)
        assert ntro.refused("review", "approve", "-t", "acme", "--subledger", "expenses", "-p", period) == (code, 2)


@pytest.mark.usefixtures("untouched")
def test_a_month_in_the_path_that_dagster_has_no_partition_for(ntro: CommandLine, tmp_path: Path) -> None:
    path = write_return(tmp_path / "2009-12" / "a.csv", "SPV One,05/01/2025,Rail Ltd,1.00")
    done = ntro("ingest", path, "--tenant", "acme", "--json")
    assert (done.code, done.error["code"]) == (2, "PERIOD_OUT_OF_RANGE")


@pytest.mark.usefixtures("untouched")
def test_files_that_are_not_there_or_cannot_be_read(ntro: CommandLine, tmp_path: Path) -> None:
    assert refused_file(ntro, tmp_path / "missing.csv") == ("FILE_NOT_FOUND", 4)
    os.mkfifo(tmp_path / "pipe")
    assert refused_file(ntro, tmp_path / "pipe") == ("NOT_A_FILE", 2)
    (tmp_path / "empty").mkdir()
    assert ntro.refused("ingest", tmp_path / "empty", "--tenant", "acme") == ("NOTHING_TO_INGEST", 4)
    locked = write_return(tmp_path / "locked.csv", "SPV One,05/01/2025,Rail Ltd,1.00")
    locked.chmod(0)
    if AS_ROOT and not shutil.which("setpriv"):
        pytest.skip("root reads everything, and there is no setpriv")
    assert refused_file(ntro, locked, prefix=WITHOUT_ROOTS_EYES) == ("FILE_UNREADABLE", 2)


@pytest.mark.usefixtures("untouched")
def test_files_that_are_no_returns(ntro: CommandLine, tmp_path: Path) -> None:
    empty, binary, line, bomb = (tmp_path / name for name in ("empty.csv", "binary.csv", "line.csv", "bomb.xlsx"))
    empty.touch()
    binary.write_bytes(os.urandom(100_000))
    with line.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 1_000_000)
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as inside,
    ):
        for _ in range(300):
            inside.write(bytes(1_000_000))
    codes = {path.name: refused_file(ntro, path) for path in (empty, binary, line, bomb)}
    assert all(exit_code == 2 for _, exit_code in codes.values())
    assert codes["empty.csv"][0] == "DOCUMENT_EMPTY"
    assert codes["binary.csv"][0] == "DOCUMENT_BINARY"
    assert {code for code, _ in codes.values()} - {"INTERNAL_ERROR"} == {code for code, _ in codes.values()}


def test_one_bad_file_stops_no_other(ntro: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "2025-04").mkdir()
    (tmp_path / "2025-04" / "a.csv").touch()
    write_return(tmp_path / "2025-04" / "b.csv", "SPV One,05/04/2025,Rail Ltd,1.00")
    done = ntro("ingest", tmp_path, "--tenant", "acme", "--wait", "--json")
    assert done.code == 5
    assert done.err == ""
    assert [(f["name"], f["status"], f["code"]) for f in done.json["files"]] == [
        ("a.csv", "refused", "DOCUMENT_EMPTY"),
        ("b.csv", "staged", None),
    ]


@pytest.mark.usefixtures("untouched")
def test_decisions_that_say_too_little_or_the_wrong_thing(ntro: CommandLine) -> None:
    expenses = ("--tenant", "acme", "--subledger", "expenses")
    assert ntro.refused("review", "approve", *expenses) == ("SELECTION_MISSING", 2)
    assert ntro.refused("review", "approve", "abc", *expenses) == ("ROW_ID_INVALID", 2)
    assert ntro.refused("review", "approve", "ffffffff", *expenses) == ("ROW_NOT_FOUND", 4)
    assert ntro.refused("review", "approve", "--status", "POSTED", *expenses) == ("NO_ROWS_MATCHED", 4)
    assert ntro.refused("review", "reject", "--entity", "spv-1", *expenses) == ("REASON_MISSING", 2)
    assert ntro.refused("review", "edit", "--entity", "spv-1", "--set", "status=POSTED", "--reason", "x", *expenses) == (
        "FIELD_NOT_EDITABLE",
        2,
    )
    assert ntro.refused("review", "edit", "--entity", "spv-1", "--set", "vendor", "--reason", "x", *expenses) == (
        "SET_INVALID",
        2,
    )


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(
    ("text", "code"), [("wrong", "DATABASE_LOGIN_REFUSED"), ("garbage", "CREDENTIAL_UNUSABLE"), ("gone", "CREDENTIAL_UNUSABLE")]
)
def test_a_wrong_password(ntro: CommandLine, text: str, code: str, tmp_path: Path) -> None:
    path = ntro.home / "tenants/acme/credentials/app"
    document = write_return(tmp_path / "2025-01" / "a.csv", "SPV One,05/01/2025,Rail Ltd,1.00")
    good = path.read_text()
    secret = good.split(":")[2].split("@")[0]
    try:
        if text == "gone":
            path.unlink()
        else:
            path.write_text(good.replace(secret, "wrong-password") if text == "wrong" else f"garbage {secret}")
        assert ntro.refused("ingest", document, "--tenant", "acme")[0] == code
        told = ntro("ingest", document, "--tenant", "acme")
        assert secret not in told.err
        found = ntro("doctor", "--json")
        assert found.code == 1
        (problem,) = [check for check in found.json["checks"] if check["state"] == "problem"]
        assert problem["name"] == "credential acme/app"
        assert secret not in found.out
    finally:
        path.write_text(good)
        path.chmod(0o600)


def test_a_port_that_is_taken() -> None:
    with command_line() as ntro, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert ntro.refused("up", "--detach", "--port", str(taken.getsockname()[1])) == ("PORT_TAKEN", 1)
        assert not ntro.home.exists()


def test_a_home_with_another_port_keeps_it_while_it_runs(ntro: CommandLine) -> None:
    assert ntro.refused("up", "--detach", "--port", "65000") == ("PORT_FIXED", 2)


def test_a_home_that_was_never_started() -> None:
    with command_line() as ntro:
        for command in (["status"], ["down"], ["rows", "expenses", "-t", "acme"], ["tenant", "list"], ["run", "list"]):
            assert ntro.refused(*command) == ("HOME_MISSING", 3)
        assert not ntro.home.exists()


@pytest.mark.usefixtures("untouched")
def test_a_full_disk_under_the_document_store(ntro: CommandLine, tmp_path: Path) -> None:
    lines = [f"SPV One,05/01/2025,Rail Ltd,{n}.00" for n in range(1, 5000)]
    document = write_return(tmp_path / "2025-01" / "a.csv", *lines)
    store = ntro.home / "tenants/acme/documents"
    with tiny_disk(store, "64k"):
        assert refused_file(ntro, document) == ("DOCUMENT_STORE_FULL", 2)
        assert not list(store.iterdir())


def test_a_full_disk_under_the_home() -> None:
    with command_line() as ntro, tiny_disk(ntro.home.parent / "disk", "64k") as disk:
        with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
            while True:
                filler.write(bytes(4096))
        small = CommandLine(disk / "home")
        assert small.refused("up", "--detach") == ("DISK_FULL", 1)
        assert not (small.home / "home.json").exists()


def test_a_home_that_was_stopped(ntro: CommandLine, tmp_path: Path) -> None:
    """Last here: it stays stopped."""
    document = write_return(tmp_path / "2025-01" / "a.csv", "SPV One,05/01/2025,Rail Ltd,1.00")
    documents = set((ntro.home / "tenants/acme/documents").iterdir())
    assert ntro.ok("down")["stopped"] is True
    assert ntro.ok("down")["stopped"] is False
    assert ntro("status", "--json").code == 3
    for command in (
        ["tenant", "list"],
        ["tenant", "create", "beta", "--name", "Beta"],
        ["ingest", str(document), "-t", "acme"],
        ["rows", "expenses", "-t", "acme"],
        ["run", "start", "expense-processor", "-t", "acme", "-e", "spv-1", "-p", "2025-01"],
    ):
        assert ntro.refused(*command) == ("NOT_RUNNING", 3)
    assert not (ntro.home / "tenants" / "beta").exists()
    assert set((ntro.home / "tenants/acme/documents").iterdir()) == documents
    assert ntro("doctor").code == 0  # nothing runs: a warning

    credential = ntro.home / "tenants/acme/credentials/owner"
    assert credential.is_file()
    credential.write_text("garbage")
    assert ntro.refused("up", "--detach")[1] != 0
    assert ntro("status", "--json").code == 3  # a start that fails leaves nothing running

"""The journal over a real database: forks, restarts, outages, and what goes in comes out again."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import psycopg
import pytest
from kept_tenant import NOWHERE, Kept

from ntro_dagster.errors import NtroError
from ntro_dagster.orchestration.failures import Place, StepFailedError, at_the_wall
from ntro_dagster.platforms.postgres import journal as journal_module
from ntro_dagster.platforms.postgres.journal import Journal, JournalUnavailableError
from ntro_dagster.tenant.journal import keep


@dataclass(frozen=True)
class Request:
    key: UUID
    call: str = "store_event"
    run_id: str | None = None
    body: bytes = b"\x00\xff{}"
    told: str | None = None


def request(**more: object) -> Request:
    return Request(uuid4(), **more)  # type: ignore[arg-type]


def times(kept: Kept, key: UUID) -> int:
    ((count,),) = kept.fetch("SELECT count(*) FROM system.transcript WHERE key = %s", key)
    return int(count)


def test_a_request_is_kept_verbatim(kept: Kept) -> None:
    run = uuid4()
    sent = request(run_id=str(run), body=bytes(range(256)) * 40, told='{"message": "Blue Heron \\u0000 \\ud800 £"}')
    keep(sent)
    row = kept.fetch("SELECT run_id, call, sent, told, at < clock_timestamp() FROM system.transcript WHERE key = %s", sent.key)
    assert row == [(run, "store_event", sent.body, sent.told, True)]
    odd = request(run_id="no uuid", told="NUL \x00 and half a pair \ud800")
    keep(odd)
    assert kept.fetch("SELECT run_id, told FROM system.transcript WHERE key = %s", odd.key) == [
        (None, "NUL \\x00 and half a pair \\ud800")
    ]
    assert kept.set_aside() == []


def test_threads_write_at_once(kept: Kept) -> None:
    sent = [request() for _ in range(40)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(keep, sent))
    assert [times(kept, each.key) for each in sent] == [1] * 40


def test_a_connection_is_for_one_at_a_time_and_few_are_kept(kept: Kept) -> None:
    with ExitStack() as opened:
        at_once = [opened.enter_context(kept.journal._connection()) for _ in range(journal_module.MOST_IDLE + 1)]
        assert len({each.info.backend_pid for each in at_once}) == len(at_once)
    assert [each.closed for each in at_once].count(False) == journal_module.MOST_IDLE


def test_a_connection_that_nobody_needs_any_more_is_closed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    with kept.journal._connection() as one, kept.journal._connection() as other:
        pass
    with kept.journal._connection() as again:
        assert again is one  # given back last
    assert not other.closed, "it has not rested for long"
    monkeypatch.setattr(journal_module, "REST_S", 0.0)
    keep(request())
    assert (one.closed, other.closed) == (False, True)


def test_a_record_that_is_refused_leaves_the_other_connections_alone(kept: Kept) -> None:
    with kept.journal._connection() as other:
        backend = other.info.backend_pid
        with pytest.raises(psycopg.DataError), kept.journal._connection() as refused:
            refused.execute("SELECT 1 / 0")
    assert refused.closed
    assert backend_of(kept) == backend


def test_threads_that_take_turns_have_one_connection(kept: Kept) -> None:
    used = set()
    for _ in range(3):
        thread = threading.Thread(target=lambda: used.add(backend_of(kept)))
        thread.start()
        thread.join(30)
    assert used == {backend_of(kept)}


def backend_of(kept: Kept) -> int:
    with kept.journal._connection() as connection:
        return connection.info.backend_pid


def test_a_fork_inherits_no_connection(kept: Kept) -> None:
    first, in_child, after = request(), request(), request()
    keep(first)
    backend = backend_of(kept)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            keep(in_child)
            status = 0 if backend_of(kept) != backend else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    keep(after)
    assert backend_of(kept) == backend  # the child did not end the parent's session
    assert [times(kept, each.key) for each in (first, in_child, after)] == [1, 1, 1]


def test_a_restart_of_the_database_is_survived(kept: Kept) -> None:
    keep(request())
    assert kept.end_sessions() >= 1
    sent = request()
    keep(sent)
    assert times(kept, sent.key) == 1
    assert kept.set_aside() == []


def test_what_a_killed_process_kept_is_there(kept: Kept) -> None:
    key = uuid4()
    script = f"""
import os
from types import SimpleNamespace
from uuid import UUID
from ntro_dagster.tenant.journal import keep
keep(SimpleNamespace(key=UUID({str(key)!r}), call="c", run_id=None, body=b"x", told=None))
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert times(kept, key) == 1


def test_errors_wait_for_the_disk_and_the_transcript_does_not(kept: Kept) -> None:
    with kept.journal._connection() as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        probe = (
            b"INSERT INTO system.errors (id, code, story, traceback) SELECT %(id)s, current_setting('synchronous_commit'), '', ''"
        )
        patch.setitem(journal_module.STATEMENTS, "errors", probe)
        error = uuid4()
        kept.journal.write("errors", {"id": str(error)}, patience=0.0)
        seen += [code for (code,) in kept.fetch("SELECT code FROM system.errors WHERE id = %s", error)]
    assert seen == ["on"]


# -- while the database is away


@pytest.fixture
def away(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("NTRO_PLATFORM_URL", NOWHERE)
    monkeypatch.setattr("ntro_dagster.tenant.journal.PATIENCE_S", 0.1)
    monkeypatch.setattr("ntro_dagster.orchestration.failures.RUN_PATIENCE_S", 0.1)
    return kept


def test_what_the_database_does_not_take_is_put_aside_and_taken_back(away: Kept) -> None:
    sent = request(run_id=str(uuid4()), body=b"\x00\xff", told="told")
    keep(sent)
    (path,) = away.set_aside()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    (path.parent / "broken.json").write_text("{")
    assert away.journal.take_back() == 1
    assert away.fetch("SELECT run_id::text, sent, told FROM system.transcript WHERE key = %s", sent.key) == [
        (sent.run_id, b"\x00\xff", "told")
    ]
    assert [left.name for left in away.set_aside()] == ["broken.json"]
    assert away.journal.take_back() == 0


def test_nothing_leaves_that_neither_database_nor_disk_keeps(away: Kept) -> None:
    (away.logs / "aside").write_text("a file in its place")
    with pytest.raises(JournalUnavailableError) as refused:
        keep(request())
    assert "nobody" not in str(refused.value)
    with pytest.raises(JournalUnavailableError):
        Journal(NOWHERE).keep("transcript", {"key": str(uuid4())}, patience=0.0)


def test_after_one_patience_the_next_records_wait_no_more(away: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: sum(waited), sleep=waited.append)  # no time goes by but what is waited
    monkeypatch.setattr(journal_module, "time", clock)
    journal = Journal(NOWHERE, aside=away.logs / "aside")
    journal.keep("transcript", {"key": str(uuid4())}, patience=0.05)
    once = len(waited)
    assert once > 0
    journal.keep("transcript", {"key": str(uuid4())}, patience=0.05)
    assert len(waited) == once


def test_a_statement_that_is_wrong_is_not_tried_again(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(journal_module.time, "sleep", waited.append)
    with pytest.raises(psycopg.Error):
        kept.journal.write(
            "transcript", {"at": None, "run_id": "x", "call": "", "key": "", "sent": b"", "told": None}, patience=9.0
        )
    monkeypatch.setitem(journal_module.STATEMENTS, "transcript", b"DO $$ BEGIN RAISE SQLSTATE '54000'; END $$")
    with pytest.raises(psycopg.OperationalError):
        kept.journal.write("transcript", {}, patience=9.0)
    assert waited == []


# -- errors


class AccountUnknownError(NtroError):
    code = "ACCOUNT_UNKNOWN"
    detail = "no account for {vendor}: {amount}"
    mend = "add one for {vendor}"


def fail(run: UUID) -> UUID:
    with pytest.raises(StepFailedError) as error, at_the_wall(Place(str(run), "acme__ledgers__journals", "spv-1|2026-10")):
        try:
            raise KeyError("cause")
        except KeyError:
            raise AccountUnknownError(vendor="Blue Heron", amount=Decimal("1.50")) from None
    return error.value.error_id


def test_a_failure_is_kept_whole_under_its_id(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    run = uuid4()
    error = fail(run)
    columns = "run_id, step, partition, code, story, advice, values, traceback"
    (row,) = kept.fetch(f"SELECT {columns} FROM system.errors WHERE id = %s", error)
    assert row[:7] == (
        run, "acme__ledgers__journals", "spv-1|2026-10", "ACCOUNT_UNKNOWN", "no account for Blue Heron: 1.50",
        "add one for Blue Heron", {"vendor": "Blue Heron", "amount": "1.50"},
    )  # fmt: skip
    assert "KeyError: 'cause'" in row[7]
    assert (
        capsys.readouterr().err
        == f"error {error} ACCOUNT_UNKNOWN: kept; `ntro errors show {error} --tenant acme` tells all of it\n"
    )


def test_without_the_database_a_failure_is_a_file_and_says_so(away: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    error = fail(uuid4())
    (path,) = away.set_aside()
    assert path.stem == str(error)
    assert json.loads(path.read_text())["row"]["story"] == "no account for Blue Heron: 1.50"
    assert "kept in a file, because the database does not answer" in capsys.readouterr().err
    content = path.read_text()
    for _ in range(2):  # taking it back twice does no harm
        path.write_text(content)
        assert away.journal.take_back() == 1
    assert away.fetch("SELECT count(*) FROM system.errors WHERE id = %s", error) == [(1,)]


def test_without_database_and_disk_the_log_has_it_all(
    away: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("NTRO_LOGS")
    error = fail(uuid4())
    told = capsys.readouterr().err
    assert f"error {error} ACCOUNT_UNKNOWN: not in the database" in told
    for part in ("no account for Blue Heron: 1.50", "add one for Blue Heron", "KeyError: 'cause'"):
        assert part in told

"""Prefect with a server of its own: a process for each run by a worker, or runs in threads of one process.

Its server keeps runs in SQLite, as it does where it is told of nothing else: on PostgreSQL its tables need `pg_trgm`, which the
embedded one has not.
"""

from __future__ import annotations

import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.system import Peer, Up, beside_a_tenant
from benchmarks.peers.venvs import Venv

HERE = Path(__file__).parent / "in_prefect"
AT_ONCE = 4
POOL, DATABASE = "months", "prefect.db"


@dataclass(slots=True)
class Prefect(Peer):
    def submit(self, entities: Sequence[str]) -> None:
        self.processes.ask("driver", {"entities": entities})

    def unfinished(self) -> int:
        return self._runs("state_type IS NULL OR state_type NOT IN ('COMPLETED', 'FAILED', 'CRASHED', 'CANCELLED')")

    def unsuccessful(self) -> int:
        return self._runs("state_type IN ('FAILED', 'CRASHED', 'CANCELLED')")

    def _runs(self, condition: str) -> int:
        self.processes.check()
        with closing(sqlite3.connect(f"file:{self.processes.directory / DATABASE}?mode=ro", uri=True)) as database:
            (number,) = database.execute(f"SELECT count(*) FROM flow_run WHERE {condition}").fetchone()
        return int(number)


def prefect(venv: Venv, *, processes: bool) -> Up:
    """Args: `processes`: one for each run; else threads of one for all."""

    @contextmanager
    def up(entities: Sequence[str]) -> Iterator[Prefect]:
        with beside_a_tenant(entities, venv, [HERE], _settings) as peer:
            program, python = venv.program("prefect"), venv.program("python")
            peer.processes.start("server", program, "server", "start", "--no-ui")
            peer.until(lambda: _answers(peer), "Prefect's server")
            how = ["threads", str(AT_ONCE)]
            if processes:
                how = ["deployment", peer.processes.run("deployment", python, str(HERE / "deploy.py"), POOL, str(AT_ONCE))]
                worker = ["worker", "start", "--pool", POOL, "--type", "process", "--limit", str(AT_ONCE)]
                peer.processes.start("worker", program, *worker, "--install-policy", "never")
            peer.processes.start("driver", python, str(HERE / "submit.py"), *how, asked=True)
            peer.processes.ask("driver")
            yield Prefect(peer.installation, peer.processes, peer.database)

    return up


def _answers(peer: Peer) -> bool:
    try:
        with urllib.request.urlopen(f"{peer.processes.environment['PREFECT_API_URL']}/ready", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _settings(home: Path, _: str, port: int) -> dict[str, str]:
    """Beside what has to be said: nothing is told to Prefect's makers, the worker looks for runs each second, logs stay here."""
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
        "DO_NOT_TRACK": "1",
    }

"""Apache Airflow with its LocalExecutor: scheduler, DAG processor, API server; tasks are forked from a warm parent."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.system import Peer, Up, beside_a_tenant
from benchmarks.peers.venvs import Venv

HERE = Path(__file__).parent / "in_airflow"
PARALLELISM = 8
"""Tasks at once. With 4 its scheduler is slower than they are, and looks at all runs more often: more time, and more CPU."""


@dataclass(slots=True)
class Airflow(Peer):
    job: str = ""

    def submit(self, entities: Sequence[str]) -> None:
        self.processes.ask("driver", {"job": self.job, "entities": entities})

    def unfinished(self) -> int:
        return self.count("SELECT count(*) FROM dag_run WHERE state NOT IN ('success', 'failed')")

    def unsuccessful(self) -> int:
        return self.count("SELECT count(*) FROM dag_run WHERE state = 'failed'")


def airflow(venv: Venv, steps: int) -> Up:
    @contextmanager
    def up(entities: Sequence[str]) -> Iterator[Airflow]:
        with beside_a_tenant(entities, venv, [HERE], _settings) as peer:
            program = venv.program("airflow")
            peer.processes.run("migration", program, "db", "migrate")
            peer.processes.start("api server", program, "api-server")
            peer.processes.start("DAG processor", program, "dag-processor")
            peer.processes.start("scheduler", program, "scheduler")
            job = "one_step" if steps == 1 else "two_steps"
            known = "SELECT count(*) FROM serialized_dag"
            peer.until(lambda: peer.count(known) == 2, "Airflow's DAG processor")
            peer.processes.start("driver", venv.program("python"), str(HERE / "submit.py"), asked=True)
            peer.processes.ask("driver")
            yield Airflow(peer.installation, peer.processes, peer.database, job)

    return up


def _settings(home: Path, database: str, port: int) -> dict[str, str]:
    """Beside what has to be said: no limit but the executor's. A scheduler that rests less, or sees more runs in a round,
    was not faster and cost more.
    """
    return {"AIRFLOW_HOME": str(home)} | {
        f"AIRFLOW__{name}": str(value)
        for name, value in {
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": PARALLELISM,
            "CORE__DAGS_FOLDER": HERE / "dags",
            "CORE__LOAD_EXAMPLES": False,
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
            "CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
            "CORE__FERNET_KEY": "",
            "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "API__HOST": "127.0.0.1",
            "API__PORT": port,
            "API__SECRET_KEY": secrets.token_hex(16),
            "API_AUTH__JWT_SECRET": secrets.token_hex(32),
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 3600,
            "LOGGING__LOGGING_LEVEL": "WARNING",
        }.items()
    }

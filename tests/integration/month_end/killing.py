"""`kill -9`, by process id, of each part of an installation; and the way back, where one is needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psutil
from freezing import Frozen
from installed import Site, eventually

from ntro_dagster.host.orphans import gone
from ntro_dagster.platforms.postgres.server import PostgresServer

TENANT = "alpha"


def _kill(*processes: psutil.Process) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    eventually(lambda: all(gone(process) for process in processes), "the killed are dead", 10)


def kill_run_worker(site: Site, frozen: Frozen) -> None:
    workers = site.run_workers(TENANT)
    assert workers
    _kill(*workers)
    frozen.release()


def kill_daemon(site: Site, frozen: Frozen) -> None:
    _kill(site.process("daemon"))
    frozen.release()


def kill_relay(site: Site, frozen: Frozen) -> None:
    """The run goes on as soon as it is back: it is the same one that ends."""
    _kill(site.process("relay"))
    frozen.release()


def kill_code_server(site: Site, frozen: Frozen) -> None:
    workers = site.run_workers(TENANT)
    _kill(site.process(f"tenant-{TENANT}"))
    eventually(lambda: all(gone(worker) for worker in workers), "run workers die with their code server", 10)
    frozen.release()


def kill_postmaster(site: Site, frozen: Frozen) -> None:
    postmaster = PostgresServer(site.home.postgres).postmaster()
    assert postmaster
    _kill(postmaster)
    frozen.release()


def kill_postgres_backend(site: Site, frozen: Frozen) -> None:
    """The database process that works for the run: PostgreSQL then ends all others and recovers from its log."""
    _kill(psutil.Process(frozen.backend))
    frozen.release()


def kill_supervisord(site: Site, frozen: Frozen) -> None:
    """Its children go on without it, until the next start stops them."""
    _kill(site.supervisord())
    frozen.release()
    site.installation.up()


def kill_everything(site: Site, frozen: Frozen) -> None:
    supervisord = site.supervisord()
    _kill(supervisord, *supervisord.children(recursive=True))
    frozen.release()
    site.installation.up()


KILLS: dict[str, Callable[[Site, Frozen], None]] = {
    "run_worker": kill_run_worker,
    "daemon": kill_daemon,
    "relay": kill_relay,
    "code_server": kill_code_server,
    "postmaster": kill_postmaster,
    "postgres_backend": kill_postgres_backend,
    "supervisord": kill_supervisord,
    "everything": kill_everything,
}

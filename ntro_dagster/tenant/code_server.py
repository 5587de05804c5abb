"""The tenant's code server: `python -m ntro_dagster.tenant.code_server`.

Definitions that do not load it tells of by a code and an error id, until they are mended and it is asked to reload.

The same as `dagster api grpc -m ntro_dagster.tenant.definitions -s SOCKET --location-name TENANT`, but with warm run
workers (`tenant.run_worker`), alone on its socket, with an end that leaves no run behind, and without a look for a file `.env`.

Environment: NTRO_SOCKET, NTRO_TENANT, NTRO_PLATFORM_URL; NTRO_LOGS, without which nothing that runs print is kept;
NTRO_RUN_START_METHOD=spawn to start workers as stock Dagster does; NTRO_RUN_MEMORY_MB and NTRO_RUN_CPU_S, what a run may use
(`tenant.limits`); NTRO_WAKE=off to have work wait for ticks (`tenant.waking`);
NTRO_DEFINITIONS_MODULE for other definitions (tests).
"""

# Each run worker imports this module again as `__mp_main__`, so Dagster is imported within functions.
from __future__ import annotations

import fcntl
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ntro_dagster.bundles.active import active_set
from ntro_dagster.errors import NtroError, UsageError
from ntro_dagster.startup import import_plain, pause_collector, resume_collector
from ntro_dagster.tenant.fork_server import start_fork_server, stop_fork_server
from ntro_dagster.tenant.limits import RunLimits
from ntro_dagster.tenant.run_worker import runs_are_forked, start_context

SOCKET = "NTRO_SOCKET"
TENANT = "NTRO_TENANT"
PLATFORM_URL = "NTRO_PLATFORM_URL"
DEFINITIONS_MODULE = "NTRO_DEFINITIONS_MODULE"


class CodeServerEnvironmentError(UsageError):
    """A variable it cannot do without is missing. Values: `name`."""

    code = "CODE_SERVER_ENVIRONMENT"
    summary = "the code server's environment is incomplete"
    detail = "{name} is not set"
    mend = "Start code servers with `ntro up`, which gives them their environment."


class SocketTakenError(NtroError):
    """Another server serves this tenant. Values: `path`."""

    code = "SOCKET_TAKEN"
    summary = "another code server of this tenant is running"
    detail = "another server listens on {path}"
    mend = "Find it with `ss -lxp src {path}` and stop it; `ntro up` starts exactly one."


def definitions_module(chosen: str | None) -> str:
    """The module with `defs`."""
    return chosen or "ntro_dagster.tenant.definitions"


@contextmanager
def exclusive_socket(path: Path) -> Iterator[int]:
    """Hold `path` for this process alone, and clear away what a killed predecessor left there.

    Yields: the descriptor that holds it; a fork that goes on after us has to close its own.

    gRPC itself would remove the socket of a live server and take its place.

    Raises:
        SocketTakenError: another server holds it, or answers on it.
    """
    with path.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SocketTakenError(path=path) from None
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5.0)
            try:
                probe.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                path.unlink(missing_ok=True)
            except OSError:  # somebody is there, too busy to accept
                raise SocketTakenError(path=path) from None
            else:
                raise SocketTakenError(path=path)
        try:
            yield lock.fileno()
        finally:
            path.unlink(missing_ok=True)


def serve(path: Path, tenant: str, module: str, code: str, broken: BaseException | None) -> bool:
    """Serve until SIGTERM or SIGINT.

    Args: `code`: names the definitions (`ActiveSet.definitions`); `broken`: why they do not load, where that is known already.

    Returns: whether to start anew, because somebody asked to reload definitions that had not loaded.

    Raises:
        SocketTakenError: see `exclusive_socket`.
    """
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin  # noqa: PLC0415
    from dagster._core.utils import FuturesAwareThreadPoolExecutor  # noqa: PLC0415
    from dagster._grpc.server import DagsterGrpcServer  # noqa: PLC0415
    from dagster._utils.interrupts import setup_interrupt_handlers  # noqa: PLC0415
    from dagster._utils.log import configure_loggers  # noqa: PLC0415

    from ntro_dagster.boundary.load_failure import note, write_note  # noqa: PLC0415
    from ntro_dagster.platforms.environment import journal_from_environment  # noqa: PLC0415
    from ntro_dagster.tenant.answers import AnswerRecorder, recorded  # noqa: PLC0415
    from ntro_dagster.tenant.api_server import TenantApiServer  # noqa: PLC0415
    from ntro_dagster.tenant.journal import keep_transcript  # noqa: PLC0415
    from ntro_dagster.tenant.loading import loaded  # noqa: PLC0415
    from ntro_dagster.tenant.made_once import make_each_once  # noqa: PLC0415
    from ntro_dagster.tenant.outgoing import may_be_asked, rebuilt  # noqa: PLC0415
    from ntro_dagster.tenant.waking import start_waking  # noqa: PLC0415

    setup_interrupt_handlers()
    configure_loggers(formatter="colored", log_level="INFO")
    logger = logging.getLogger("dagster.code_server")
    stop, again = threading.Event(), threading.Event()
    threads = FuturesAwareThreadPoolExecutor(max_workers=None)
    keep_transcript()
    make_each_once()
    servicer, failed = loaded(
        lambda origin: TenantApiServer(
            server_termination_event=stop,
            logger=logger,
            server_threadpool_executor=threads,
            loadable_target_origin=origin,
            location_name=tenant,
            definitions=module,
            anew=again,
        ),
        LoadableTargetOrigin(
            executable_path=sys.executable, module_name=module, attribute="defs", working_directory=str(Path.cwd())
        ),
        broken,
    )
    servicer.code = code
    if failed:
        write_note(path, failed.code, str(failed.error_id))
        stop_fork_server()
    else:
        note(path).unlink(missing_ok=True)
    # DagsterApiServer takes everything that concerns processes from this one attribute
    servicer._mp_ctx = start_context()  # type: ignore[assignment]
    recorder = AnswerRecorder(journal_from_environment())
    with recorded(recorder, rebuilt, may_be_asked):
        server = DagsterGrpcServer(
            server_termination_event=stop,
            dagster_api_servicer=servicer,
            logger=logger,
            threadpool_executor=threads,
            socket=str(path),
        )
    path.chmod(0o777)  # who may enter its directory: the tenant, and the workspace where that is another user
    logger.info("Serving %s on %s", tenant, path)
    try:
        if not failed:
            _have_fork_server(servicer._mp_ctx)
        recorder.start()
        resume_collector()
        start_waking(os.environ[PLATFORM_URL])
        server.serve()  # type: ignore[no-untyped-call]
    except KeyboardInterrupt:
        logger.info("Stopped serving %s", tenant)
    finally:
        recorder.stop()
        if not again.is_set():  # else it holds until the next try has ended
            note(path).unlink(missing_ok=True)
    return again.is_set()


def _have_fork_server(context: object) -> None:
    """Where none could be forked: now rather than with the first run, which would wait for its imports."""
    from multiprocessing.context import ForkServerContext  # noqa: PLC0415
    from multiprocessing.forkserver import ensure_running  # noqa: PLC0415

    if isinstance(context, ForkServerContext):
        ensure_running()


def _begin_anew(environment: dict[str, str]) -> None:
    """As if just started, so that no half-imported module is left; the supervisor sees the same process."""
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", "ntro_dagster.tenant.code_server"], environment)  # noqa: S606


def main() -> None:
    """Serve what the environment names; exits with the error's status and advice where it cannot."""
    os.umask(0o077)
    pause_collector()
    import_plain("ntro_dagster.boundary.relay.client")
    environment = dict(os.environ)
    try:
        for name in (SOCKET, TENANT, PLATFORM_URL):
            if not os.environ.get(name):
                raise CodeServerEnvironmentError(name=name)
        RunLimits.from_environment()  # refused now, rather than by each run
        path = Path(os.environ[SOCKET])
        code = active_set().definitions  # before the definitions: if it changes in between, the next reload is one too many
        module = definitions_module(os.environ.get(DEFINITIONS_MODULE))
        with exclusive_socket(path) as lock:
            broken = start_fork_server(module, not_its=[lock]) if runs_are_forked() else None
            if serve(path, os.environ[TENANT], module, code, broken):
                _begin_anew(environment)
    except NtroError as error:
        sys.stderr.write(f"{error.code}: {error.explain()}\n{error.advice()}\n")
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()

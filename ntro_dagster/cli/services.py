"""`ntro up`, `down`, `status`, `doctor`: the processes of a home."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from ntro_dagster.cli import relay
from ntro_dagster.cli.failures import FAILED, NOT_RUNNING, OK
from ntro_dagster.cli.invocation import command, invocation
from ntro_dagster.cli.output import Column, count, duration, line, note, pairs, result, said, table
from ntro_dagster.errors import NtroError, UsageError

if TYPE_CHECKING:
    from ntro_dagster.host.doctor import Check
    from ntro_dagster.host.home import Home
    from ntro_dagster.host.installation import Installation
    from ntro_dagster.host.supervision import ProcessStatus
    from ntro_dagster.workspace.relay_refusals import Refusals

POSTGRES_URL = "NTRO_POSTGRES_URL"
LOOK_EVERY_S = 1.0
DEAD_AFTER_LOOKS = 3


class WebserverPortTakenError(NtroError):
    """Values: `port`, `why`, `root`."""

    code = "PORT_TAKEN"
    summary = "the port for the Dagster UI cannot be used"
    detail = "port {port} of 127.0.0.1 cannot be used for the Dagster UI: {why}"
    mend = "choose another: `ntro up --port N`; nothing was started"


class PortInUseByHomeError(UsageError):
    """Values: `port`, `asked`."""

    code = "PORT_FIXED"
    summary = "the Dagster UI runs on another port"
    detail = "the Dagster UI of this home runs on port {port}, not on {asked}"
    mend = "`ntro down` first; then `ntro up --port {asked}`"


def register(app: typer.Typer) -> None:
    command(app, "up")(up)
    command(app, "down")(down)
    command(app, "status")(status)
    command(app, "doctor")(doctor)


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything answers; `ntro down` stops it.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port of the Dagster UI [default: the first free from 3000]")
    ] = None,
    shared_user: Annotated[
        bool | None,
        typer.Option(
            "--shared-user/--own-users",
            help="As root: run everything as root, or each tenant as a user of its own [default: its own, where possible]",
        ),
    ] = None,
    uids_from: Annotated[
        int | None,
        typer.Option("--uids-from", min=1000, max=2_000_000_000, help="As root: the first user number [default: a free range]"),
    ] = None,
) -> int:
    """Start everything: database, workspace, tenants.

    Stays until Ctrl-C, then stops everything. Safe to repeat, also after a crash.

    NTRO_POSTGRES_URL: a PostgreSQL of your own (the admin's URL) instead of the embedded one.
    """
    from ntro_dagster.host.installation import Installation  # noqa: PLC0415
    from ntro_dagster.host.supervision import Supervisor  # noqa: PLC0415

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    installation = Installation(invocation.home, said())
    ran_before = installation.home.description_file.exists() and Supervisor(installation.home).running()
    started_at = time.monotonic()
    try:
        _settle_port(installation.home, port)
        installation.up(
            webserver_port=port,
            postgres_url=os.environ.get(POSTGRES_URL) or None,
            shared_user=shared_user,
            uids_from=uids_from,
        )
        _show_up(installation, time.monotonic() - started_at, detach=detach)
        if not detach:
            _stay(installation)
    except KeyboardInterrupt:
        if detach:
            raise
    except Exception:
        if not ran_before and installation.home.description_file.exists():
            _stop(installation.home)  # nothing is left half started
        raise
    if not detach:
        _stop(installation.home)
    return OK


def down() -> int:
    """Stop everything, PostgreSQL last. Nothing happens if nothing runs."""
    home = invocation.home
    home.describe()
    stopped = _stop(home)
    result({"home": home.root, "stopped": stopped}, lambda: line("stopped" if stopped else "nothing was running"))
    return OK


def status() -> int:
    """The processes, and where to look.

    Exit code: 0 all run, 1 one does not, 3 none does.
    """
    from ntro_dagster.host.addresses import addresses  # noqa: PLC0415
    from ntro_dagster.host.supervision import Supervisor  # noqa: PLC0415

    home = invocation.home
    home.describe()
    processes = Supervisor(home).status()
    orphans = [] if processes else _orphans(home)
    found = addresses(home)
    failures = _load_failures(home, processes)
    refusals = _refusals(home) if processes else None
    value = {
        "home": home.root,
        "running": bool(processes),
        "load_failures": failures,
        "addresses": found.as_json(),
        "processes": processes,
        "orphans": [{"name": name, "pid": pid} for name, pid in orphans],
        "relay": refusals,
    }

    def human() -> None:
        if not processes:
            line(f"nothing runs in {home.root}")
            for name, pid in orphans:
                note(f"left over from a supervisor that died: {name} (pid {pid})")
            note("→ `ntro up` starts it")
            return
        _process_table(processes)
        for each in failures:
            line(f"the definitions of {each['tenant']} do not load: {each['code']}", style="red")
            line(f"→ `ntro errors show {each['error_id']} --tenant {each['tenant']}`; mend, then reload the location in Dagster")
        pairs([*found.named(), ("home", str(home.root))])
        for told in relay.sentences(refusals):
            note(told)

    result(value, human)
    if not processes:
        return NOT_RUNNING
    return OK if all(process.well for process in processes) and not failures else FAILED


def _load_failures(home: Home, processes: list[ProcessStatus]) -> list[dict[str, str]]:
    """Tenants that run, but whose code does not load."""
    running = [process.name.removeprefix("tenant-") for process in processes if process.name.startswith("tenant-")]
    found = [(slug, home.tenant(slug).load_failure) for slug in running]
    return [{"tenant": slug, "code": failure[0], "error_id": failure[1]} for slug, failure in found if failure]


def doctor() -> int:
    """Find what is wrong with machine or home, and the mend.

    Exit code: 0 fine, 1 there is a problem.
    """
    from ntro_dagster.host.doctor import State, examine  # noqa: PLC0415

    checks = examine(invocation.home)
    problems = [check for check in checks if check.state is State.PROBLEM]
    warnings = [check for check in checks if check.state is State.WARNING]

    def human() -> None:
        table(
            [Column("Check"), Column("State"), Column("Finding", flexible=True)],
            [(check.name, check.state.value, check.finding) for check in checks],
        )
        _mends([*problems, *warnings])
        line(f"{count(len(problems), 'problem')}, {count(len(warnings), 'warning')}, {len(checks)} checks")

    result({"problems": len(problems), "warnings": len(warnings), "checks": checks}, human)
    return FAILED if problems else OK


def _mends(checks: list[Check]) -> None:
    for check in checks:
        line(f"{check.name}: {check.finding}", style="red" if check.state == "problem" else "yellow")
        line(f"→ {check.mend}")
    if checks:
        line()


def _interrupt(_number: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _show_up(installation: Installation, seconds: float, *, detach: bool) -> None:
    processes = installation.status()
    found = installation.addresses

    def human() -> None:
        line(f"up in {duration(seconds)}: " + ", ".join(process.name for process in processes))
        pairs([*found.named(), ("home", str(installation.home.root))])
        if not detach:
            note("Ctrl-C stops everything")

    result(
        {"home": installation.home.root, "running": True, "addresses": found.as_json(), "processes": processes},
        human,
    )


def _stay(installation: Installation) -> None:
    """Until Ctrl-C, or until somebody else stops it. What crashes comes back by itself; a supervisor does not, so it is
    started again from here.
    """
    restarts = {process.name: process.restarts for process in installation.status()}
    missed = 0
    while True:
        time.sleep(LOOK_EVERY_S)
        processes = installation.status()
        for process in processes:
            if process.restarts > restarts.get(process.name, 0):
                note(f"{process.name} came back ({process.last_exit or 'it had ended'})")
        if processes:
            restarts, missed = {process.name: process.restarts for process in processes}, 0
        elif not (installation.home.run / "supervisord.pid").exists():
            note("stopped by another `ntro down`")
            return
        elif (missed := missed + 1) == DEAD_AFTER_LOOKS:  # one that is just going clears its pid file away first
            note("the supervisor died; starting again")
            installation.up()


def _stop(home: Home) -> bool:
    """Whether there was something to stop."""
    from ntro_dagster.host.supervision import Supervisor  # noqa: PLC0415

    supervisor = Supervisor(home)
    with home.lock():
        if not supervisor.running() and not _orphans(home):
            return False
        said()("stopping everything, PostgreSQL last")
        supervisor.stop()
        return True


def _orphans(home: Home) -> list[tuple[str, int]]:
    """Processes that outlived their supervisor."""
    from ntro_dagster.host.orphans import SUFFIX, ProcessRecord  # noqa: PLC0415

    found = []
    for path in sorted(home.run.glob(f"*{SUFFIX}")):
        record = ProcessRecord.read(path)
        if record and record.process():
            found.append((path.name.removesuffix(SUFFIX), record.pid))
    return found


def _refusals(home: Home) -> Refusals | None:
    """None: the workspace's database does not answer; a status is shown all the same."""
    import psycopg  # noqa: PLC0415

    from ntro_dagster.workspace.relay_refusals import read_refusals  # noqa: PLC0415

    try:
        return read_refusals(home.workspace_credential.read_text().strip())
    except (psycopg.Error, OSError):
        return None


def _process_table(processes: list[ProcessStatus]) -> None:
    table(
        [
            Column("Process"),
            Column("State"),
            Column("Up", right=True),
            Column("PID", right=True),
            Column("Restarts", right=True),
            Column("Last exit", flexible=True),
        ],
        [
            (
                process.name,
                process.state,
                duration(process.uptime_seconds) if process.pid else None,
                str(process.pid or ""),
                str(process.restarts),
                process.last_exit,
            )
            for process in processes
        ],
    )


def _settle_port(home: Home, port: int | None) -> None:
    """The home's port becomes `port`, if one is given, and must be free or already ours.

    Raises: `WebserverPortTakenError`, `PortInUseByHomeError`.
    """
    made = home.description_file.exists()
    wanted = port or (home.describe().webserver_port if made else None)
    ours = any(name == "webserver" for name, _ in _orphans(home))
    if made and port and port != home.describe().webserver_port:
        if ours:
            raise PortInUseByHomeError(port=home.describe().webserver_port, asked=port)
        home.change_port(port)
    if wanted and not ours:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError as error:
                raise WebserverPortTakenError(port=wanted, why=str(error.strerror).lower()) from None

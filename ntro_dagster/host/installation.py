"""One machine's ntro: its PostgreSQL, its workspace, its tenants, made and started from a home directory.

Every step may be repeated: what is there stays, what a crash left undone is completed.
"""

from __future__ import annotations

import pwd
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from ntro_dagster.boundary.names import INSTANCE_URL, PLANE, RELAY_LISTENER, RELAY_SOCKETS, SURVEYS, WORKSPACE
from ntro_dagster.bundles import platform_bundle
from ntro_dagster.errors import NtroError, TransientError, UsageError
from ntro_dagster.host.addresses import Addresses, addresses
from ntro_dagster.host.dagster_instance import reload_workspace, write_instance, write_workspace
from ntro_dagster.host.desks import desk_name, desk_process, furnish_desk, give_way, silent_desks
from ntro_dagster.host.home import Home, Role, TenantHome, private_directory, write_private
from ntro_dagster.host.launch import read_environment, write_environment
from ntro_dagster.host.orphans import stop_orphans, until
from ntro_dagster.host.ownership import choose_users
from ntro_dagster.host.ports import answers, free_port
from ntro_dagster.host.supervision import ProcessSpec, ProcessStatus, Supervisor
from ntro_dagster.platforms.postgres.roles import drop_former_logins, provision_workspace
from ntro_dagster.platforms.postgres.server import PostgresServer
from ntro_dagster.workspace.registry import Registry

POSTGRES_ORDER, RELAY_ORDER, WORKSPACE_ORDER, TENANT_ORDER = 100, 200, 300, 500
RELAY = "relay"
START_PATIENCE_S = 90.0
FIRST_PORT = 3000

Progress = Callable[[str], None]


def quiet(_: str) -> None:
    """No progress."""


class ServicesSlowError(TransientError):
    """Values: `waiting`, `seconds`, `logs`."""

    code = "SERVICES_SLOW"
    summary = "not every process answers yet"
    detail = "still not answering after {seconds} s: {waiting}"
    mend = "`ntro status` shows the processes; their output is in {logs}"


class PostgresFixedError(UsageError):
    """Values: `root`."""

    code = "POSTGRES_FIXED"
    summary = "this home has its databases elsewhere"
    detail = "the databases of {root} are on another PostgreSQL than the one that NTRO_POSTGRES_URL names"
    mend = "unset NTRO_POSTGRES_URL, or start another home with --home"


class NotRunningError(NtroError):
    """Values: `root`."""

    code = "NOT_RUNNING"
    summary = "this home's database does not answer"
    detail = "nothing runs in {root}"
    mend = "start it with `ntro up`"
    exit_code = 3


class Installation:
    """What a home's processes are, and how they come up and go down."""

    def __init__(self, home: Home, progress: Progress = quiet) -> None:
        self.home = home
        self.supervisor = Supervisor(home)
        self._progress = progress

    # -- addresses and credentials

    @property
    def addresses(self) -> Addresses:
        return addresses(self.home)

    @property
    def external_postgres(self) -> Path:
        """File with the admin URL of a PostgreSQL that is not ours to start; absent where the embedded one is used."""
        return self.home.root / "credentials" / "postgres"

    def admin_dsn(self) -> str:
        if self.external_postgres.exists():
            return self.external_postgres.read_text().strip()
        return PostgresServer(self.home.postgres).admin_dsn()

    def workspace_url(self) -> str:
        """Raises `NotRunningError` where the home was never started."""
        if not self.home.workspace_credential.exists():
            raise NotRunningError(root=self.home.root)
        return self.home.workspace_credential.read_text().strip()

    def registry(self) -> Registry:
        return Registry(self.workspace_url())

    # -- up and down

    def prepare(
        self,
        *,
        webserver_port: int | None = None,
        postgres_url: str | None = None,
        shared_user: bool | None = None,
        uids_from: int | None = None,
    ) -> None:
        """The home, its PostgreSQL running, the workspace's database made: everything a tenant can be created in."""
        from ntro_dagster.boundary.storage import prepare_instance  # noqa: PLC0415 - Dagster takes a second to import

        made = self.home.description_file.exists()
        self.home.create(webserver_port=webserver_port or (free_port(FIRST_PORT) if not made else 0))
        private_directory(self.home.root / "credentials")
        self._settle_users(shared_user, uids_from)
        if postgres_url and postgres_url != self._known_postgres():
            if self.home.workspace_credential.exists():
                raise PostgresFixedError(root=self.home.root)
            write_private(self.external_postgres, postgres_url + "\n")
        if not self.external_postgres.exists():
            self._start_postgres()
        if not self.home.workspace_credential.exists():
            self._progress("making the workspace's database")
            write_private(self.home.workspace_credential, provision_workspace(self.admin_dsn()) + "\n")
        drop_former_logins(self.admin_dsn())
        url = self.workspace_url()
        prepare_instance(url)
        registry = self.registry()
        registry.prepare()
        registry.dispose()
        write_instance(self.home)
        self.write_workspace()

    def _settle_users(self, shared: bool | None, base: int | None) -> None:
        """Directories and files of the home for whom they are for, also where it was made for one user."""
        running = self.supervisor.running()
        if not running:
            stop_orphans(self.home.run)  # nothing of a killed supervisor's goes on under another user
        choose_users(self.home, running=running, shared=shared, base=base, progress=self._progress)
        self.home.create()
        for directory in sorted((self.home.root / "tenants").iterdir()):
            for left in self.home.tenant(directory.name).create():
                self._progress(f"{left} stays root's: it has several names, or is no file")

    def _known_postgres(self) -> str | None:
        return self.external_postgres.read_text().strip() if self.external_postgres.exists() else None

    def _start_postgres(self) -> None:
        server = PostgresServer(self.home.postgres)
        self._progress("starting PostgreSQL")
        server.initialise()
        environment = self.home.process_env("postgres")
        write_environment(environment, {})
        user = server.run_as()
        spec = ProcessSpec(
            name="postgres",
            argv=server.foreground_command(),
            environment=environment,
            log=self.home.logs / "postgres.log",
            order=POSTGRES_ORDER,
            start_seconds=2,
            stop_signal="INT",
            stop_seconds=60,
            user=user.pw_name if isinstance(user, pwd.struct_passwd) else None,
        )
        if not self.supervisor.running():
            stop_orphans(self.home.run)  # a killed supervisor's PostgreSQL may hold the port still
            server.check_port()
        self.supervisor.start([spec])
        if not server.is_ready(timeout=START_PATIENCE_S):
            raise ServicesSlowError(waiting="postgres", seconds=round(START_PATIENCE_S), logs=self.home.logs)

    def write_workspace(self) -> None:
        """workspace.yaml, from the registry: tenants that are fully made."""
        from ntro_dagster.host.surveys import surveyed  # noqa: PLC0415 - which a command that starts nothing does without

        write_workspace(self.home, [slug for slug in self._servable() if surveyed(self.home, slug)])

    def _servable(self) -> list[str]:
        registry = self.registry()
        try:
            return [tenant.slug for tenant in registry.tenants() if self.home.tenant(tenant.slug).process_env.exists()]
        finally:
            registry.dispose()

    def start_services(self, new_tenant: str | None = None) -> None:
        """Relay, webserver, daemon and one code server per tenant, each surveyed before it starts, a new one beside its start.

        Returns when they answer and whatever had died is well again. Args: `new_tenant`: what runs already is not looked after.
        """
        from ntro_dagster.host.bindings import reconcile  # noqa: PLC0415 - which is about installations
        from ntro_dagster.host.deployments import let_go  # noqa: PLC0415 - the same
        from ntro_dagster.host.surveys import survey_tenants, surveyed  # noqa: PLC0415 - as above
        from ntro_dagster.tenant.deployment import bring_up_to_date  # noqa: PLC0415 - the same

        running = {process.name for process in self.supervisor.status()}
        tenants = [slug for slug in self._servable() if new_tenant in {None, slug} or f"tenant-{slug}" not in running]
        self._progress("starting the workspace and " + (", ".join(tenants) or "no tenants yet"))
        self.supervisor.add(self._relay_process())
        for slug in tenants:
            bring_up_to_date(credential(self.home, slug, Role.OWNER), platform_bundle())
            if f"tenant-{slug}" not in running:  # its code may be another release's now
                let_go(credential(self.home, slug, Role.OWNER))
            self._tell_places(slug)
            furnish_desk(self.home.tenant(slug), running=desk_name(slug) in running)
            reconcile(self, slug)  # which settles its deployments, too
        told = {slug for slug in tenants if f"tenant-{slug}" in running and surveyed(self.home, slug)}  # of the code they run
        if unsure := [slug for slug in tenants if slug not in told]:
            survey_tenants(self.home, unsure)
            self.write_workspace()
        for slug in tenants:
            self.supervisor.add(self.tenant_process(slug))
            self.supervisor.add(desk_process(self.home.tenant(slug)))
        if not until(lambda: self._relay_serves(tenants), START_PATIENCE_S):
            raise ServicesSlowError(waiting=RELAY, seconds=round(START_PATIENCE_S), logs=self.home.logs)
        if not until(lambda: all(listens(self.home.tenant(slug).socket) for slug in tenants), START_PATIENCE_S):
            silent = [slug for slug in tenants if not listens(self.home.tenant(slug).socket)]
            raise ServicesSlowError(waiting=", ".join(silent), seconds=round(START_PATIENCE_S), logs=self.home.root / "tenants")
        for spec in self._workspace_processes():
            self.supervisor.add(spec)
        port = self.home.describe().webserver_port
        if not until(lambda: answers(port), START_PATIENCE_S):
            raise ServicesSlowError(waiting="webserver", seconds=round(START_PATIENCE_S), logs=self.home.logs)
        if not until(lambda: not self._silent_desks(tenants), START_PATIENCE_S):
            silent = [desk_name(tenant.slug) for tenant in self._silent_desks(tenants)]
            raise ServicesSlowError(waiting=", ".join(silent), seconds=round(START_PATIENCE_S), logs=self.home.root / "tenants")
        of = None if new_tenant is None else tenants
        if not until(lambda: not self._ailing(of), START_PATIENCE_S):
            ailing = self._ailing(of)
            raise ServicesSlowError(waiting=", ".join(ailing), seconds=round(START_PATIENCE_S), logs=self.home.logs)

    def _ailing(self, of: list[str] | None) -> list[str]:
        """Processes of these tenants; of all and everything for None."""
        theirs = None if of is None else {name for slug in of for name in (f"tenant-{slug}", desk_name(slug))}
        return [each.name for each in self.supervisor.status() if not each.well and (theirs is None or each.name in theirs)]

    def _silent_desks(self, tenants: list[str]) -> list[TenantHome]:
        """Desks that do not serve yet; those that cannot where they are, are told another port."""
        processes = self.supervisor.status()
        silent = silent_desks([self.home.tenant(slug) for slug in tenants], processes)
        give_way(silent, processes, self.supervisor)
        return silent

    def up(
        self,
        *,
        webserver_port: int | None = None,
        postgres_url: str | None = None,
        shared_user: bool | None = None,
        uids_from: int | None = None,
    ) -> None:
        """Everything, from nothing or from where it stopped.

        Args: `shared_user`, `uids_from`: see `ownership.choose_users`.
        """
        with self.home.lock():
            self.prepare(webserver_port=webserver_port, postgres_url=postgres_url, shared_user=shared_user, uids_from=uids_from)
            self.start_services()

    def down(self) -> None:
        """Stop every process of the home; PostgreSQL last."""
        self.home.describe()
        with self.home.lock():
            self.supervisor.stop()

    def status(self) -> list[ProcessStatus]:
        self.home.describe()
        return self.supervisor.status()

    def reload_locations(self) -> None:
        """Have a running webserver see a new tenant. The daemon sees it by itself within 5 s."""
        reload_workspace(self.addresses.dagster)

    # -- processes

    def _workspace_environment(self) -> dict[str, str]:
        return {
            "DAGSTER_HOME": str(self.home.dagster),
            PLANE: WORKSPACE,
            INSTANCE_URL: self.workspace_url(),
            SURVEYS: str(self.home.surveys),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        }

    def _relay_process(self) -> ProcessSpec:
        """Between the tenants' processes and the workspace's database."""
        environment = self.home.process_env(RELAY)
        places = {RELAY_SOCKETS: str(self.home.sockets), RELAY_LISTENER: str(self.home.relay_listener)}
        write_environment(environment, self._workspace_environment() | places)
        return ProcessSpec(
            name=RELAY,
            argv=[sys.executable, "-P", "-m", "ntro_dagster.workspace.relay"],
            environment=environment,
            log=self.home.logs / "relay.log",
            order=RELAY_ORDER,
            start_seconds=2,
            uid=self.home.workspace_user,
        )

    def _relay_serves(self, tenants: list[str]) -> bool:
        """Whether it has a socket for each; a running one is told that there may be new ones."""
        if all(listens(self.home.tenant(slug).relay_socket) for slug in tenants):
            return True
        if any(process.name == RELAY and process.state == "RUNNING" for process in self.supervisor.status()):
            self.supervisor.signal(RELAY, "HUP")
        return False

    def _workspace_processes(self) -> list[ProcessSpec]:
        environment = self._workspace_environment()
        port = str(self.home.describe().webserver_port)
        commands = {
            "webserver": ["webserver", "-h", "127.0.0.1", "-p", port, "-w", str(self.home.workspace_file)],
            "daemon": ["daemon", "-w", str(self.home.workspace_file)],
        }
        specs = []
        for name, (module, *arguments) in commands.items():
            write_environment(self.home.process_env(name), environment)
            specs.append(
                ProcessSpec(
                    name=name,
                    argv=[sys.executable, "-P", "-m", f"ntro_dagster.workspace.{module}", *arguments],
                    environment=self.home.process_env(name),
                    log=self.home.logs / f"{name}.log",
                    order=WORKSPACE_ORDER,
                    uid=self.home.workspace_user,
                )
            )
        return specs

    def _tell_places(self, slug: str) -> None:
        """What a release gives a tenant's processes, also where an earlier one made the tenant."""
        tenant = self.home.tenant(slug)
        known = read_environment(tenant.process_env)
        wanted = {name: value for name, value in known.items() if name != INSTANCE_URL} | tenant.places
        if wanted != known:
            write_environment(tenant.process_env, wanted)

    def tenant_process(self, slug: str) -> ProcessSpec:
        """The tenant's code server."""
        tenant = self.home.tenant(slug)
        return ProcessSpec(
            name=f"tenant-{slug}",
            argv=[sys.executable, "-m", "ntro_dagster.tenant.code_server"],  # no -P: Dagster drops sys.path[0] itself
            environment=tenant.process_env,
            log=tenant.output / "code_server.log",
            order=TENANT_ORDER,
            uid=tenant.user,
        )


def credential(home: Home, tenant: str, role: Role) -> str:
    """The URL with which `role` reaches the tenant's database.

    Raises: `NotRunningError` where the tenant was never provisioned in this home.
    """
    try:
        return home.tenant(tenant).credential(role).read_text().strip()
    except FileNotFoundError:
        raise NotRunningError(root=home.root) from None


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True

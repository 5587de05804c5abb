"""Push, deploy, roll back, withdraw: a runbook's versions on their way from a folder to a tenant's running code.

What a tenant runs is decided by one transaction in its own database (`tenant.deployment.carry_out`). Before it nothing is changed
that anybody looks at; after it everything else follows the database: the list of active runbooks, the survey, the running code
server. So a process that dies at any moment leaves the act done or not done, and `settle` finishes what follows.
"""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import psycopg

from ntro_dagster.bundles import Bundle
from ntro_dagster.bundles.active import ActiveSet
from ntro_dagster.bundles.archive import BundleRefusedError, pack, read_folder, unpack, verify
from ntro_dagster.bundles.check import must_pass
from ntro_dagster.errors import NtroError, TransientError, UsageError
from ntro_dagster.host.dagster_instance import reload_location
from ntro_dagster.host.home import Role, TenantHome, private_directory, write_private
from ntro_dagster.host.installation import Installation, credential, listens
from ntro_dagster.host.scheduled import scheduled
from ntro_dagster.host.surveys import Answer, ask, keep_survey
from ntro_dagster.tenant.declarations import Declarations
from ntro_dagster.tenant.deployment import Change, carry_out
from ntro_dagster.workspace.deployments import Act, Deployment, Deployments, State, Version
from ntro_dagster.workspace.workflows import Workflows

RELOAD_S = 60
INTERRUPTED = "DEPLOYMENT_INTERRUPTED"


class DeploymentBusyError(TransientError):
    """Values: `tenant`."""

    code = "DEPLOYMENT_BUSY"
    summary = "another deployment to this tenant is at work"
    detail = "another deployment to tenant {tenant} is at work"
    mend = "wait for it to end, then try again"


class NothingToRollBackError(UsageError):
    """Values: `slug`, `tenant`."""

    code = "NOTHING_TO_ROLL_BACK"
    summary = "there is no earlier version to go back to"
    detail = "tenant {tenant} had no version of {slug} before the one that is active"
    mend = "`ntro workflow history {slug} --tenant {tenant}` shows what was deployed; `deploy {slug}@VERSION` takes any of them"


class NotDeployedError(UsageError):
    """Values: `slug`, `tenant`."""

    code = "RUNBOOK_NOT_DEPLOYED"
    summary = "the tenant does not run this runbook"
    detail = "tenant {tenant} does not run {slug}"
    mend = "`ntro workflow list --tenant {tenant}` shows what it runs"


class VersionCollisionError(NtroError):
    """Values: `version`."""

    code = "VERSION_COLLISION"
    summary = "two contents have ids that begin alike"
    detail = "another content is known as {version}"
    mend = "change anything in the bundle, a blank line will do, and push it again"


class ReloadFailedError(NtroError):
    """Values: `tenant`."""

    code = "RELOAD_FAILED"
    summary = "the deployment is done, but the running process could not take it up"
    detail = "the deployment to {tenant} is done, but its process could not load the new code and goes on with the old"
    mend = "`ntro errors list --tenant {tenant}` tells why; `ntro workflow rollback` goes back"


class Runbooks:
    """What an operator does with the runbooks of one installation."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._home = installation.home

    @contextmanager
    def _registry(self) -> Iterator[Deployments]:
        registry = self._installation.registry()
        try:
            yield Deployments(registry)
        finally:
            registry.dispose()

    # -- versions

    def push(self, source: Path) -> tuple[Version, bool]:
        """Store the content of a folder, or of an archive of one, as a version; and whether it is new. Runs nothing.

        Raises: `BundleRefusedError`, `BundleProblemsError`, `RunbookInvalidError`, `VersionCollisionError`.
        """
        with _as_folder(source) as root:
            manifest = read_folder(root)
            archive = self._archive(manifest.slug, manifest.version)
            private_directory(archive.parent)
            with self._registry() as known:
                same = [v for v in known.versions(manifest.slug) if v.version == manifest.version]
                if same and same[0].digest != manifest.digest:
                    raise VersionCollisionError(version=manifest.version)
                if not archive.exists():
                    must_pass(root)
                    pack(root, manifest, archive)
                version = Version(
                    manifest.slug, manifest.version, manifest.digest, manifest.label, len(manifest.files), manifest.size
                )
                new = known.add_version(version)
                return known.version(manifest.slug, manifest.version), new

    def _archive(self, slug: str, version: str) -> Path:
        return self._home.versions / slug / f"{version}.zip"

    @contextmanager
    def content(self, slug: str, version: str) -> Iterator[Path]:
        """A folder with the files of a version, for as long as it is looked at. Raises: `BundleRefusedError`."""
        with tempfile.TemporaryDirectory(dir=self._home.root, prefix=".content.") as folder:
            unpack(self._archive(slug, version), Path(folder, slug))
            yield Path(folder, slug)

    # -- acts

    def deploy(self, slug: str, tenant: str, wanted: str | None = None) -> Deployment | None:
        """Have a tenant run a version, the newest where none is named. None: it does already.

        Raises: `VersionNotFoundError`, `VersionAmbiguousError`, `TenantNotFoundError`, `DeploymentBusyError`,
            `SurveyFailedError`,
            `DefinitionRefusedError`, what `carry_out` raises, `ReloadFailedError`.
        """
        with self._at_work(tenant) as known:
            version = known.version(slug, wanted)
            return self._move(known, tenant, slug, version, Act.DEPLOY)

    def rollback(self, slug: str, tenant: str, wanted: str | None = None) -> Deployment | None:
        """Go back to the version before the active one, or to the one that is named.

        Raises: `NothingToRollBackError`, `NotDeployedError`, and as `deploy`.
        """
        with self._at_work(tenant) as known:
            trail = _trail(known.history(tenant, slug))
            if not trail:
                raise NotDeployedError(slug=slug, tenant=tenant)
            if wanted is None and len(trail) == 1:
                raise NothingToRollBackError(slug=slug, tenant=tenant)
            version = known.version(slug, wanted or trail[-2])
            return self._move(known, tenant, slug, version, Act.ROLLBACK)

    def withdraw(self, slug: str, tenant: str) -> Deployment:
        """Have a tenant run the runbook no more. Its tables and rows stay.

        Raises: `NotDeployedError`, `RowsOpenError`, `DocumentsWaitingError`, and as `deploy`.
        """
        with self._at_work(tenant) as known:
            if slug not in known.active(tenant):
                raise NotDeployedError(slug=slug, tenant=tenant)
            found = self._move(known, tenant, slug, None, Act.WITHDRAW)
            assert found is not None  # noqa: S101
            return found

    def _move(self, known: Deployments, tenant: str, slug: str, version: Version | None, act: Act) -> Deployment | None:
        home, now = self._home.tenant(tenant), known.active(tenant)
        if version and now.get(slug) == version.version:
            self._reload(home)  # where it failed before, it is tried again, and fails aloud
            return None
        wanted = {**now, slug: version.version} if version else {name: at for name, at in now.items() if name != slug}
        candidate = self._active(known, home, wanted)
        answer = ask(home, candidate)
        deployment = known.start(tenant, slug, version.version if version else None, act)
        root = home.bundles / slug / version.version if version else None
        try:
            carry_out(
                credential(self._home, tenant, Role.OWNER),
                Change(
                    deployment.id,
                    act.value,
                    slug,
                    deployment.version,
                    read_folder(root) if root else None,
                    root / "migrations" if root else None,
                    types=[kind for kind in answer.types if kind.owner_runbook == slug],
                    pinned=[kind for kind in answer.pinned if kind.owner_runbook == slug],
                    reads=answer.reads.get(slug, {}),
                    declared=answer.declared.get(slug, Declarations()),
                ),
            )
        except BaseException as error:
            # A connection lost at the commit does not tell which way it went: what cannot be asked now is settled later.
            with suppress(psycopg.Error):
                if not self._happened(home, [deployment.id]):
                    known.end(deployment.id, error.code if isinstance(error, NtroError) else "UNEXPECTED_ERROR")
            raise
        self._follow(home, candidate, answer)
        let_go(credential(self._home, tenant, Role.OWNER))
        known.end(deployment.id)
        return next(each for each in known.history(tenant, slug) if each.id == deployment.id)

    # -- what follows the database

    def settle(self, tenant: str) -> None:
        """Finish what a process that died has left: acts without an end, files and processes behind the database."""
        with self._lock(tenant), self._registry() as known:
            self._settle(known, tenant)

    @contextmanager
    def _at_work(self, tenant: str) -> Iterator[Deployments]:
        with self._lock(tenant), self._registry() as known:
            self._settle(known, tenant)
            yield known

    def _settle(self, known: Deployments, tenant: str) -> None:
        begun = [each for each in known.history(tenant) if each.state == State.STARTED]
        home = self._home.tenant(tenant)
        happened = self._happened(home, [each.id for each in begun])
        with psycopg.connect(credential(self._home, tenant, Role.OWNER)) as connection:
            active: dict[str, str] = dict(connection.execute("SELECT slug, version FROM system.active_runbooks").fetchall())
        for each in reversed(begun):
            known.end(each.id, None if each.id in happened else INTERRUPTED)
        with suppress(ReloadFailedError):  # the act that comes may be the one that mends it
            self._follow(home, self._active(known, home, active))
            if begun:
                let_go(credential(self._home, tenant, Role.OWNER))

    def _happened(self, home: TenantHome, acts: Sequence[UUID]) -> set[UUID]:
        """Which of them the tenant's database has."""
        with psycopg.connect(credential(self._home, home.slug, Role.OWNER)) as connection:
            query = "SELECT deployment_id FROM system.deployments WHERE deployment_id = ANY(%s)"
            return {found for (found,) in connection.execute(query, [list(acts)]).fetchall()}

    def _active(self, known: Deployments, home: TenantHome, versions: dict[str, str]) -> ActiveSet:
        """These versions and those that entities are pinned to, unpacked in the tenant's directory."""
        workflows = Workflows(known.registry).open(tenant=home.slug)
        pins = {(each.binding.runbook, each.binding.pinned) for each in workflows if each.binding.pinned}
        pinned = sorted((slug, version) for slug, version in pins if versions.get(slug) not in {None, version})
        return ActiveSet(
            tuple(self._unpacked(known, home, slug, version) for slug, version in sorted(versions.items())),
            scheduled(workflows),
            tuple(self._unpacked(known, home, slug, version) for slug, version in pinned),
        )

    def _unpacked(self, known: Deployments, home: TenantHome, slug: str, version: str) -> Bundle:
        """Exactly what was pushed. Raises: `ArchiveDamagedError`, `BundleRefusedError`."""
        root = home.bundles / slug / version
        unpack(self._archive(slug, version), root)
        verify(root, known.version(slug, version).digest)
        return Bundle(slug, root, version)

    def _follow(self, home: TenantHome, active: ActiveSet, answer: Answer | None = None) -> None:
        """The survey first: what the workspace does not know of yet it would refuse to hear."""
        if answer or not home.active.exists() or home.active.read_text() != active.to_json():
            keep_survey(self._home, (answer or ask(home, active)).survey)
            write_private(home.active, active.to_json(), readers=home.user)
        self._reload(home)  # also where the list is right: who wrote it may have died before it was read

    def _reload(self, home: TenantHome) -> None:
        """Of a running code server, and of the pages that show its definitions."""
        from dagster._grpc.client import DagsterGrpcClient  # noqa: PLC0415 - Dagster takes a second to import

        if not listens(home.socket):
            return
        try:
            DagsterGrpcClient(socket=str(home.socket)).reload_code(timeout=RELOAD_S)
        except Exception:
            raise ReloadFailedError(tenant=home.slug) from None
        reload_location(self._installation.addresses.dagster, home.slug)
        self._home.workspace_file.touch()  # which the daemon watches

    @contextmanager
    def _lock(self, tenant: str) -> Iterator[None]:
        path = self._home.tenant(tenant).root / ".deployment.lock"
        with path.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise DeploymentBusyError(tenant=tenant) from None
            yield


def let_go(owner_dsn: str) -> None:
    """Of rows that the code before could not post: when the new code is loaded, or the old would hold them back once more."""
    with psycopg.connect(owner_dsn) as owner:
        owner.execute("SELECT ledgers.release_refused(NULL, NULL)")


def _trail(history: list[Deployment]) -> list[str]:
    """The versions one went through to the active one, each step back taken off again."""
    trail: list[str] = []
    for each in reversed(history):
        if each.state != State.DONE:
            continue
        if each.version is None:
            trail = []
        elif each.act == Act.ROLLBACK and each.version in trail:
            del trail[trail.index(each.version) + 1 :]
        elif trail[-1:] != [each.version]:
            trail.append(each.version)
    return trail


@contextmanager
def _as_folder(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise BundleRefusedError(path=source, why="there is no such folder or archive")
    with tempfile.TemporaryDirectory(prefix="ntro-push-") as folder:
        unpack(source, Path(folder, "bundle"))
        yield Path(folder, "bundle")

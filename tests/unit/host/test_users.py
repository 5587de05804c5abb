"""Users of the operating system: numbers, directories, and what a tenant plants in its own."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ntro_dagster.host import ownership, surveys, users
from ntro_dagster.host.home import Home, TenantHome, UnsafeDirectoryError, private_directory
from ntro_dagster.host.launch import write_environment
from ntro_dagster.host.ownership import UsersFixedError, choose_users
from ntro_dagster.host.permissions import Access, hand_over, write_private
from ntro_dagster.host.surveyor import Surveyor, SurveyorGoneError
from ntro_dagster.host.users import Users, UsersDamagedError, UsersExhaustedError, UsersImpossibleError, acting_as, first_users
from ntro_dagster.ingest.store import DocumentStore

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, which only root may")
BASE = 2_500_000


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may enter; pytest's own they may not."""
    with tempfile.TemporaryDirectory(prefix="ntro-users-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def home(place: Path) -> Home:
    """A home with users, that others may reach."""
    home = Home(place / "home")
    home.create()
    users.write_users(home.users_file, first_users(BASE))
    home.create()
    return home


def look(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)


def as_user(uid: int, work: Callable[[], object]) -> int:
    """Exit code of `work` done by that user: 0, or 1 where it was refused."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            work()
        except OSError:
            os._exit(1)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@as_root
def test_each_directory_is_for_whom_it_is_for(home: Home) -> None:
    acme = home.tenant("acme")
    acme.create()
    uid = BASE + 1
    assert {path: look(path) for path in (home.root, home.sockets, home.dagster, home.surveys, home.run / "env")} == {
        home.root: (0, 0, 0o711),
        home.sockets: (0, 0, 0o711),
        home.dagster: (0, BASE, 0o750),
        home.surveys: (0, BASE, 0o750),
        home.run / "env": (0, 0, 0o700),
    }
    assert {path: look(path) for path in (acme.root, acme.output, acme.documents, acme.surveys, acme.secrets, *acme.own)} == {
        acme.root: (0, uid, 0o710),
        acme.output: (0, 0, 0o700),
        acme.documents: (0, uid, 0o2750),
        acme.surveys: (0, uid, 0o750),
        acme.logs: (uid, uid, 0o700),
        acme.secrets: (0, uid, 0o750),
        acme.artifacts: (uid, uid, 0o700),
        acme.uploads: (uid, uid, 0o700),
        acme.books: (uid, uid, 0o700),
        acme.socket.parent: (uid, BASE, 0o770),
    }


@as_root
def test_a_number_is_given_once(home: Home) -> None:
    for slug in ("acme", "bee", "acme"):
        home.tenant(slug).create()
    assert (home.tenant("acme").user, home.tenant("bee").user, home.tenant("cue").user) == (BASE + 1, BASE + 2, None)
    known = home.users
    assert known
    users.write_users(home.users_file, known.model_copy(update={"next": BASE + users.SPAN}))
    with pytest.raises(UsersExhaustedError):
        home.tenant("cue").create()
    home.users_file.write_text("{}")
    with pytest.raises(UsersDamagedError):
        home.tenant("acme").create()


class Crash(BaseException):
    """The process dies."""


@as_root
def test_a_home_of_one_user_moves_over_also_when_killed_on_the_way(
    place: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any of the system calls that give something away."""
    outside = place / "outside"
    outside.mkdir(mode=0o700)
    (outside / "file").write_text("root's")
    real: dict[str, Any] = {name: getattr(os, name) for name in ("chown", "fchown", "fchmod", "replace")}
    crashes = 0
    for last in range(60):
        slug = f"t{last}"
        users.write_users(home.users_file, (home.users or first_users(BASE)).model_copy(update={"shared": True}))
        acme = home.tenant(slug)
        acme.create()
        for path in (acme.logs / "runs" / "one.log", acme.documents / "ab" / "cd", acme.artifacts / "a" / "b" / "c"):
            path.parent.mkdir(parents=True)
            path.write_text("x")
        (acme.logs / "link").symlink_to(outside)
        (acme.logs / "file").symlink_to(outside / "file")
        os.link(outside / "file", acme.artifacts / "a" / "second")
        (acme.socket.parent / "code.lock").touch()
        users.write_users(
            home.users_file, (users.read_users(home.users_file) or first_users(BASE)).model_copy(update={"shared": False})
        )
        done = 0
        with monkeypatch.context() as bent:
            for name, genuine in real.items():

                def call(*args: Any, real: Any = genuine, last: int = last, **options: Any) -> Any:
                    nonlocal done
                    done += 1
                    if done > last:
                        raise Crash
                    return real(*args, **options)

                bent.setattr(os, name, call)
            try:
                acme.create()
            except Crash:
                crashes += 1
        left = acme.create()
        uid = acme.user
        assert uid
        assert look(acme.logs / "runs" / "one.log") == (uid, uid, 0o600)
        assert look(acme.documents / "ab" / "cd") == (0, uid, 0o440)
        assert look(acme.documents / "ab") == (0, uid, 0o2750)
        assert look(acme.artifacts / "a" / "b") == (uid, uid, 0o700)
        assert look(acme.artifacts / "a" / "second")[0] == 0
        assert not list(acme.socket.parent.iterdir())
        assert slug in (home.users or first_users(BASE)).settled
        assert look(outside) == (0, 0, 0o700)
        assert look(outside / "file")[0] == 0
        if crashes <= last:
            assert {path.name for path in left} | {"link", "file", "second"} == {"link", "file", "second"}
            break
    assert crashes > 10


@as_root
def test_what_a_tenant_plants_leads_root_nowhere(place: Path, home: Home) -> None:
    """Links in the place of everything that the tenant can replace; then all that root does there."""
    acme, bait = home.tenant("acme"), place / "bait"
    acme.create()
    uid = acme.user
    assert uid
    bait.mkdir(mode=0o700)
    (bait / "file").write_text("root's")

    def plant() -> None:
        for folder in (acme.logs, acme.artifacts, acme.socket.parent):
            (folder / "folder").symlink_to(bait)
            for name in ("code.lock", "code.sock", "relay.sock", "code_server.log", "survey.log"):
                (folder / name).symlink_to(bait / "file")

    assert as_user(uid, plant) == 0
    for path in (acme.logs, acme.artifacts, acme.documents, acme.output, acme.root, acme.surveys, acme.socket.parent):
        assert as_user(uid, lambda path=path: path.rename(path.with_name("away"))) == 1, path  # type: ignore[misc]
        assert as_user(uid, lambda path=path: path.rmdir()) == 1, path  # type: ignore[misc]
    for folder in (acme.root, acme.documents, acme.output, acme.surveys, acme.root / "credentials", home.dagster, home.run):
        assert as_user(uid, lambda folder=folder: (folder / "planted").touch()) == 1, folder  # type: ignore[misc]

    home.create()
    assert acme.create() == []
    source = place / "source"
    source.write_text("a document")
    store = DocumentStore(acme.documents)
    with store.receive(source) as incoming:
        store.keep(incoming)
        kept = store.verify(incoming.sha256)
    assert look(kept) == (0, uid, 0o440)
    assert as_user(uid, kept.read_bytes) == 0
    assert as_user(uid, kept.unlink) == 1
    assert look(bait) == (0, 0, 0o700)
    assert [path.name for path in bait.iterdir()] == ["file"]
    assert ((bait / "file").read_text(), look(bait / "file")[0]) == ("root's", 0)


@as_root
def test_root_reads_a_tenants_files_with_the_tenants_rights(place: Path, home: Home) -> None:
    acme = home.tenant("acme")
    acme.create()
    secret = place / "secret"
    write_private(secret, "another's")
    (acme.logs / "link").symlink_to(secret)
    assert (acme.logs / "link").read_text() == "another's"
    with acme.acting():
        with pytest.raises(PermissionError):
            (acme.logs / "link").read_text()
        (acme.logs / "mine").touch()
    assert look(acme.logs / "mine")[:2] == (acme.user, acme.user)
    assert secret.read_text() == "another's"
    with acting_as(None):
        assert secret.read_text() == "another's"


@as_root
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    os.chown(place, 12345, 12345)
    with pytest.raises(UnsafeDirectoryError):
        private_directory(place, Access(BASE, BASE))
    private_directory(place, Access(BASE, BASE, before=(12345,)))
    assert look(place) == (BASE, BASE, 0o700)
    (tmp_path / "link").symlink_to(place)
    with pytest.raises(UnsafeDirectoryError):
        private_directory(tmp_path / "link", Access(BASE, BASE))
    assert hand_over(place, Access(), files=0o600) == []


@as_root
def test_users_are_chosen_where_they_can_be_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "home")
    home.create()
    said: list[str] = []

    def choose(*, why: str | None, shared: bool | None = None, running: bool = False) -> Users | None:
        monkeypatch.setattr(ownership, "obstacle", lambda *_, **__: why)
        choose_users(home, running=running, shared=shared, base=BASE, progress=said.append)
        return home.users

    assert choose(why="Python is shut") is None
    assert "Python is shut" in said[0]
    assert not home.users_file.exists()
    with pytest.raises(UsersImpossibleError):
        choose(why="Python is shut", shared=False)
    assert choose(why=None, shared=True) is None
    assert choose(why=None) is None  # the choice is kept
    assert choose(why=None, shared=False)
    assert choose(why=None)
    with pytest.raises(UsersImpossibleError):  # never quietly without
        choose(why="Python is shut")
    with pytest.raises(UsersFixedError):
        choose(why=None, shared=True, running=True)
    assert choose(why=None, running=True) == choose(why=None, shared=False, running=True)
    home.tenant("acme").create()
    assert choose(why=None, shared=True) is None
    home.tenant("acme").create()
    assert look(home.tenant("acme").logs) == (0, 0, 0o700)
    back = choose(why=None, shared=False)
    assert back
    assert (back.tenants, back.settled) == ({"acme": BASE + 1}, [])


@as_root
def test_a_home_that_others_cannot_reach_is_told(tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    why = ownership.obstacle(shut / "home")
    assert why
    assert "closed to other users" in why


def test_without_root_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() or 1000)
    home = Home(tmp_path / "home")
    choose_users(home, running=False, shared=None, base=None)
    with pytest.raises(UsersImpossibleError):
        choose_users(home, running=False, shared=False, base=None)
    assert home.users is None
    assert ownership.obstacle(home.root) == "ntro was not started by root"


def test_a_tenants_home_knows_its_places() -> None:
    tenant = TenantHome(Home(Path("/srv/ntro")), "acme")
    assert tenant.output not in tenant.own


@as_root
def test_code_is_asked_as_somebody_who_owns_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    acme = home.tenant("acme")
    acme.create()
    write_environment(acme.process_env, acme.places)
    asked: list[dict[str, Any]] = []

    def run(*_: Any, **options: Any) -> None:
        asked.append(options)
        raise subprocess.SubprocessError

    def gone(*_: Any, user: int | None, **__: Any) -> bytes:
        asked.append({"user": user})
        raise SurveyorGoneError

    monkeypatch.setattr(Surveyor, "ask", gone)
    monkeypatch.setattr(surveys.subprocess, "run", run)
    with pytest.raises(surveys.SurveyFailedError):
        surveys.survey_tenants(home, ["acme"])
    known = home.users
    assert known
    assert known.surveyor not in {known.workspace, *known.tenants.values()}
    assert asked[0]["user"] == known.surveyor
    assert (asked[1]["user"], asked[1]["group"], asked[1]["extra_groups"]) == (known.surveyor, known.surveyor, [])
    for path in (acme.root, acme.logs, acme.documents, home.surveys, home.root / "tenants"):
        assert as_user(known.surveyor, lambda path=path: list(path.iterdir())) == 1, path  # type: ignore[misc]

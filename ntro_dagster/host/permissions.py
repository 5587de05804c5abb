"""Directories and files that are meant for somebody: made, handed over, and written without following what others planted."""

from __future__ import annotations

import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ntro_dagster.errors import NtroError

PRIVATE = 0o700


class UnsafeDirectoryError(NtroError):
    """A directory that others own or may read. Values: `path`."""

    code = "UNSAFE_DIRECTORY"
    summary = "a directory for private files belongs to somebody else"
    detail = "{path} is not a directory of yours, or it is a link"
    mend = "Find out who made {path}, remove it, and try again."


@dataclass(frozen=True, slots=True)
class Access:
    """Whose a directory is, and who may do what in it.

    Attributes:
        uid, gid: None: ours.
        before: whose else it may be until it is handed over.
    """

    uid: int | None = None
    gid: int | None = None
    mode: int = PRIVATE
    before: tuple[int, ...] = ()


OURS = Access()


def private_directory(path: Path, access: Access = OURS) -> None:
    """Make `path` with its parents, and give it to whom it is for. What is in it is not touched.

    Only to be used where nobody but us may put something in the place of `path`.

    Raises:
        UnsafeDirectoryError: it is a link, or belongs to somebody whom we did not expect.
    """
    path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    uid = os.geteuid() if access.uid is None else access.uid
    try:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise UnsafeDirectoryError(path=path) from None
    try:
        found = os.fstat(opened)
        if found.st_uid not in {os.geteuid(), uid, *access.before}:
            raise UnsafeDirectoryError(path=path)
        gid = access.gid if access.gid is not None else os.getegid() if os.geteuid() == 0 else found.st_gid
        if (found.st_uid, found.st_gid) != (uid, gid):
            os.fchmod(opened, stat.S_IMODE(found.st_mode) & PRIVATE)  # closed to both until the mode is right
            os.fchown(opened, uid, gid)
        if stat.S_IMODE(os.fstat(opened).st_mode) != access.mode:
            os.fchmod(opened, access.mode)
    finally:
        os.close(opened)


def write_private(path: Path, text: str, *, readers: int | None = None) -> None:
    """Write `path` whole or not at all, 0600, also if the machine goes down.

    Args: `readers`: id of a group that may read it, too.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            if readers is not None:
                os.fchown(file.fileno(), -1, readers)
                os.fchmod(file.fileno(), 0o640)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def hand_over(directory: Path, access: Access, *, files: int) -> list[Path]:
    """Give away all that is in a directory, the directory itself last; for what was made by us alone and is still ours.

    Once it is given away, never again: its new owner could have put anything there. Links are left as they are, and so is a
    file with several names, one of which may lie elsewhere.

    Args: `files`: their mode; directories get that of `access`.

    Returns: the files that were left ours.
    """
    uid = os.geteuid() if access.uid is None else access.uid
    gid = os.getegid() if access.gid is None else access.gid
    left = []
    for where, _, names, opened in os.fwalk(directory, topdown=False, follow_symlinks=False):
        for name in names:
            found = os.stat(name, dir_fd=opened, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                os.chown(name, uid, gid, dir_fd=opened, follow_symlinks=False)
                os.chmod(name, files, dir_fd=opened)
            else:
                left.append(Path(where, name))
        os.fchown(opened, uid, gid)
        os.fchmod(opened, access.mode)
    return left

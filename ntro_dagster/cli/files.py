"""Which files a person means by a list of paths: stable order, hidden ones left out, links followed only inside."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ntro_dagster.errors import NtroError, UsageError


class NoSuchFileError(UsageError):
    code = "FILE_NOT_FOUND"
    summary = "there is no such file"
    detail = "there is no file or folder {name}"
    mend = "check the path"
    exit_code = 4


class FolderUnreadableError(UsageError):
    code = "FOLDER_UNREADABLE"
    summary = "a folder cannot be read"
    detail = "the folder {name} cannot be read: {why}"
    mend = "check its permissions; nothing in it was filed"


class NotAFileError(UsageError):
    code = "NOT_A_FILE"
    summary = "not a regular file"
    detail = "{name} is {kind}, not a regular file"
    mend = "write its content to a file and ingest that"


class LinkLeadsOutsideError(UsageError):
    code = "LINK_LEADS_OUTSIDE"
    summary = "a link leads out of the folder"
    detail = "{name} is a link that leads out of the folder it was found in"
    mend = "name the file itself if it is meant"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file to file, or a path that is none, and why."""

    path: Path
    refusal: NtroError | None = None


def candidates(paths: Iterable[Path]) -> Iterator[Candidate]:
    """In the order given, folders in the order of their names. Nothing is opened: a pipe would hold us up for ever."""
    for path in paths:
        try:
            is_folder = stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            yield Candidate(path, NoSuchFileError(name=path))
            continue
        except OSError as error:
            yield Candidate(path, FolderUnreadableError(name=path, why=error.strerror))
            continue
        yield from _inside(path) if is_folder else [_file(path)]


def _inside(folder: Path) -> Iterator[Candidate]:
    top = folder.resolve()
    unreadable: list[OSError] = []
    for where, folders, names in os.walk(folder, onerror=unreadable.append):
        yield from (Candidate(Path(e.filename), FolderUnreadableError(name=e.filename, why=e.strerror)) for e in unreadable)
        unreadable.clear()
        here = Path(where)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in links)
        for name in sorted([*names, *links]):
            path = here / name
            if name.startswith("."):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(top):
                yield Candidate(path, LinkLeadsOutsideError(name=path))
            elif name not in links:  # a link to a folder inside: its files come anyway
                yield _file(path)
    yield from (Candidate(Path(e.filename), FolderUnreadableError(name=e.filename, why=e.strerror)) for e in unreadable)


def _file(path: Path) -> Candidate:
    try:
        mode = path.stat().st_mode
    except OSError:
        return Candidate(path, NoSuchFileError(name=path))
    if stat.S_ISREG(mode):
        return Candidate(path)
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return Candidate(path, NotAFileError(name=path, kind=kinds.get(stat.S_IFMT(mode), "something else")))

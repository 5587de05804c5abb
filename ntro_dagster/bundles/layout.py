"""Which files a bundle has, and whether each may be there: plain files of modest size, under plain names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ntro_dagster.bundles.archive import LARGEST_BUNDLE, LARGEST_FILE, LEFT_OUT, LONGEST_PATH, MOST_FILES
from ntro_dagster.bundles.problems import Problem

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9 ._+@()-]*")


def unsafe(name: str) -> str | None:
    """Why a path of a bundle (as an archive may hold it, with `/`) must not be used; None where nothing speaks against it."""
    parts = name.split("/")
    if not name or name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "it is absolute"
    if ".." in parts:
        return "it leads out of the bundle"
    if "" in parts or "." in parts:
        return "it is not in its shortest form"
    if len(name) > LONGEST_PATH:
        return f"it has more than {LONGEST_PATH} characters"
    if not all(_PLAIN.fullmatch(part) and not part.endswith((" ", ".")) for part in parts):
        return "it has characters that not every system can keep"
    return None


def bundle_files(root: Path) -> Iterator[Path]:
    """Every file that belongs to the bundle, as `archive` takes them, and the links among them, which are not followed."""
    for entry in sorted(os.scandir(root), key=lambda found: found.name):
        if entry.name.startswith(".") or entry.name in LEFT_OUT or entry.name.endswith(".pyc"):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from bundle_files(Path(entry.path))
        else:
            yield Path(entry.path)


def layout_problems(root: Path) -> list[Problem]:
    """Links, devices, names and sizes."""
    problems: list[Problem] = []
    spellings: dict[str, str] = {}
    total = count = 0
    for path in bundle_files(root):
        name = path.relative_to(root).as_posix()
        shown = name.encode("utf-8", "backslashreplace").decode()
        status = path.lstat()
        count, total = count + 1, total + status.st_size
        problems += [Problem(shown, 1, *complaint) for complaint in _of_file(name, status)]
        other = spellings.setdefault(name.casefold(), name)
        if other != name:
            said = f"differs from {other} only in capitals: some systems keep one of the two"
            problems.append(Problem(shown, 1, "FILE_NAME", said, "rename one of them"))
        if count > MOST_FILES:
            said = f"the bundle has more than {MOST_FILES} files"
            return [
                *problems,
                Problem(shown, 1, "BUNDLE_TOO_LARGE", said, "keep data out of it: documents come in with `ntro ingest`"),
            ]
    if total > LARGEST_BUNDLE:
        said = f"the bundle's files come to {total / 2**20:.0f} MB, more than {LARGEST_BUNDLE // 2**20}"
        problems.append(Problem(".", 1, "BUNDLE_TOO_LARGE", said, "keep data out of it: documents come in with `ntro ingest`"))
    return problems


def _of_file(name: str, status: os.stat_result) -> Iterator[tuple[str, str, str]]:
    if stat.S_ISLNK(status.st_mode):
        yield "SYMLINK", "a symbolic link: what it points to is not part of the bundle", "put the file itself there"
    elif not stat.S_ISREG(status.st_mode):
        yield "NOT_A_FILE", "neither a file nor a folder", "remove it"
    elif status.st_size > LARGEST_FILE:
        said = f"has {status.st_size / 2**20:.0f} MB, more than {LARGEST_FILE // 2**20}"
        yield "FILE_TOO_LARGE", said, "make it smaller; documents come in with `ntro ingest`, not with the runbook"
    if why := unsafe(name):
        yield "FILE_NAME", f"its path cannot be taken: {why}", "rename it: letters, digits, `.`, `_`, `-`"

"""A bundle's content as a version: which files, their digests, an archive of the same bytes wherever it is made.

The archive is a ZIP without compression, names in order, no times and no owners in it. Nothing is read
from an archive before its directory has been checked, and what was unpacked is compared with what was pushed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ntro_dagster.bundles.bundle import Bundle, frontmatter
from ntro_dagster.errors import UsageError

MOST_FILES = 2_000
LARGEST_FILE = 8 * 2**20
LARGEST_BUNDLE = 32 * 2**20
"""Bytes. A bundle is code and a few samples; documents belong to tenants."""
LONGEST_PATH = 180
_OVERHEAD = 1_024  # per member: headers and its name, twice
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP can say
_REGULAR = (stat.S_IFREG | 0o644) << 16
LEFT_OUT = frozenset({"__pycache__"})
_LABEL = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,39}")


class BundleRefusedError(UsageError):
    """Values: `path`, `why`."""

    code = "BUNDLE_REFUSED"
    summary = "the bundle holds what a bundle may not hold"
    detail = "{path}: {why}"
    mend = "nothing was stored; docs/runbooks.md says what a bundle holds, and how large it may be"


class ArchiveDamagedError(UsageError):
    """Values: `path`, `why`."""

    code = "ARCHIVE_DAMAGED"
    summary = "a stored version is not what was pushed"
    detail = "{path}: {why}"
    mend = "push the same folder again: the same content is the same version"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version consists of.

    Attributes:
        label: the author's version, from `runbook.md`; several contents may bear the same.
        files: SHA-256 by path, in the order of the paths.
        size: bytes of all files.
    """

    slug: str
    label: str
    files: Mapping[str, str]
    size: int

    @property
    def digest(self) -> str:
        """Of paths and contents: SHA-256."""
        return hashlib.sha256(json.dumps(self.files, sort_keys=True).encode()).hexdigest()

    @property
    def version(self) -> str:
        return f"v_{self.digest[:12]}"


def read_folder(root: Path) -> Manifest:
    """The manifest of a folder, without what begins with a dot and without `__pycache__`.

    Raises: `BundleRefusedError`, `RunbookInvalidError`.
    """
    files: dict[str, str] = {}
    seen: set[str] = set()
    size = 0
    for relative, path in sorted(_files(root)):
        if relative.casefold() in seen:
            raise BundleRefusedError(path=relative, why="differs from another file in upper and lower case only")
        seen.add(relative.casefold())
        found = path.lstat().st_size
        size += found
        if found > LARGEST_FILE:
            raise BundleRefusedError(path=relative, why=f"has {found:,} bytes, more than {LARGEST_FILE:,}")
        if size > LARGEST_BUNDLE:
            raise BundleRefusedError(path=relative, why=f"with it the bundle has more than {LARGEST_BUNDLE:,} bytes")
        if len(files) == MOST_FILES:
            raise BundleRefusedError(path=relative, why=f"the bundle has more than {MOST_FILES:,} files")
        files[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
    if "runbook.md" not in files:
        raise BundleRefusedError(path=root.name, why="there is no runbook.md in it")
    head = frontmatter(Bundle(root.name, root))
    if not _LABEL.fullmatch(head.version):
        raise BundleRefusedError(path="runbook.md", why="its version is not letters, digits and .+-, at most 40")
    return Manifest(head.slug, head.version, files, size)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    if not root.is_dir():
        raise BundleRefusedError(path=root, why="is not a folder")
    for directory, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in LEFT_OUT)
        for name in [*inner, *names]:
            path = Path(directory, name)
            relative = path.relative_to(root).as_posix()
            if path.is_symlink():
                raise BundleRefusedError(path=relative, why="is a link")
            if name in inner or name.startswith(".") or name.endswith(".pyc"):
                continue
            if not stat.S_ISREG(path.lstat().st_mode):
                raise BundleRefusedError(path=relative, why="is not a file")
            _check_path(relative)
            yield relative, path


def _check_path(relative: str) -> None:
    parts = PurePosixPath(relative).parts
    right = relative.isprintable() and "\\" not in relative and ":" not in relative and len(relative) <= LONGEST_PATH
    if not relative or not right or relative.startswith("/") or ".." in parts or "/".join(parts) != relative:
        raise BundleRefusedError(path=repr(relative), why="is not a path within the bundle")


def pack(root: Path, manifest: Manifest, to: Path) -> None:
    """Write the archive of `manifest`'s files, whole or not at all.

    Raises: `BundleRefusedError` where a file has changed meanwhile.
    """
    handle, temporary = tempfile.mkstemp(dir=to.parent, prefix=f".{to.name}.")
    try:
        with os.fdopen(handle, "wb") as raw:
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
                for relative in sorted(manifest.files):
                    content = (root / relative).read_bytes()
                    if hashlib.sha256(content).hexdigest() != manifest.files[relative]:
                        raise BundleRefusedError(path=relative, why="changed while it was read")
                    member = zipfile.ZipInfo(relative, _EPOCH)
                    member.create_system, member.external_attr = 3, _REGULAR
                    archive.writestr(member, content)
            raw.flush()
            os.fsync(raw.fileno())
        Path(temporary).replace(to)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def unpack(archive: Path, into: Path) -> None:
    """Make `into` the folder that is in `archive`, whole or not at all; what is there already stays.

    Raises: `BundleRefusedError`.
    """
    if into.is_dir():
        return
    into.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=into.parent, prefix=f".{into.name}."))
    try:
        for member, content in _members(archive):
            path = temporary / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for path in [temporary, *temporary.rglob("*")]:  # for the group: the tenant's, where it has a user of its own
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o7000 | (0o750 if path.is_dir() else 0o640))
        temporary.rename(into)
    except OSError as error:
        if not into.is_dir():  # somebody else was quicker
            raise BundleRefusedError(path=archive.name, why=error.strerror or "cannot be written") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents, each checked before it is read."""
    if path.stat().st_size > LARGEST_BUNDLE + MOST_FILES * _OVERHEAD:
        raise BundleRefusedError(path=path.name, why=f"has {path.stat().st_size:,} bytes, more than a bundle may have")
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.filename.endswith("/")]  # is_dir() needs a name
            if len(members) > MOST_FILES or sum(member.file_size for member in members) > LARGEST_BUNDLE:
                raise BundleRefusedError(path=path.name, why="unpacks to more than a bundle may have")
            seen: set[str] = set()
            for member in members:
                _check_path(member.filename)
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in {0, stat.S_IFREG}:  # some programs name no kind
                    raise BundleRefusedError(path=member.filename, why="is a link, or not a file")
                if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    raise BundleRefusedError(path=member.filename, why="is packed in a way that is not usual for archives")
                if member.file_size > LARGEST_FILE:
                    raise BundleRefusedError(path=member.filename, why=f"has {member.file_size:,} bytes")
                if member.filename.casefold() in seen:
                    raise BundleRefusedError(path=member.filename, why="is there twice")
                seen.add(member.filename.casefold())
                with archive.open(member) as opened:
                    content = opened.read(member.file_size + 1)
                if len(content) != member.file_size:
                    raise BundleRefusedError(path=member.filename, why="is larger than the archive says")
                yield member.filename, content
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
    ) as error:
        raise BundleRefusedError(path=path.name, why=f"is not a readable archive ({type(error).__name__})") from None


def verify(root: Path, digest: str) -> Manifest:
    """The manifest of a folder that must be of that digest. Raises: `ArchiveDamagedError`."""
    try:
        found = read_folder(root)
    except UsageError as error:
        raise ArchiveDamagedError(path=root, why=error.explain()) from None
    if found.digest != digest:
        raise ArchiveDamagedError(path=root, why="its files are not those that were pushed")
    return found

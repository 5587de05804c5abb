"""Documents by content: a file's name is its SHA-256, so what was stored cannot change unnoticed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ntro_dagster.errors import UsageError

_BLOCK = 1 << 20


class StoreFullError(UsageError):
    code = "DOCUMENT_STORE_FULL"
    summary = "the document store cannot take the file"
    detail = "{name} cannot be stored: {why}"
    mend = "make room on the disk of the ntro home and ingest again; nothing was kept"


class FileUnreadableError(UsageError):
    code = "FILE_UNREADABLE"
    summary = "the file cannot be read"
    detail = "{name} cannot be read: {why}"
    mend = "check the path and its permissions"


class DocumentDamagedError(UsageError):
    code = "DOCUMENT_DAMAGED"
    summary = "a stored document is gone or no longer has its content"
    detail = "document {sha256} in {directory} is gone or was changed"
    mend = "restore the document store from a backup"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file on its way in: copied and hashed, not yet kept."""

    path: Path
    sha256: str
    size: int


class DocumentStore:
    """A directory of immutable files, `ab/cdef…`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, sha256: str) -> Path:
        return self.directory / sha256[:2] / sha256[2:]

    @contextmanager
    def receive(self, file: Path) -> Iterator[Incoming]:
        """A private copy of the file; gone afterwards unless `keep` took it.

        Raises: `FileUnreadableError`, `StoreFullError`.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            source = file.open("rb")
        except OSError as error:
            raise FileUnreadableError(name=file.name, why=error.strerror) from None
        with source, tempfile.NamedTemporaryFile(dir=self.directory, prefix=".incoming-", delete=False) as copy:
            path = Path(copy.name)
            try:
                try:
                    sha256, size = _copy(source, copy)
                    copy.flush()
                    os.fsync(copy.fileno())
                except OSError as error:
                    raise StoreFullError(name=file.name, why=error.strerror or "error") from None
                yield Incoming(path, sha256, size)
            finally:
                path.unlink(missing_ok=True)

    def keep(self, incoming: Incoming) -> None:
        """Put it under its name. Keeping the same content again changes nothing."""
        target = self.path(incoming.sha256)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        if not target.exists():
            incoming.path.chmod(0o400)
            incoming.path.replace(target)

    def verify(self, sha256: str) -> Path:
        """The stored file, after checking its content. Raises `DocumentDamagedError`."""
        path = self.path(sha256)
        if path.is_file():
            with path.open("rb") as stored:
                if hashlib.file_digest(stored, "sha256").hexdigest() == sha256:
                    return path
        raise DocumentDamagedError(sha256=sha256, directory=self.directory)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.directory).free


def _copy(source: IO[bytes], target: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        digest.update(block)
        size += len(block)
        target.write(block)
    return digest.hexdigest(), size

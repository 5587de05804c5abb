"""Documents by content: a file's name is its SHA-256, so what was stored cannot change unnoticed."""

from __future__ import annotations

import hashlib
import os
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
    """A directory of immutable files, `ab/cdef…`.

    Args: `uploads`: another one, for who reads all documents and may write only there; it takes what is kept.
    """

    def __init__(self, directory: Path, uploads: Path | None = None) -> None:
        self.directory = uploads or directory
        self._read = (directory, uploads) if uploads else (directory,)

    def path(self, sha256: str) -> Path:
        """Where a document is kept."""
        return _place(self.directory, sha256)

    @contextmanager
    def receive(self, file: Path) -> Iterator[Incoming]:
        """A private copy of the file; gone afterwards unless `keep` took it.

        Raises: `FileUnreadableError`, `StoreFullError`.
        """
        try:
            source = file.open("rb")
        except OSError as error:
            raise FileUnreadableError(name=file.name, why=error.strerror) from None
        with source, self.receive_stream(source, file.name) as incoming:
            yield incoming

    @contextmanager
    def receive_stream(self, source: IO[bytes], name: str) -> Iterator[Incoming]:
        """The same of what is read from `source`; `name` is for messages. Raises: as `receive`."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.directory, prefix=".incoming-", delete=False) as copy:
            path = Path(copy.name)
            try:
                try:
                    sha256, size = _copy(source, copy, name)
                    copy.flush()
                    os.fsync(copy.fileno())
                except OSError as error:
                    raise StoreFullError(name=name, why=error.strerror or "error") from None
                yield Incoming(path, sha256, size)
            finally:
                path.unlink(missing_ok=True)

    def keep(self, incoming: Incoming) -> None:
        """Put it under its name, for good: it is there after a loss of power too. Where the same content is stored already
        nothing changes; where the stored file is damaged, this one takes its place.
        """
        try:
            self.verify(incoming.sha256)
        except DocumentDamagedError:
            target = self.path(incoming.sha256)
            group = self.directory.stat().st_mode & 0o2070  # the tenant's, where tenants have users of their own
            target.parent.mkdir(mode=0o700, exist_ok=True)
            target.parent.chmod(0o700 | group)
            incoming.path.chmod(0o400 | group & 0o040)
            incoming.path.replace(target)
            _settle(target.parent)
            _settle(self.directory)

    def verify(self, sha256: str) -> Path:
        """The stored file, after checking its content. Raises `DocumentDamagedError`."""
        for directory in self._read:
            path = _place(directory, sha256)
            if path.is_file():
                with path.open("rb") as stored:
                    if hashlib.file_digest(stored, "sha256").hexdigest() == sha256:
                        return path
        raise DocumentDamagedError(sha256=sha256, directory=self.directory)


def _place(directory: Path, sha256: str) -> Path:
    return directory / sha256[:2] / sha256[2:]


def _settle(directory: Path) -> None:
    """Have the names in a directory reach the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _blocks(source: IO[bytes], name: str) -> Iterator[bytes]:
    while True:
        try:
            block = source.read(_BLOCK)
        except OSError as error:
            raise FileUnreadableError(name=name, why=error.strerror or "error") from None
        if not block:
            return
        yield block


def _copy(source: IO[bytes], target: IO[bytes], name: str) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    for block in _blocks(source, name):
        digest.update(block)
        size += len(block)
        target.write(block)
    return digest.hexdigest(), size

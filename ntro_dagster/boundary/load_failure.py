"""The note that a code server leaves beside its socket while its definitions do not load: a code and an error id."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ntro_dagster.boundary import vocabulary as words

_LARGEST = 1000


def note(socket: Path) -> Path:
    return socket.with_suffix(".failure.json")


def write_note(socket: Path, code: str, error_id: str) -> None:
    half = note(socket).with_suffix(".half")
    half.write_text(json.dumps({"code": code, "error_id": error_id}))
    half.replace(note(socket))


def read_note(socket: Path) -> tuple[str, str] | None:
    """Code and error id, rebuilt: the file is the tenant's, and may be anything."""
    try:
        opened = os.open(note(socket), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(opened, "rb") as file:
            said = json.loads(file.read(_LARGEST))
        error_id = words.uuid(said["error_id"])
        return (words.code(said["code"]), error_id) if error_id else None
    except (OSError, ValueError, TypeError, KeyError):
        return None

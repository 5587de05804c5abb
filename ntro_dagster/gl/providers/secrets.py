"""Secrets of a tenant: files of its own or variables of its processes. Never in the database, an argument or a log."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ntro_dagster.boundary.names import SECRETS
from ntro_dagster.gl.providers.errors import ConnectionError_

NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


def secret(name: str, *, provider: str) -> str:
    """The variable NTRO_SECRET_<NAME>, else the file of that name. Raises: `ConnectionError_`, which never carries it."""
    if not NAME.fullmatch(name):
        raise ConnectionError_(provider=provider, why="a secret is named with small letters, digits, - and _")
    if given := os.environ.get("NTRO_SECRET_" + name.upper().replace("-", "_")):
        return given
    directory = os.environ.get(SECRETS)
    path = Path(directory) / name if directory else None
    try:
        if path is None:
            raise FileNotFoundError
        if path.stat().st_mode & 0o007:
            raise ConnectionError_(provider=provider, why=f"others may read the secret {name}")
        return path.read_text().strip()
    except FileNotFoundError:
        raise ConnectionError_(provider=provider, why=f"there is no secret {name}: `ntro gl secret {name}`") from None
    except OSError as error:
        raise ConnectionError_(provider=provider, why=f"the secret {name} cannot be read: {error.strerror}") from None

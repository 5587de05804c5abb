"""Where in a bundle an error comes from."""

from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path


def place_of(error: BaseException, root: Path) -> tuple[str, int] | None:
    """File below `root` and line: the one that Python cannot read, else the last that the error passed through."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    for filename, line in reversed(places):
        with suppress(ValueError):
            return Path(filename).resolve().relative_to(root.resolve()).as_posix(), line or 1
    return None

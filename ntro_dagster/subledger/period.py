"""The month as a field of a row."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from ntro_dagster.boundary.periods import PATTERN

Period = Annotated[str, StringConstraints(pattern=PATTERN)]
"""`YYYY-MM`."""

"""What our processes import without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ntro_dagster import startup

MAINS = ["ntro_dagster.boundary.storage", "ntro_dagster.boundary.relay.client", "uvicorn"]


@pytest.mark.parametrize("module", MAINS)
def test_what_only_looks_well_is_not_imported_and_can_be_later(module: str) -> None:
    found = subprocess.run(
        [
            sys.executable,
            "-c",
            "import importlib, sys\n"
            "from ntro_dagster.startup import ORNAMENTS, import_plain\n"
            f"import_plain({module!r})\n"
            "print([each for each in ORNAMENTS if each in sys.modules])\n"
            "for each in ORNAMENTS: importlib.import_module(each)\n",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "[]\n"


def test_one_that_was_there_already_stays() -> None:
    import pygments  # noqa: PLC0415

    startup.import_plain("json")
    assert sys.modules["pygments"] is pygments

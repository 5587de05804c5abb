"""The browser's tests look at the same kind of installation as `tests/integration/month_end`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "month_end"))

from chromium import Page, browsing, program


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots go and stay, for whoever runs the tests: $NTRO_SCREENSHOTS, or `screenshots/` here."""
    folder = Path(os.environ.get("NTRO_SCREENSHOTS") or Path(__file__).parent / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(pictures: Path) -> Iterator[Page]:
    if program() is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    with browsing(pictures) as page:
        yield page

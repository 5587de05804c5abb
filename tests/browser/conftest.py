"""The browser's tests look at the same kind of installation as `tests/integration/month_end`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "month_end"))

from chromium import Page, browsing, program


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: $NTRO_SCREENSHOTS, or a directory of pytest's."""
    chosen = os.environ.get("NTRO_SCREENSHOTS")
    folder = Path(chosen) if chosen else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def page(pictures: Path) -> Iterator[Page]:
    if program() is None:
        pytest.skip("no Chromium on this machine: `apt-get install chromium`")
    with browsing(pictures) as page:
        yield page

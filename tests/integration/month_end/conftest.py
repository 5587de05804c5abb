"""One installation per module: made, started, and stopped by its own ids also when a test fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from installed import Site, installed


@pytest.fixture(scope="module")
def empty_site() -> Iterator[Site]:
    """PostgreSQL and an empty workspace."""
    with installed() as site:
        yield site

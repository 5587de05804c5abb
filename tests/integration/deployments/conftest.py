"""One running installation per module, from the tests of the month-end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "month_end"))

from installed import Site, installed
from samples import TENANT

from ntro_dagster.host.tenancy import create_tenant, ensure_entities


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A tenant without runbooks, with one entity, and every process running."""
    with installed() as site:
        create_tenant(site.installation, TENANT, name="Alpha Fund")
        ensure_entities(site.installation, TENANT, {"one": "One", "two": "Two"})
        site.installation.start_services()
        yield site

"""The demo's documents: the same every time, and read with exactly the flaws they were given."""

from collections import Counter
from pathlib import Path

import pytest

from ntro_dagster.demo.documents import TENANTS, DemoTenant, write_documents
from ntro_dagster.ingest.returns import open_return, read_expense

PERIOD = "2026-10"


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.slug)
def test_the_same_month_makes_the_same_bytes(tenant: DemoTenant, tmp_path: Path) -> None:
    once = [path.read_bytes() for path, _ in write_documents(tmp_path / "a", tenant, PERIOD)]
    again = [path.read_bytes() for path, _ in write_documents(tmp_path / "b", tenant, PERIOD)]
    assert once == again


@pytest.mark.parametrize("tenant", TENANTS, ids=lambda tenant: tenant.slug)
def test_every_entity_has_one_flaw_of_each_kind(tenant: DemoTenant, tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    for path, _ in write_documents(tmp_path, tenant, PERIOD):
        document = open_return(path, name=path.name)
        for record in document.records():
            reading = read_expense(record.raw, document.layout, currency=tenant.entities[0].currency, period=PERIOD)
            found.update(finding.code for finding in reading.findings)
    each = len(tenant.entities)
    assert found == {"DATE_WITHOUT_DAY": each, "AMOUNT_NEGATIVE": each, "VENDOR_MISSING": each, "AMOUNT_UNREADABLE": each}

"""An import that is killed again and again, at any moment: in the end every journal is there, once, and made by its importer."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path
from uuid import UUID

import pytest
from ledger_tenant import Tenant

WORKER = Path(__file__).with_name("import_worker.py")
MAPPING = "journal: [no]\ndate: {column: date}\namount: {signed: amount}\naccount: {column: account}\n"
JOURNALS, MONTHS, KILLS = 240, 6, 12


def killed(environment: dict[str, str], after: float) -> bool:
    """Whether it was killed before it was through."""
    process = subprocess.Popen([sys.executable, str(WORKER)], env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    timer = threading.Timer(after, process.kill)
    timer.start()
    process.wait(60)
    timer.cancel()
    return process.returncode != 0


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
def test_an_import_survives_being_killed(tenant: Tenant, entity: UUID, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    file, mapping = tmp_path / "journals.csv", tmp_path / "mapping.yaml"
    mapping.write_text(MAPPING)
    lines = [
        f"{number},2025-{number % MONTHS + 1:02d}-10,{account},{sign}{number + 1}.5\n"
        for account, sign in (("5300", ""), ("1000", "-"))
        for number in range(JOURNALS)
    ]
    file.write_text("no,date,account,amount\n" + "".join(lines) + f"{' ' * (seed + 2)}\n")
    environment = os.environ | {
        "APP_URL": tenant.credentials.app, "DESK_URL": tenant.credentials.desk, "ENTITY": str(entity),
        "FILE": str(file), "MAPPING": str(mapping), "STORE": str(tmp_path / "store"),
    }  # fmt: skip
    died = sum(killed(environment, chance.uniform(0.0, 0.5)) for _ in range(KILLS))
    assert died, "no moment was early enough"
    assert not killed(environment, 60)
    assert tenant.fetch(
        "SELECT status, made_by, count(*), count(DISTINCT raw_payload -> 'lines') FROM ledgers.journal_proposals "
        "WHERE entity_id = %s GROUP BY 1, 2", entity,
    ) == [("PENDING", "user:ann", JOURNALS, JOURNALS)]  # fmt: skip
    assert tenant.fetch(
        "SELECT count(*) FROM system.signals WHERE entity_id = %s AND (applied_at IS NULL OR kind <> 'accept')", entity
    ) == [(0,)]  # fmt: skip
    assert tenant.fetch(
        "SELECT count(*), count(DISTINCT row_id) FROM system.signal_rows r JOIN system.signals s ON s.id = r.signal_id "
        "WHERE s.entity_id = %s AND r.outcome = 'APPLIED'", entity,
    ) == [(JOURNALS, JOURNALS)]  # fmt: skip

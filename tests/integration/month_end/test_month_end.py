"""Month-ends of two tenants through real processes: documents in, sensors, review by two people, posting, trial balance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from dagster import DagsterRunStatus, RunRecord
from dagster._core.storage.tags import CODE_LOCATION_TAG
from installed import (
    APPROVER,
    PREPARER,
    Client,
    Invented,
    Site,
    add_tenant,
    assert_posted_once,
    assert_sound,
    eventually,
    installed,
    invent,
)
from scanning import findings, workspace_files, workspace_texts

from ntro_dagster.boundary.names import PARTITION_TAG, TENANT_TAG, WORK_TAG, entities_set
from ntro_dagster.boundary.tenant_logs import run_log
from ntro_dagster.demo.documents import SUPPLIERS, TENANTS, write_documents
from ntro_dagster.host.home import Role
from ntro_dagster.orchestration.partitions import partition_key

PERIOD = "2026-03"
TWIN = "twin-spv"  # both tenants have an entity of this slug
TWIN_NAMES = {"harbour": "Twin Haven Limited", "meadow": "Twin Field S.à r.l."}
TWIN_ROWS = {"harbour": 12, "meadow": 17}
BROKEN = "late-spv"
ENTITIES = {tenant.slug: [entity.slug for entity in tenant.entities] for tenant in TENANTS}
REPAIRED_VENDOR = "Quillon Couriers"
REASON = "supplier named on the bank statement"
CREDIT = "AMOUNT_NEGATIVE"
NO_ACCOUNT = "9876"


@dataclass(frozen=True)
class Month:
    """Two tenants whose month is closed."""

    site: Site
    clients: dict[str, Client]
    twins: dict[str, Invented]


def settle(client: Client) -> None:
    """What a preparer does with the flaws in the demo's documents."""
    for row in client.ask(
        "SELECT id, validation_errors -> 0 ->> 'code' AS code, amount_gross FROM ledgers.expenses "
        "WHERE status = 'NEEDS_ATTENTION'"
    ):
        if row["code"] == CREDIT:
            client.decide("reject", PREPARER, reason="credit note", ids=[row["id"]])
        else:
            values = {"vendor": REPAIRED_VENDOR} if row["code"] == "VENDOR_MISSING" else {}
            values |= {"expense_date": f"{PERIOD}-28"} if row["code"] == "DATE_WITHOUT_DAY" else {}
            values |= {"amount_gross": "1250.00"} if row["amount_gross"] is None else {}
            client.decide("accept", PREPARER, reason=REASON, values=values, ids=[row["id"]])


@pytest.fixture(scope="module")
def month() -> Iterator[Month]:
    with installed() as site:
        clients, twins = {}, {}
        for tenant in TENANTS:
            names = {entity.slug: entity.name for entity in tenant.entities}
            names |= {TWIN: TWIN_NAMES[tenant.slug], BROKEN: f"Late {tenant.slug.title()} Limited"}
            clients[tenant.slug] = add_tenant(site, tenant.slug, tenant.name, names, currency=tenant.entities[0].currency)
        site.installation.start_services()
        for tenant in TENANTS:
            client, folder = clients[tenant.slug], site.home.root / "documents" / tenant.slug
            for path, entity in write_documents(folder, tenant, PERIOD):
                client.submit(path, PERIOD, entity.slug if entity else None)
            twins[tenant.slug] = invent(folder / "twin.csv", PERIOD, TWIN_ROWS[tenant.slug])
            client.submit(twins[tenant.slug].path, PERIOD, TWIN)
        for client in clients.values():
            eventually(partial(client.staged, PERIOD), f"{client.slug}: every document is staged")
            settle(client)
        for client in clients.values():
            eventually(client.decided, f"{client.slug}: the preparer's decisions are applied")
            client.decide("approve", PREPARER, period=PERIOD, status="PENDING")  # her own rows are refused to her
            eventually(client.decided, f"{client.slug}: the preparer's approval is applied")
            client.decide("approve", APPROVER, period=PERIOD, status="PENDING")
        for client in clients.values():
            eventually(partial(client.closed, PERIOD), f"{client.slug}: the month is closed")
        yield Month(site, clients, twins)


def tags_of(record: RunRecord) -> dict[str, str]:
    return dict(record.dagster_run.tags)


@pytest.mark.parametrize("tenant", ENTITIES)
def test_month_is_posted_and_balanced(month: Month, tenant: str) -> None:
    client = month.clients[tenant]
    for entity in ENTITIES[tenant]:
        statuses = client.statuses(entity, PERIOD)
        assert statuses.keys() == {"POSTED", "REJECTED"}
        found = assert_sound(client, entity, PERIOD)
        assert found["posted"] == statuses["POSTED"]
        balance = client.balance(entity, PERIOD)
        assert balance.balanced
        assert balance.lines
    twin = month.twins[tenant]
    assert_posted_once(client, TWIN, PERIOD, twin.rows, twin.gross)


@pytest.mark.parametrize("tenant", ENTITIES)
def test_who_made_a_row_did_not_approve_it(month: Month, tenant: str) -> None:
    client = month.clients[tenant]
    repaired = client.ask("SELECT approved_by FROM ledgers.expenses WHERE made_by = %s AND status = 'POSTED'", [PREPARER])
    assert {row["approved_by"] for row in repaired} == {APPROVER}
    refused = client.ask("SELECT DISTINCT code FROM system.signal_rows WHERE outcome = 'REFUSED'")
    assert [row["code"] for row in refused] == ["MAKER_IS_NOT_CHECKER"]


@pytest.mark.parametrize("tenant", ENTITIES)
def test_the_sensors_ran_every_kind_of_work(month: Month, tenant: str) -> None:
    for entity in (*ENTITIES[tenant], TWIN):
        key = str(partition_key(entity, PERIOD))
        runs = month.site.runs(tenant, partition=key)
        assert {run.dagster_run.status for run in runs} == {DagsterRunStatus.SUCCESS}
        works = [tags_of(run)[WORK_TAG] for run in runs]
        assert list(dict.fromkeys(works)) == ["intake", "review"]
        assert works.count("intake") == 1
        for run in runs:
            assert tags_of(run)[TENANT_TAG] == tenant
            assert run.dagster_run.run_config == {}


@pytest.mark.parametrize("tenant", ENTITIES)
def test_the_run_that_applied_the_last_decision_posted_and_closed(month: Month, tenant: str) -> None:
    reviews = {run.dagster_run.run_id for run in month.site.runs(tenant, work="review")}
    (posted_by,) = month.clients[tenant].ask("SELECT array_agg(DISTINCT run_id::text) AS ids FROM ledgers.journals")
    (closed_by,) = month.clients[tenant].ask("SELECT array_agg(DISTINCT run_id::text) AS ids FROM ledgers.closes")
    assert set(closed_by["ids"]) <= set(posted_by["ids"]) <= reviews


def test_every_row_names_the_run_that_touched_it_last(month: Month) -> None:
    for tenant, client in month.clients.items():
        of_feed = {run.dagster_run.run_id for run in month.site.runs(tenant)}
        of_rows = {str(row["task_id"]) for row in client.ask("SELECT DISTINCT task_id FROM ledgers.expenses")}
        of_journals = {str(row["run_id"]) for row in client.ask("SELECT DISTINCT run_id FROM ledgers.journals")}
        assert of_rows
        assert of_rows | of_journals <= of_feed


# -- side by side


def test_tenants_hold_their_own_rows_and_files_only(month: Month) -> None:
    files = {}
    for tenant, client in month.clients.items():
        entities = {row["slug"] for row in client.ask("SELECT slug FROM system.entities")}
        assert entities == {*ENTITIES[tenant], TWIN, BROKEN}
        documents = {row["sha"] for row in client.ask("SELECT encode(sha256, 'hex') AS sha FROM ingest.submitted_documents")}
        store = client.home.tenant(tenant).documents
        files[tenant] = {path.parent.name + path.name for path in store.rglob("*") if path.is_file()}
        assert files[tenant] == documents
        assert client.statuses(TWIN, PERIOD) == {"POSTED": TWIN_ROWS[tenant]}
    assert not files["harbour"] & files["meadow"]


PARTITIONS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    partitionKeysByDimension { name partitionKeys } } } }"""


def test_tenants_have_their_own_partitions(month: Month) -> None:
    for tenant in month.clients:
        node = month.site.graphql(PARTITIONS, key={"path": [tenant, "ledgers", "expenses"]})["assetNodeOrError"]
        keys = {part["name"]: part["partitionKeys"] for part in node["partitionKeysByDimension"]}
        assert set(keys["entity"]) == {*ENTITIES[tenant], TWIN, BROKEN}
        assert PERIOD in keys["period"]
        stored = month.site.storage.event_log_storage.get_dynamic_partitions(entities_set(tenant))
        assert set(stored) == set(keys["entity"])


# -- by hand

LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
    ... on PipelineNotFoundError { message } } }"""


def launch(site: Site, tenant: str, entity: str, *assets: tuple[str, str], job: str = "expense_processor") -> dict[str, Any]:
    """As the Dagster UI launches one partition: the partition's key and its dimensions travel as tags."""
    tags = {
        "dagster/partition": str(partition_key(entity, PERIOD)),
        "dagster/partition/entity": entity,
        "dagster/partition/period": PERIOD,
    }
    params = {
        "selector": {
            "repositoryLocationName": tenant,
            "repositoryName": "__repository__",
            "jobName": job,
            "assetSelection": [{"path": [tenant, *asset]} for asset in assets],
            "assetCheckSelection": [],
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
    }
    answer: dict[str, Any] = site.graphql(LAUNCH, params=params)["launchRun"]
    return answer


def ended(site: Site, run_id: str) -> DagsterRunStatus:
    eventually(lambda: site.run(run_id).is_finished, f"run {run_id} ends")
    return site.run(run_id).status


CONTENT = "SELECT md5(string_agg(x::text, '|' ORDER BY x.id)) FROM ledgers.expenses x"


@pytest.mark.parametrize("job", ["expense_processor", "__ASSET_JOB"])
def test_partition_launched_by_hand_changes_nothing_that_is_decided(month: Month, job: str) -> None:
    client = month.clients["harbour"]
    before = client.value(CONTENT)
    staging = [("ingest", "submitted_records"), ("ledgers", "expenses")]
    answer = launch(month.site, "harbour", "quay-spv", *staging, job=job)
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id = answer["run"]["runId"]
    assert ended(month.site, run_id) is DagsterRunStatus.SUCCESS
    assert client.value(CONTENT) == before
    run = month.site.run(run_id)
    assert run.tags[PARTITION_TAG] == str(partition_key("quay-spv", PERIOD))
    assert run.tags[CODE_LOCATION_TAG] == "harbour"
    assert run.tags[TENANT_TAG] == "harbour"  # also of Dagster's own job, which takes no tags of ours


def test_another_tenants_entity_cannot_be_launched(month: Month) -> None:
    """Dagster does not check the key of a dynamic partition; the tenant's database does."""
    client = month.clients["harbour"]
    before = client.value(CONTENT)
    answer = launch(month.site, "harbour", "solar-one", ("ledgers", "expenses"))
    if answer["__typename"] == "LaunchRunSuccess":
        assert ended(month.site, answer["run"]["runId"]) is DagsterRunStatus.FAILURE
    assert client.value(CONTENT) == before


# -- later in the month


def test_second_document_after_close_changes_only_its_own_rows(month: Month) -> None:
    client = month.clients["harbour"]
    old = "SELECT md5(string_agg(x::text, '|' ORDER BY x.id)) FROM ledgers.expenses x WHERE created_at < %s"
    journals = "SELECT md5(string_agg(j::text, '|' ORDER BY j.id)) FROM ledgers.journals j WHERE posted_at < %s"
    now = client.value("SELECT clock_timestamp()")
    before = client.value(old, [now]), client.value(journals, [now])
    closes = client.value("SELECT count(*) FROM ledgers.closes")

    late = invent(month.site.home.root / "documents" / "late.csv", PERIOD, 9)
    client.submit(late.path, PERIOD, TWIN)
    eventually(lambda: client.statuses(TWIN, PERIOD).get("PENDING") == late.rows, "the late rows wait for review")
    assert not client.closed(PERIOD, TWIN)
    client.decide("approve", APPROVER, entity=TWIN, period=PERIOD, status="PENDING")
    eventually(lambda: client.closed(PERIOD, TWIN), "the month is closed again")

    twin = month.twins["harbour"]
    assert_posted_once(client, TWIN, PERIOD, twin.rows + late.rows, twin.gross + late.gross)
    assert (client.value(old, [now]), client.value(journals, [now])) == before
    assert client.value("SELECT count(*) FROM ledgers.closes") == closes + 1


@pytest.mark.long
def test_failed_posting_is_tried_again_ever_later_until_it_works(month: Month) -> None:
    client, site = month.clients["meadow"], month.site
    document = invent(site.home.root / "documents" / "late-meadow.csv", PERIOD, 6)
    client.submit(document.path, PERIOD, BROKEN)
    eventually(lambda: client.statuses(BROKEN, PERIOD).get("PENDING") == document.rows, "staged")
    client.ask("INSERT INTO ledgers.accounts VALUES (%s, 'Lost and found', 'EXPENSE')", [NO_ACCOUNT], role=Role.OWNER)
    client.decide("edit", PREPARER, reason="to be booked there", values={"category": NO_ACCOUNT}, entity=BROKEN, period=PERIOD)
    eventually(client.decided, "the edit is applied")
    close = "INSERT INTO ledgers.periods SELECT id, %s, 'CLOSED' FROM system.entities WHERE slug = %s"
    client.ask(close, [PERIOD, BROKEN], role=Role.OWNER)
    client.decide("approve", APPROVER, entity=BROKEN, period=PERIOD, status="PENDING")

    eventually(lambda: client.statuses(BROKEN, PERIOD) == {"APPROVED": document.rows}, "approved, on an account there is")
    client.ask("UPDATE ledgers.accounts SET active = FALSE WHERE code = %s", [NO_ACCOUNT], role=Role.OWNER)
    client.ask("UPDATE ledgers.periods SET status = 'OPEN'", role=Role.OWNER)

    key = str(partition_key(BROKEN, PERIOD))

    def failed() -> list[RunRecord]:
        runs = site.runs("meadow", work="posting", partition=key)
        return [run for run in runs if run.dagster_run.status is DagsterRunStatus.FAILURE]

    # a row that cannot be posted is held back: one failure says so, and nothing is tried again
    eventually(lambda: len(failed()) == 1, "a run that could not post")
    assert client.statuses(BROKEN, PERIOD) == {"APPROVED": document.rows}
    assert client.value("SELECT count(*) FROM ledgers.held WHERE code = 'ACCOUNT_UNKNOWN'") == document.rows
    (attempt,) = failed()

    # what the workspace sees of it is a code and an id; the story is the tenant's
    events = site.storage.event_log_storage.get_logs_for_run(attempt.dagster_run.run_id)
    told = " ".join(str(event) for event in events)
    error = re.search(r"ROWS_NOT_POSTED \(error ([0-9a-f-]{36})\)", told)
    assert error
    assert NO_ACCOUNT not in told
    (kept,) = client.ask("SELECT * FROM system.errors WHERE id = %s", [error[1]])
    assert (kept["code"], str(kept["run_id"])) == ("ROWS_NOT_POSTED", attempt.dagster_run.run_id)
    assert (kept["step"], kept["partition"]) == ("meadow__ledgers__journals", f"{BROKEN}|{PERIOD}")
    assert NO_ACCOUNT in kept["story"]
    output = run_log(site.home.tenant("meadow").logs, attempt.dagster_run.run_id).read_text()
    assert error[1] in output

    # what is no row's fault is tried again ever later; once the account is there the rows are let go
    client.ask("REVOKE SELECT ON ledgers.releases FROM ntro_app", role=Role.OWNER)
    client.ask("UPDATE ledgers.accounts SET active = TRUE WHERE code = %s", [NO_ACCOUNT], role=Role.OWNER)
    eventually(lambda: len(failed()) >= 4, "four attempts")
    attempts = failed()[:4]
    rests = [later.create_timestamp - earlier.update_timestamp for earlier, later in pairwise(attempts)]
    assert rests[1] >= timedelta(seconds=5)
    assert rests[2] >= timedelta(seconds=10)
    assert len({tags_of(run)["dagster/run_key"] for run in attempts}) == len(attempts)
    client.ask("GRANT SELECT ON ledgers.releases TO ntro_app", role=Role.OWNER)
    eventually(lambda: client.closed(PERIOD, BROKEN), "posted and closed once it can be")
    assert_posted_once(client, BROKEN, PERIOD, document.rows, document.gross)


# -- what the workspace knows


def secrets_of(month: Month) -> dict[str, str]:
    """What must not be found on the workspace's side: word -> what it is."""
    words = {vendor: "vendor" for vendor, _ in SUPPLIERS} | {REPAIRED_VENDOR: "vendor", "Anvil & Co": "vendor"}
    words |= {tenant.name: "tenant's name" for tenant in TENANTS}
    words |= {REASON: "reason", "credit note": "reason", PREPARER: "person", APPROVER: "person"}
    for client in month.clients.values():
        for row in client.ask("SELECT name FROM system.entities"):
            words[row["name"]] = "entity's name"
        for row in client.ask("SELECT name FROM ingest.submitted_documents"):
            words[row["name"]] = "document's name"
        for row in client.ask("SELECT DISTINCT amount_gross FROM ledgers.expenses WHERE abs(amount_gross) >= 1000"):
            words |= {f"{row['amount_gross']:.2f}": "amount", f"{row['amount_gross']:,.2f}": "amount"}
        for row in client.ask("SELECT debit, credit FROM ledgers.trial_balance"):
            words |= {f"{value:.2f}": "total" for value in row.values() if value >= 1000}
    return words


def test_workspace_holds_no_figure_name_or_vendor(month: Month) -> None:
    words = secrets_of(month)
    assert len(words) > 100
    texts = workspace_texts(month.site.installation.workspace_url())
    assert {"runs", "event_logs", "snapshots", "job_ticks", "dynamic_partitions"} <= {table for table, _ in texts}
    assert findings(texts, words) == []


def test_files_of_the_workspace_hold_none_either(month: Month) -> None:
    texts = workspace_files(month.site.home)
    assert [path for path, _ in texts if path.endswith("daemon.log")]
    assert findings(texts, secrets_of(month)) == []


@pytest.mark.long  # tells of the failure that the long form above makes
def test_the_tenants_own_journal_may_tell(month: Month) -> None:
    """The scan does find what is there: a tenant's journal names the account of the failed posting."""
    stories = [("errors", row["story"]) for row in month.clients["meadow"].ask("SELECT DISTINCT story FROM system.errors")]
    assert ("errors", "account", NO_ACCOUNT) in findings(stories, {NO_ACCOUNT: "account"})


def test_the_code_servers_answers_are_kept(month: Month) -> None:
    """Every sensor's, each different one once."""
    answers = month.clients["meadow"].ask("SELECT method, times FROM system.answers")
    asked = {row["method"].rpartition("/")[2] for row in answers}
    assert {"ExternalSensorExecution", "StartRun", "Ping"} <= asked or {"SyncExternalSensorExecution", "StartRun"} <= asked
    assert max(row["times"] for row in answers) > 1

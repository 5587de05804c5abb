"""What a manager of a month-end sees in the Dagster UI with the wall on, and can do there.

After each test everything that the browser was told is looked through: for errors, and for words of the tenant's.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from chromium import Page
from dagster import DagsterRunStatus
from freezing import freezing
from month import CLOSED, FAILING, LATE, MONTHLY, PERIOD, WAITING, Month, counts, month_end
from scanning import findings

LOCATION = "/locations/__repository__@acme"
LEDGERS, RECORDS = "/assets/acme/ledgers", "/assets/acme/ingest/submitted_records"


def at(entity: str, period: str = PERIOD) -> str:
    return quote(f"{entity}|{period}")


@pytest.fixture(scope="module")
def month(page: Page) -> Iterator[Month]:  # `page` first: it may skip
    with month_end() as month:
        yield month


@pytest.fixture(autouse=True)
def told(page: Page, month: Month) -> Iterator[None]:
    """What the browser is told in each test is looked through at its end."""
    traffic = page.traffic
    traffic.answers.clear()
    traffic.complaints.clear()
    yield
    page.text()  # takes in what came meanwhile
    assert traffic.answers
    assert [(answer.operation, answer.status) for answer in traffic.answers if answer.status != 200] == []
    assert [(answer.operation, answer.failures) for answer in traffic.answers if answer.failures] == []
    assert traffic.complaints == []
    texts = [(answer.operation, answer.text) for answer in traffic.answers]
    assert findings([*texts, ("page", page.text())], month.secrets()) == []
    assert findings(texts, {"acme": "the tenant's slug, which is shown"}), "the search finds nothing at all"


# -- what is shown


def test_overview(month: Month, page: Page) -> None:
    page.open(month.site.url)
    page.until_it_shows("Timeline", "acme", "expense_processor", "month_end")
    page.picture("overview")


def test_runs(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}/runs")
    page.until_it_shows("success", "failure", CLOSED, FAILING, PERIOD, "0:00:0")
    page.picture("runs")


def test_the_log_of_a_run(month: Month, page: Page) -> None:
    run = month.site.runs("acme", work="intake")[0]
    page.open(f"{month.site.url}/runs/{run.dagster_run.run_id}")
    page.until_it_shows("RUN_SUCCESS", "STEP_SUCCESS", "ASSET_MATERIALIZATION", "acme__ledgers__expenses", "Succeeded (2)")
    page.picture("run")


def test_a_failed_run_shows_its_code_and_where_its_story_is(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}/runs/{month.failed}")
    error = f"ROWS_NOT_POSTED (error {month.error_id})"
    text = page.until_it_shows("STEP_FAILURE", error, "Errored (1)")
    page.picture("failed-run")
    step = text[text.index("STEP_FAILURE") :].split("ENGINE_EVENT", maxsplit=1)[0]
    assert f"{error}\nThe whole story: ntro errors show {month.error_id} --tenant TENANT" in step
    assert step.count(month.error_id) == 2
    assert "Dagster did something of its own" not in text


def test_the_output_of_a_run_stays_with_the_tenant(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}/runs/{month.failed}")
    page.until_it_shows("LOGS_CAPTURED", "View stdout / stderr", "RUN_FAILURE")
    page.click("View stdout / stderr")
    page.until_it_shows(f"ntro run logs {month.failed} --tenant TENANT")
    page.picture("output-of-a-run")


def test_catalog(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}/assets")
    page.until_it_shows("expenses", "journals", "general_ledger", "subledgers", "partitions")
    page.picture("catalog")


def test_groups_of_the_tenant(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}/asset-groups")
    page.until_it_shows("ingest", "subledgers", "review", "general_ledger")
    page.picture("groups")


def test_lineage_from_documents_to_trial_balance(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}{LEDGERS}/trial_balance?view=lineage&lineageScope=upstream&lineageDepth=9")
    page.until_it_shows("_documents", "submitted_records", "expenses", "expenses_decisions", "journals", "trial_balance")
    page.picture("lineage")


def test_an_asset_says_what_it_is_and_not_in_its_authors_words(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}{LEDGERS}/expenses")
    text = page.until_it_shows("Latest materialization", "Typed rows of the partition", "2 sensors")
    page.picture("asset")
    assert "No description found" not in text


def test_partitions_of_the_subledger(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}{LEDGERS}/expenses?view=partitions")
    page.until_it_shows(CLOSED, WAITING, FAILING, PERIOD, "Materialized (3)", "Failed (0)")
    page.picture("partitions")


@pytest.mark.parametrize(("entity", "rows"), [(CLOSED, {"POSTED": 40}), (WAITING, {"PENDING": 15}), (FAILING, {"APPROVED": 6})])
def test_rows_by_status_in_a_partition(month: Month, page: Page, entity: str, rows: dict[str, int]) -> None:
    page.open(f"{month.site.url}{LEDGERS}/expenses?view=partitions&partition={at(entity)}")
    text = page.until_it_shows(f"{entity}|{PERIOD}", "Materialized", "Metadata", "inserted", "POSTED")
    page.picture(f"partition-{entity}")
    assert counts(text) == rows


def test_a_partition_that_failed(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}{LEDGERS}/journals?view=partitions&partition={at(FAILING)}")
    page.until_it_shows(f"{FAILING}|{PERIOD}", "failed, and did not materialize this asset", "Failed (1)", "Materialized (1)")
    page.picture("partition-failed")


def test_events_of_the_subledger(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}{LEDGERS}/expenses?view=events")
    page.until_it_shows(f"{CLOSED}|{PERIOD}", f"{WAITING}|{PERIOD}", "observed in run", "NEEDS_ATTENTION")
    page.picture("events")


def test_the_check_of_the_trial_balance(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}{LEDGERS}/trial_balance?view=checks")
    page.until_it_shows("balances", "Passed", "blocking", "Debits equal credits, per currency.")
    page.picture("check")


def test_jobs(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}{LOCATION}/jobs/month_end")
    page.until_it_shows("Review, posting and close", "3 sensors", "Latest run")
    page.picture("job")


def test_schedule(month: Month, page: Page) -> None:
    name = MONTHLY.name("expense-processor")
    page.open(f"{month.site.url}{LOCATION}/schedules/{name}")
    page.until_it_shows(name, "Europe/London", "A run for each entity that is bound")
    page.picture("schedule")


def test_automation(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}/automation")
    page.until_it_shows("expense_processor_intake", "month_end_close", "Standard sensor", "08:00 AM GMT")
    page.picture("automation")


def test_ticks_of_a_sensor(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}{LOCATION}/sensors/month_end_review")
    page.until_it_shows("Filed decisions, and steps that are due", "1 run requested", "~5 sec")
    page.picture("sensor")


def test_code_locations_and_daemons(month: Month, page: Page) -> None:
    page.open(f"{month.site.url}/deployment/locations")
    page.until_it_shows("acme", "Loaded", "1 code location")
    page.picture("locations")
    page.open(f"{month.site.url}/deployment/daemons")
    text = page.until_it_shows("Sensors", "Run queue", "Monitoring", "Running")
    page.picture("daemons")
    assert "Not running" not in text


# -- what is done there


def ends(month: Month, page: Page, run_id: str, status: DagsterRunStatus) -> None:
    page.until(lambda: month.site.run(run_id).is_finished, f"run {run_id} has ended")
    assert month.status_of(run_id) is status


def runs_since(month: Month, known: set[str], partition: str | None = None) -> list[str]:
    """Of people, not of sensors, whose name a run that is executed again has too."""
    runs = [record.dagster_run for record in month.site.runs("acme", partition=partition)]
    people = [run for run in runs if "dagster/sensor_name" not in run.tags or "dagster/parent_run_id" in run.tags]
    return [run.run_id for run in people if run.run_id not in known]


def all_runs(month: Month) -> set[str]:
    return {record.dagster_run.run_id for record in month.site.runs("acme")}


def test_materialize_one_partition(month: Month, page: Page) -> None:
    known = all_runs(month)
    page.open(f"{month.site.url}{RECORDS}?view=partitions&partition={at(CLOSED)}")
    page.until_it_shows("Materialize…", "Materialized (3)", "Latest materialization")
    page.click("Materialize…")
    page.until_it_shows("Launch 1 run", "1 partition")
    page.picture("materialize")
    page.click("Launch 1 run")
    (launched,) = page.until(lambda: runs_since(month, known, f"{CLOSED}|{PERIOD}"), "the run is launched")
    ends(month, page, launched, DagsterRunStatus.SUCCESS)
    assert month.site.run(launched).tags["ntro/unit"] == f"acme|{CLOSED}|{PERIOD}"


def test_backfill_of_two_partitions(month: Month, page: Page) -> None:
    known = all_runs(month)
    page.open(f"{month.site.url}{RECORDS}?view=partitions&partition={at(CLOSED)}")
    page.until_it_shows("Materialize…", "Materialized (3)", "Latest materialization")
    page.click("Materialize…")
    page.until_it_shows("Launch 1 run", "1 partition")
    page.fill('[role=dialog] input[placeholder^="ex:"]', "2026-02, 2026-03")
    page.until_it_shows("2 partitions", "Launch backfill")
    page.picture("backfill-dialog")
    page.click("Launch backfill")
    launched = page.until(lambda: len(found := runs_since(month, known)) == 2 and found, "two runs are launched") or []
    for run_id in launched:
        ends(month, page, run_id, DagsterRunStatus.SUCCESS)
    (backfill,) = {month.site.run(run_id).tags["dagster/backfill"] for run_id in launched}
    page.open(f"{month.site.url}/runs/b/{backfill}")
    page.until_it_shows(backfill, f"{CLOSED}|2026-02", f"{CLOSED}|{PERIOD}", "acme / ingest / submitted_records")
    page.picture("backfill")


def test_re_execute_a_failed_run(month: Month, page: Page) -> None:
    month.has_account(True)
    page.open(f"{month.site.url}/runs/{month.failed}")
    page.until_it_shows("RUN_FAILURE", "Re-execute all (*)")
    known = all_runs(month)
    page.click("Re-execute all (*)")
    (launched,) = page.until(lambda: runs_since(month, known, f"{FAILING}|{PERIOD}"), "the run is launched")
    ends(month, page, launched, DagsterRunStatus.SUCCESS)
    assert month.site.run(launched).tags["dagster/parent_run_id"] == month.failed
    page.until(lambda: month.client.statuses(FAILING, PERIOD) == {"POSTED": 6}, "the rows are posted")
    page.open(f"{month.site.url}/runs/{launched}")
    page.until_it_shows("RUN_SUCCESS")
    page.picture("re-executed")


def test_cancel_a_run_at_work(month: Month, page: Page) -> None:
    partition = f"{LATE}|{PERIOD}"
    with freezing(month.client, "expenses INSERT") as freezer:
        month.submit(LATE, 9)
        freezer.wait()
        (record,) = month.site.runs("acme", partition=partition)
        run_id = record.dagster_run.run_id
        page.open(f"{month.site.url}/runs/{run_id}")
        page.until_it_shows("STEP_START", "Started", "Terminate")
        page.click("Terminate")
        page.until_it_shows("will be terminated")
        page.picture("terminate")
        page.click("Terminate 1 run")
        ends(month, page, run_id, DagsterRunStatus.CANCELED)
        page.open(f"{month.site.url}/runs/{run_id}")
        text = page.until_it_shows("Canceled", "RUN_CANCELED", "The run was cancelled.")
        assert "UNEXPECTED_ERROR" not in text[text.index("RUN_CANCELED") :]
        page.picture("cancelled-run")
    page.until(lambda: month.client.statuses(LATE, PERIOD) == {"PENDING": 9}, "a sensor starts what was left")

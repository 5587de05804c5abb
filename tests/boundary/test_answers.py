"""What hostile code servers answer reaches neither GraphQL nor the output of the workspace's processes, nor another tenant."""

from __future__ import annotations

import gzip
import inspect
import json
import sys
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import hostile_server
import psycopg
import pytest
from answering import BETA, HOSTILE, NAMING, TALKING, TENANTS, UNWALLED, Place, eventually, told
from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from dagster._core.workspace.context import WorkspaceRequestContext
from dagster._grpc.__generated__ import dagster_api_pb2
from dagster._grpc.client import DagsterGrpcClient
from dagster._serdes import serialize_value
from dagster._utils.error import serializable_error_info_from_exc_info

from ntro_dagster.boundary.answers import guard as answers
from ntro_dagster.boundary.answers.calls import ANSWERS, REFUSED
from ntro_dagster.boundary.answers.survey import DefinitionNotDeployedError, known_names
from ntro_dagster.boundary.names import entities_set
from ntro_dagster.host.surveys import survey_tenants
from ntro_dagster.workspace.guarded import locations


@pytest.fixture
def guarded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard, in this process, for this test."""
    for method in ("_get_response", "_gen_response", "_get_streaming_response", "_gen_streaming_response", "health_check_query"):
        monkeypatch.setattr(DagsterGrpcClient, method, getattr(DagsterGrpcClient, method))
    known = {slug: frozenset(place.instance.get_dynamic_partitions(entities_set(slug))) for slug in TENANTS}
    answers.install(answers.Guard(location_at=locations(place.home.workspace_file), entities=known.__getitem__))


def everything(context: WorkspaceRequestContext, instance: DagsterInstance, tenants: Collection[str] = TENANTS) -> str:
    """All that the workspace was told: definitions, load errors, and what each sensor and schedule answers."""
    heard = []
    for slug, entry in context.get_code_location_entries().items():
        if slug in tenants:
            heard.append(str(entry))
            if entry.load_error:
                heard.append(serialize_value(entry.load_error))
    for location in context.code_locations:
        if location.name not in tenants:
            continue
        for repository in location.get_repositories().values():
            heard.append(serialize_value(repository.repository_snap))
            heard += [serialize_value(each.job_snapshot) for each in repository.get_all_jobs()]
            for sensor in repository.get_sensors():
                ask = partial(location.get_sensor_execution_data, instance, repository.handle, sensor.name)
                heard.append(_heard(partial(ask, None, None, None, None, None)))
            for schedule in repository.get_schedules():
                ask = partial(location.get_schedule_execution_data, instance, repository.handle, schedule.name)
                heard.append(_heard(partial(ask, None, None)))
    return "\n".join(heard)


def _heard(ask: Callable[[], Any]) -> str:
    try:
        return serialize_value(ask())
    except Exception:
        return serialize_value(serializable_error_info_from_exc_info(sys.exc_info()))


@pytest.mark.long  # that the tests before can fail
def test_without_either_half_everything_is_heard(place: Place) -> None:
    for context in place.code_locations():
        heard = told(everything(context, place.instance, UNWALLED))
        assert len(heard) >= 40, sorted(hostile_server.channels() - heard)


def test_with_the_tenants_half_nothing_is_on_the_wire(place: Place) -> None:
    for context in place.code_locations():
        assert context.get_code_location_entries()[TALKING].load_error is None
        assert told(everything(context, place.instance, TENANTS.keys() - UNWALLED)) == set()


def test_with_the_guard_nothing_is(place: Place, guarded: None) -> None:
    for context in place.code_locations():
        assert told(everything(context, place.instance)) == set()


def test_a_name_that_was_not_deployed_is_not_shown(place: Place, guarded: None) -> None:
    for context in place.code_locations():
        error = context.get_code_location_entries()[NAMING].load_error
        assert error
        assert "DEFINITION_NOT_DEPLOYED" in error.message
        assert told(serialize_value(error)) == set()
        assert context.get_code_location_entries()[HOSTILE].load_error is None


def test_known_names_are_those_of_the_code_without_data(place: Place) -> None:
    names = known_names(HOSTILE)
    assert {"asset_name", "check_name", "op_name", "job_name", "group_name", "foreign", "monthly", "month"} <= names
    assert told(" ".join(known_names(NAMING))) == set()
    with pytest.raises(DefinitionNotDeployedError):
        known_names("nobody")


def test_surveys_are_private_and_made_once(place: Place) -> None:
    files = sorted(place.home.surveys.iterdir())
    assert [file.stem for file in files] == sorted(TENANTS)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    made = [file.stat().st_mtime_ns for file in files]
    survey_tenants(place.home, TENANTS)
    assert [file.stat().st_mtime_ns for file in files] == made


def test_every_rpc_is_answered_or_refused() -> None:
    """An upgrade of Dagster that brings another one makes this red."""
    methods = {method.name for method in dagster_api_pb2.DESCRIPTOR.services_by_name["DagsterApi"].methods}
    assert ANSWERS.keys() | REFUSED == methods
    assert not ANSWERS.keys() & REFUSED


def test_the_client_speaks_to_servers_in_these_methods_only() -> None:
    speaking = {
        name
        for name, method in inspect.getmembers(DagsterGrpcClient, inspect.isfunction)
        if "_channel() as" in inspect.getsource(method)
    }
    assert speaking == {
        "_get_response",
        "_gen_response",
        "_get_streaming_response",
        "_gen_streaming_response",
        "health_check_query",
    }


def test_an_address_of_nobody_is_not_asked(place: Place, guarded: None) -> None:
    with pytest.raises(Exception, match="PERMISSION_DENIED"):
        DagsterGrpcClient(socket="/nobody/code.sock").get_server_id()
    with pytest.raises(Exception, match="PERMISSION_DENIED"):
        DagsterGrpcClient(socket=str(place.home.tenant(HOSTILE).socket)).external_notebook_data("/etc/passwd")


# -- the real webserver and daemon

PAGES = """{
  workspaceOrError { __typename ... on Workspace { locationEntries { name loadStatus displayMetadata { key value }
    locationOrLoadError { __typename
      ... on PythonError { message className stack cause { message stack } errorChain { error { message stack } } }
      ... on RepositoryLocation { name dagsterLibraryVersions { name version } repositories { name displayMetadata { key value }
        pipelines { name description tags { key value } runTags { key value } metadataEntries { label description }
          presets { name } pipelineSnapshotId solids { name definition { name description metadata { key value } __typename
            ... on SolidDefinition { configField { name description defaultValueAsJson isRequired }
              outputDefinitions { name description } } } } modes { name description resources { name description
              configField { description defaultValueAsJson } } loggers { name description } } }
        sensors { name description metadata { assetKeys { path } }
          metadataEntries { label description }
          minIntervalSeconds sensorType targets { pipelineName } tags { key value } owners { __typename }
          sensorState { status ticks(limit: 20) { status error { message stack } skipReason cursor runKeys logKey
            dynamicPartitionsRequestResults { partitionKeys } requestedAssetMaterializationCount } } }
        schedules { name description cronSchedule executionTimezone tags { key value } metadataEntries { label description } }
        assetGroups { groupName assetKeys { path } }
        allTopLevelResourceDetails { name description resourceType configFields { name description defaultValueAsJson }
          configuredValues { key value } }
        assetNodes { assetKey { path } groupName description opName opNames opVersion computeKind jobNames isPartitioned
          kinds tags { key value } owners { __typename ... on UserAssetOwner { email } ... on TeamAssetOwner { team } }
          metadataEntries { label description __typename } dependencyKeys { path } dependedByKeys { path }
          partitionDefinition { description type dimensionTypes { name dynamicPartitionsDefinitionName } }
          configField { name description defaultValueAsJson }
          assetChecksOrError { ... on AssetChecks { checks { name description blocking jobNames } } } } } } } } } }
  assetsOrError { ... on AssetConnection { nodes { key { path } } } }
  runsOrError { ... on Runs { results { runId status pipelineName tags { key value } runConfigYaml assetSelection { path } } } }
  instance { daemonHealth { allDaemonStatuses { daemonType healthy lastHeartbeatErrors { message stack } } } }
}"""


@pytest.fixture
def ticked(place: Place) -> None:
    """Every sensor has ticked, and the one honest request has become a run that ended."""

    def seen() -> bool:
        states = {state.instigator_name: state for state in place.instance.all_instigator_state()}
        names = {"foreign", "skips", "raises", "requests"}
        mine = [state for state in states.values() if state.instigator_name in names]
        ticks = {
            state.instigator_name
            for state in mine
            if any(t.is_completed for t in place.instance.get_ticks(state.instigator_origin_id, state.selector_id))
        }
        return names <= ticks and any(
            run.status is DagsterRunStatus.SUCCESS and run.tags["dagster/code_location"] == HOSTILE
            for run in place.instance.get_runs()
        )

    eventually(seen, "each sensor ticked and the honest run ended")


def test_the_pages_show_the_shape_and_none_of_the_words(place: Place, ticked: None) -> None:
    answer = place.graphql(PAGES)
    assert "errors" not in answer, answer["errors"]
    assert told(json.dumps(answer)) == set()
    entries = {each["name"]: each["locationOrLoadError"] for each in answer["data"]["workspaceOrError"]["locationEntries"]}
    assert "DEFINITION_NOT_DEPLOYED" in entries[NAMING]["message"]
    (repository,) = entries[HOSTILE]["repositories"]
    assert {job["name"] for job in repository["pipelines"]} == {"__ASSET_JOB", "job_name", "month"}
    assert {sensor["name"] for sensor in repository["sensors"]} == {"foreign", "skips", "raises", "requests"}
    monthly = next(each for each in repository["schedules"] if each["name"] == "monthly")
    assert (monthly["cronSchedule"], monthly["executionTimezone"]) == ("0 8 5 * *", "Europe/London")
    node = next(each for each in repository["assetNodes"] if each["assetKey"]["path"] == [HOSTILE, "ledgers", "asset_name"])
    assert (node["groupName"], node["kinds"], node["jobNames"]) == ("group_name", ["postgres"], ["__ASSET_JOB", "month"])
    assert {each["name"]: each["dynamicPartitionsDefinitionName"] for each in node["partitionDefinition"]["dimensionTypes"]} == {
        "entity": "acme__entities",
        "period": None,
    }
    assert [check["name"] for check in node["assetChecksOrError"]["checks"]] == ["check_name"]
    raising = next(sensor for sensor in repository["sensors"] if sensor["name"] == "raises")
    assert raising["sensorState"]["ticks"][0]["error"]["message"].rstrip().endswith("UNEXPECTED_ERROR")


def test_a_sensor_reaches_no_other_tenant(place: Place, ticked: None) -> None:
    assert place.instance.get_dynamic_partitions(entities_set(BETA)) == ["b-1"]
    assert not [key for key in place.instance.all_asset_keys() if key.path[0] not in {HOSTILE, TALKING}]
    assert place.instance.get_latest_materialization_event(AssetKey(["beta", "ledgers", "rows"])) is None
    for run in place.instance.get_runs():
        assert run.tags.get("ntro/tenant") == run.tags["dagster/code_location"]
        assert told(json.dumps(dict(run.tags))) == set()
        assert run.tags["dagster/partition"] == f"{hostile_server.ENTITY}|{hostile_server.PERIOD}"


def test_the_processes_say_nothing_of_it(place: Place, ticked: None) -> None:
    place.graphql(PAGES)
    output = {name: (place.home.logs / f"{name}.log").read_text() for name in ("webserver", "daemon")}
    assert "Nothing to do." in output["daemon"]
    assert {name: told(text) for name, text in output.items()} == {"webserver": set(), "daemon": set()}


def test_nothing_of_the_definitions_is_stored(place: Place, ticked: None) -> None:
    with psycopg.connect(place.url) as connection:
        rows = connection.execute("SELECT snapshot_body FROM snapshots").fetchall()
    bodies = [zlib.decompress(bytes(body)).decode() for (body,) in rows]
    assert len(bodies) >= 2
    assert told("\n".join(bodies)) == set()


def _status(place: Place, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(place.web + path, body, {"Content-Type": "application/json"})  # noqa: S310 - our own webserver
    try:
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(
    "path",
    [
        "/report_asset_materialization/beta/ledgers/rows",
        "/report_asset_check/beta/ledgers/rows?check_name=x&passed=true",
        "/report_asset_observation/beta/ledgers/rows?data_version=x",
        "/notebook?repoLocName=acme&path=x.ipynb",
        "/logs/a/b/c.out",
    ],
)
def test_pages_that_take_or_tell_too_much_are_shut(place: Place, path: str) -> None:
    assert _status(place, path, b"{}" if "report" in path else None)[0] == 404
    assert place.instance.get_latest_materialization_event(AssetKey(["beta", "ledgers", "rows"])) is None


def test_the_debug_file_of_a_run_tells_nothing(place: Place, ticked: None) -> None:
    (run, *_) = place.instance.get_runs()
    status, content = _status(place, f"/download_debug/{run.run_id}")
    assert status == 200
    debug = gzip.decompress(content).decode()
    assert run.run_id in debug
    assert told(debug) == set()


LAUNCH = """mutation Launch($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message stack } ... on InvalidSubsetError { message } } }"""
AGAIN = """mutation Again($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) { __typename
  ... on LaunchRunSuccess { run { runId } } ... on PythonError { message stack } } }"""
BACKFILL = """mutation Fill($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) { __typename
  ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message stack } } }"""


def test_launching_reexecuting_and_backfills_work(place: Place) -> None:
    where = {"repositoryName": "__repository__", "repositoryLocationName": HOSTILE}
    asset = {"path": [HOSTILE, "ledgers", "asset_name"]}
    partition = f"{hostile_server.ENTITY}|2026-08"
    tags = [
        {"key": "dagster/partition", "value": partition},
        {"key": "dagster/partition/entity", "value": hostile_server.ENTITY},
        {"key": "dagster/partition/period", "value": "2026-08"},
    ]
    params = {
        "selector": {**where, "pipelineName": "month", "assetSelection": [asset]},
        "executionMetadata": {"tags": tags},
        "mode": "default",
        "runConfigData": {},
    }
    launched = place.graphql(LAUNCH, params=params)["data"]["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    first = launched["run"]["runId"]
    eventually(lambda: _ended(place, first), "the launched run ends")
    again = place.graphql(AGAIN, params={"parentRunId": first, "strategy": "ALL_STEPS"})["data"]["launchRunReexecution"]
    assert again["__typename"] == "LaunchRunSuccess", again
    eventually(lambda: _ended(place, again["run"]["runId"]), "the second run ends")
    filled = place.graphql(BACKFILL, params={"assetSelection": [asset], "partitionNames": [f"{hostile_server.ENTITY}|2026-07"]})
    assert filled["data"]["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", filled
    eventually(
        lambda: any(
            run.tags.get("dagster/partition") == f"{hostile_server.ENTITY}|2026-07" and _ended(place, run.run_id)
            for run in place.instance.get_runs()
        ),
        "the backfill's run ends",
    )


def _ended(place: Place, run_id: str) -> bool:
    run = place.instance.get_run_by_id(run_id)
    assert run
    assert run.status is not DagsterRunStatus.FAILURE, [entry.message for entry in place.instance.all_logs(run_id)]
    return run.status is DagsterRunStatus.SUCCESS

"""What a run prints goes to its tenant's file; the workspace shows one sentence."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from dagster import DagsterEventType, DagsterInstance, job, op
from dagster._core.events import ComputeLogsCaptureData
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster._serdes import serialize_value

from ntro_dagster.boundary import wall
from ntro_dagster.boundary.compute_logs import TenantComputeLogs
from ntro_dagster.boundary.tenant_logs import run_log
from ntro_dagster.host.dagster_instance import instance_config
from ntro_dagster.host.home import Home

RUN = "8ddb28b2-3a0e-4d0e-9a53-2f5b8d3c9d11"
KEY = [RUN, "compute_logs", "abcdefgh"]

TALKS = """
import ctypes, logging, os, subprocess, sys, warnings
from ntro_dagster.boundary.compute_logs import TenantComputeLogs
print("before")
with TenantComputeLogs().capture_logs({key!r}) as captured:
    print("said by print")
    sys.stderr.write("said to stderr\\n")
    os.write(1, b"said to descriptor 1\\n")
    os.write(2, b"said to descriptor 2 \\xff\\n")
    libc = ctypes.CDLL(None)
    libc.printf(b"said by C\\n")
    libc.puts(b"said by puts")
    logging.getLogger("a.library").info("said to a logger")
    logging.getLogger().warning("said to the root logger")
    warnings.warn("said as a warning")
    subprocess.run(["sh", "-c", "echo said by a child; echo said by a child to stderr >&2"])
    {more}
print("after")
"""
SAID = [
    "by print", "to stderr", "to descriptor 1", "to descriptor 2", "by C", "by puts", "to a logger", "to the root logger",
    "as a warning", "by a child", "by a child to stderr",
]  # fmt: skip


def talk(environment: dict[str, str], more: str = "pass") -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NTRO_", "PYTHON"))}  # buffers as usual
    script = TALKS.format(key=KEY, more=more)
    return subprocess.run([sys.executable, "-c", script], env=clean | environment, capture_output=True, check=False)


def test_everything_a_tenants_run_prints_is_in_its_file(tmp_path: Path) -> None:
    done = talk({"NTRO_TENANT": "acme", "NTRO_LOGS": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    path = run_log(tmp_path, RUN)
    content = path.read_bytes()
    assert [said for said in SAID if f"said {said}".encode() not in content] == []
    assert done.stdout.split() == [b"before", b"after"]
    assert b"said" not in done.stderr
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_kill_loses_no_line(tmp_path: Path) -> None:
    done = talk({"NTRO_TENANT": "acme", "NTRO_LOGS": str(tmp_path)}, more="print('last words'); os.kill(os.getpid(), 9)")
    assert done.returncode == -9
    assert b"last words" in run_log(tmp_path, RUN).read_bytes()


@pytest.mark.parametrize(
    "environment", [{}, {"NTRO_TENANT": "acme"}, {"NTRO_LOGS": "x"}], ids=["nothing", "no logs", "no tenant"]
)
def test_a_process_that_is_no_tenants_captures_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    given = {name: value if value != "x" else str(tmp_path) for name, value in environment.items()}
    done = talk(given)
    assert b"said by print" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_second_attempt_is_appended(tmp_path: Path) -> None:
    for _ in range(2):
        talk({"NTRO_TENANT": "acme", "NTRO_LOGS": str(tmp_path)})
    assert run_log(tmp_path, RUN).read_bytes().count(b"said by print") == 2


@pytest.mark.parametrize("tenants", [True, False])
@pytest.mark.parametrize("key", [KEY, ["../../secrets", "compute_logs", "x"], [], ["repo", "sensor", "1"]], ids=str)
def test_who_asks_through_dagster_gets_one_sentence(
    key: list[str], tenants: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk({"NTRO_TENANT": "acme", "NTRO_LOGS": str(tmp_path)})
    if tenants:
        monkeypatch.setenv("NTRO_TENANT", "acme")
        monkeypatch.setenv("NTRO_LOGS", str(tmp_path))
    logs = TenantComputeLogs()
    shown = logs.get_log_data(key)
    run = RUN if key == KEY else "RUN"
    sentence = f"The output of this run stays with its tenant. To see it: ntro run logs {run} --tenant TENANT\n"
    assert shown.stdout == shown.stderr == sentence.encode()
    assert logs.get_log_data(key, shown.cursor).stdout == b""
    assert logs.get_log_data_for_type(key, ComputeIOType.STDOUT, 4, 6) == (b"output", 10)
    assert logs.is_capture_complete(key)
    assert set(logs.get_log_metadata(key)) == {None}
    assert logs.read_log_lines_for_log_key_prefix(key, None, ComputeIOType.STDERR) == ([], None)
    logs.delete_logs(log_key=key)
    assert run_log(tmp_path, RUN).exists()


def test_sensors_log_to_the_tenant_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = TenantComputeLogs()
    with logs.open_log_stream(["repo", "sensor", "1"], ComputeIOType.STDERR) as stream:
        assert stream is None
    monkeypatch.setenv("NTRO_TENANT", "acme")
    monkeypatch.setenv("NTRO_LOGS", str(tmp_path))
    with logs.open_log_stream(["repo", "sensor", "1"], ComputeIOType.STDERR) as stream:
        assert stream
        stream.write("a line\n")
    (path,) = tmp_path.iterdir()
    assert path.read_text() == "a line\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_log_lines_of_a_run_reach_its_file_and_the_event_of_it_does_not_cross(tmp_path: Path) -> None:
    """A run in a process of its own, with the settings of dagster.yaml."""
    script = f"""
import json, os
from dagster import DagsterInstance, get_dagster_logger, job, op
from tests.boundary.test_compute_logs import quiet_yaml
@op
def talks(context):
    context.log.debug("line debug")
    context.log.info("line info")
    get_dagster_logger().info("line of the module's logger")
@job
def talking():
    talks()
with DagsterInstance.from_config({str(tmp_path)!r}) as instance:
    print(json.dumps(talking.execute_in_process(instance=instance).run_id))
"""
    (tmp_path / "dagster.yaml").write_text(quiet_yaml())
    logs = tmp_path / "logs"
    environment = os.environ | {"NTRO_TENANT": "acme", "NTRO_LOGS": str(logs), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = run_log(logs, json.loads(done.stdout.splitlines()[-1])).read_text()
    assert [line for line in ("line debug", "line info", "line of the module's logger") if line not in text] == []


def quiet_yaml() -> str:
    settings = instance_config(Home(Path("/nowhere")))
    return json.dumps({name: settings[name] for name in ("compute_logs", "python_logs", "telemetry")})


def test_of_the_captured_output_only_the_steps_are_told() -> None:
    @op
    def works() -> None: ...

    @job
    def working() -> None:
        works()

    with DagsterInstance.ephemeral() as instance:
        done = working.execute_in_process(instance=instance)
        entries = instance.all_logs(done.run_id, of_type=DagsterEventType.LOGS_CAPTURED)
    (entry,) = entries
    assert entry.dagster_event
    own = entry.dagster_event.logs_captured_data._replace(
        file_key="own-secret", external_url="https://secret", step_keys=["works"]
    )
    told = wall.event(entry._replace(dagster_event=entry.dagster_event._replace(event_specific_data=own)))
    assert told
    assert told.dagster_event
    assert told.dagster_event.logs_captured_data == ComputeLogsCaptureData(file_key="output", step_keys=["works"])
    assert "secret" not in serialize_value(told)

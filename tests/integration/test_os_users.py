"""Two tenants as users of their own: what each can do to the other, and to the workspace. As root, in a mount namespace."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import os_users_world
import pytest


def _why_not() -> str:
    if os.geteuid() != 0:
        return "not root"
    if not shutil.which("unshare"):
        return "no unshare (util-linux)"
    done = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "no mount namespaces here"


pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(_why_not()), reason=_why_not() or "-")]


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    place = Path(tempfile.mkdtemp(prefix="ntro-users-", dir="/tmp"))
    place.chmod(0o755)
    try:
        command = ["unshare", "-m", sys.executable, os_users_world.__file__, str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout)
    finally:
        data = (place / "home" / "postgres" / "data").resolve()
        shutil.rmtree(place)
        if data.is_dir() and data.is_relative_to("/var/lib/ntro"):
            shutil.rmtree(data.parent)


def test_every_process_has_its_user_and_no_other_right(found: dict[str, Any]) -> None:
    users = found["users"]
    wanted = {"webserver": users["base"], "daemon": users["base"], "relay": users["base"]}
    wanted |= {f"{kind}-{slug}": uid for slug, uid in users["tenants"].items() for kind in ("tenant", "desk")}
    assert len({users["base"], *users["tenants"].values()}) == 3
    for name, uid in wanted.items():
        for each in found["identities"][name]:
            assert (set(each["Uid"]), set(each["Gid"]), each["Groups"]) == ({str(uid)}, {str(uid)}, []), each
            assert (each["CapEff"], each["NoNewPrivs"]) == (["0" * 16], ["1"]), each
    assert len(found["identities"]["tenant-acme"]) > 1, "the fork server of run workers is among them"


def test_runs_are_the_tenants(found: dict[str, Any]) -> None:
    assert found["run logs"] == {slug: [uid] for slug, uid in found["users"]["tenants"].items()}


def test_a_tenant_can_do_nothing_to_the_other_or_to_the_host(found: dict[str, Any]) -> None:
    assert found["on the other"] == []
    assert found["on the host"] == []


def test_the_attacks_work_where_they_may(found: dict[str, Any]) -> None:
    own = {trick for trick, _ in found["on itself"]}
    assert own == {"read", "write", "connect", "environ", "memory", "signal"}
    assert found["missed by root"] == []


def test_a_tenant_reads_and_writes_no_more_of_its_own_than_it_needs(found: dict[str, Any]) -> None:
    of_its_own = [(trick, target.partition("/home/")[2]) for trick, target in found["on itself"] if "/" in target]
    written = {target.split("/")[-1 if target.startswith("run") else 2] for trick, target in of_its_own if trick == "write"}
    assert written <= {"bee", "logs", "artifacts", "uploads", "books"}
    assert not [target for _, target in of_its_own if "credentials" in target or "process.env" in target or "output" in target]


def test_the_workspace_comes_as_far_as_the_sockets(found: dict[str, Any]) -> None:
    assert {target.partition("/home/")[2].split("/")[0] for _, target in found["of the workspace"]} == {"run"}
    assert not [target for _, target in found["of the workspace"] if target.isdigit()]


def test_what_lay_outside_is_not_handed_over(found: dict[str, Any]) -> None:
    assert found["elsewhere"] == ["untouched", 0, 0o600]


def test_doctor_says_what_it_costs_and_when_all_is_well(found: dict[str, Any]) -> None:
    assert found["shared"]["state"] == "warning"
    assert "the files, the secrets and the memory of the others" in found["shared"]["finding"]
    assert [check for check in found["doctor"] if check["state"] == "problem"] == []
    assert found["doctor"][-1]["state"] == "ok"
    assert "OS_USERS_FIXED" in found["back"]

"""A month of two tenants with users of their own, in a mount namespace where those users reach Python; prints what was found.

Run as root by `test_os_users`, below `unshare -m`. Argument: a directory for the home that others may pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import os_users_attack
import psutil
from cli_home import ROOT, CommandLine, write_return

import ntro_dagster
from ntro_dagster.host.home import Home

TENANTS = ("acme", "bee")


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def open_the_way(to: set[Path]) -> None:
    """Put an empty directory, which all may pass, over each that is closed, and what we need of it back in its place."""
    shut = {first for path in to if (first := next((d for d in reversed(path.parents) if not d.stat().st_mode & 1), None))}
    for directory in shut:
        wanted = [path for path in to if path.is_relative_to(directory)]
        aside = {path: Path(tempfile.mkdtemp()) for path in wanted}
        for path, kept in aside.items():
            mount("--bind", path, kept)
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
        for path, kept in aside.items():
            path.mkdir(parents=True)
            mount("--bind", kept, path)
            mount("-o", "remount,bind,ro", path)
            subprocess.run(["umount", kept], check=True)
            kept.rmdir()


def identity(process: psutil.Process) -> dict[str, Any]:
    said = Path("/proc", str(process.pid), "status").read_text()
    lines = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    words = {name: lines[name].split() for name in ("Uid", "Gid", "Groups", "CapEff", "NoNewPrivs")}
    return {"name": process.name(), "pid": process.pid, **words}


def attack(uid: int, tries: list[tuple[str, str]]) -> list[list[str]]:
    """What a process of that user can do, of `tries`."""
    done = subprocess.run(
        [sys.executable, os_users_attack.__file__, json.dumps(tries)],
        user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: list[list[str]] = json.loads(done.stdout)
    return found


def everything(home: Home, slug: str, pids: list[int]) -> list[tuple[str, str]]:
    """Every attack on a tenant: on all its files and sockets, and on its processes."""
    tenant = home.tenant(slug)
    paths = [tenant.root, *tenant.root.rglob("*"), tenant.socket.parent]
    tries = [(trick, str(path)) for path in paths for trick in ("read", "write")]
    tries += [("connect", str(path)) for path in (tenant.socket, tenant.relay_socket)]
    return tries + [(trick, str(pid)) for pid in pids for trick in ("environ", "memory", "signal")]


def of_the_host(home: Home, pids: list[int]) -> list[tuple[str, str]]:
    data = (home.postgres / "data").resolve()
    kept = (home.run / "env", home.root / "credentials", home.dagster, home.surveys, home.postgres, data, home.logs)
    inside = [path for folder in kept for path in [folder, *folder.glob("*")]]
    listed = [home.root, home.run, home.root / "tenants", home.workspace_file, home.users_file, home.description_file]
    tries = [(trick, str(path)) for path in [*listed, *inside] for trick in ("read", "write")]
    tries.append(("connect", str(home.supervisor_socket)))
    return tries + [(trick, str(pid)) for pid in pids for trick in ("environ", "memory", "signal")]


def main(place: Path) -> dict[str, Any]:
    open_the_way({Path(sys.base_prefix), Path(sys.prefix), Path(ntro_dagster.__file__).parent.parent})
    ntro, home = CommandLine(place / "home"), Home(place / "home")
    try:
        return live(place, ntro, home)
    finally:
        if home.description_file.exists():
            ntro("down")


def live(place: Path, ntro: CommandLine, home: Home) -> dict[str, Any]:
    ntro.ok("up", "--detach", "--shared-user")
    ntro.ok("workflow", "push", ROOT / "runbooks" / "expense-processor")
    for slug in TENANTS:
        ntro.ok("tenant", "create", slug, "--name", slug.title())
        ntro.ok("workflow", "deploy", "expense-processor", "--tenant", slug)
    shared = ntro.ok("doctor")["checks"]
    first = write_return(place / "acme" / "2025-01" / "first.csv", "SPV One,01/01/2025,Travel Ltd,12.50")
    ntro.ok("ingest", first, "--tenant", "acme", "--create-entities", "--wait")
    ntro.ok("down")
    elsewhere = place / "of-root"
    elsewhere.write_text("untouched")
    elsewhere.chmod(0o600)
    (home.tenant("acme").logs / "link").symlink_to(elsewhere)
    os.link(elsewhere, home.tenant("acme").logs / "second-name")

    ntro.ok("up", "--detach", "--own-users")
    for slug in TENANTS:
        path = write_return(place / slug / "2025-02" / "second.csv", f"SPV One,01/02/2025,Rail {slug},7.25")
        ntro.ok("ingest", path, "--tenant", slug, "--create-entities", "--wait")
    status = ntro.ok("status")
    processes = {each["name"]: psutil.Process(each["pid"]) for each in status["processes"]}
    trees = {name: [process, *process.children(recursive=True)] for name, process in processes.items()}
    users = home.users
    assert users is not None
    pids = {slug: [each.pid for kind in ("tenant", "desk") for each in trees[f"{kind}-{slug}"]] for slug in TENANTS}
    hosts = [each.pid for name, tree in trees.items() if not name.startswith(("tenant-", "desk-")) for each in tree[:2]]
    on_the_host = of_the_host(home, hosts)
    by_root = attack(0, on_the_host)
    found = {
        "users": users.model_dump(),
        "identities": {name: [identity(each) for each in tree] for name, tree in trees.items()},
        "run logs": {
            slug: sorted({path.stat().st_uid for path in (home.tenant(slug).logs / "runs").glob("*.log")}) for slug in TENANTS
        },
        "on the other": attack(users.tenants["acme"], everything(home, "bee", pids["bee"])),
        "on the host": attack(users.tenants["acme"], on_the_host),
        "missed by root": [list(each) for each in on_the_host if list(each) not in by_root],
        "of the workspace": attack(users.workspace, everything(home, "bee", pids["bee"])),
        "on itself": attack(users.tenants["bee"], everything(home, "bee", pids["bee"])),
        "elsewhere": [elsewhere.read_text(), elsewhere.stat().st_uid, elsewhere.stat().st_mode & 0o777],
        "shared": next(check for check in shared if check["name"] == "os users"),
        "doctor": [check for check in ntro.ok("doctor")["checks"] if check["state"] != "ok" or check["name"] == "os users"],
        "back": ntro("up", "--detach", "--shared-user", "--json").err,
    }
    ntro.ok("down")
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

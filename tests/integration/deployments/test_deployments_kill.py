"""`kill -9` of whoever deploys, rolls back or withdraws, after every step: it happened or it did not, never half."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from installed import Site
from samples import TENANT, Sample
from standing import applied, assert_told, push, told

from ntro_dagster.host.deployments import Runbooks

# Carries out the act, and dies right after the n-th return of one of the functions on its way; before the n-th call where n < 0.
DYING = """
import importlib, os, signal, sys
from pathlib import Path

root, act, slug, tenant, wanted, module, name, number = sys.argv[1:]
owner = importlib.import_module(module)
*classes, name = name.split(".")
for part in classes:
    owner = getattr(owner, part)
original, calls = getattr(owner, name), []

def dying(*arguments, **more):
    calls.append(name)
    if -len(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*arguments, **more)
    if len(calls) == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, dying)
from ntro_dagster.host.deployments import Runbooks
from ntro_dagster.host.home import Home
from ntro_dagster.host.installation import Installation

runbooks = Runbooks(Installation(Home(Path(root))))
if act == "withdraw":
    runbooks.withdraw(slug, tenant)
else:
    getattr(runbooks, act)(slug, tenant, wanted or None)
"""

HOST = "ntro_dagster.host.deployments"
BEFORE, AFTER = "before", "after"
# What follows the database is done once before, when the act begins by settling what was left.
POINTS = {
    "settled": (HOST, "Runbooks._settle", 1, BEFORE),
    "unpacked": (HOST, "unpack", -1, BEFORE),
    "in the midst of unpacking": ("pathlib", "Path.write_bytes", 3, BEFORE),
    "unpacked and not renamed": ("pathlib", "Path.rename", -1, BEFORE),
    "all unpacked": (HOST, "unpack", 2, BEFORE),
    "verified": (HOST, "verify", 2, BEFORE),
    "asked": (HOST, "ask", 1, BEFORE),
    "begun": (HOST, "Deployments.start", 1, BEFORE),
    "locked": ("ntro_dagster.tenant.deployment", "hold_migrations", 1, BEFORE),
    "first migration": ("ntro_dagster.platforms.migrations", "_apply", 1, BEFORE),
    "second migration": ("ntro_dagster.platforms.migrations", "_apply", 2, BEFORE),
    "migrated": ("ntro_dagster.tenant.deployment", "migrate_within", 1, BEFORE),
    "attached": ("ntro_dagster.tenant.deployment", "attach", 1, BEFORE),
    "retired": ("ntro_dagster.tenant.deployment", "_retire", 1, BEFORE),
    "views drawn": ("ntro_dagster.tenant.deployment", "refresh_views", 1, BEFORE),
    "carried out": (HOST, "carry_out", 1, AFTER),
    "survey not kept": (HOST, "keep_survey", -1, AFTER),
    "survey kept": (HOST, "keep_survey", 1, AFTER),
    "list not written": (HOST, "write_private", -1, AFTER),
    "list written": (HOST, "write_private", 1, AFTER),
    "reload not asked for": ("dagster._grpc.client", "DagsterGrpcClient.reload_code", -2, AFTER),
    "reloaded": ("dagster._grpc.client", "DagsterGrpcClient.reload_code", 2, AFTER),
    "pages told": (HOST, "reload_location", 2, AFTER),
    "followed": (HOST, "Runbooks._follow", 2, AFTER),
    "ended": (HOST, "Deployments.end", 1, AFTER),
}
SHORT = {"carried out"}
MIGRATES = {"first migration", "second migration", "views drawn"}
UNPACKS = {"in the midst of unpacking", "unpacked and not renamed", "all unpacked", "verified"}
WITHDRAWS = [point for point in POINTS if point not in MIGRATES | UNPACKS | {"unpacked", "migrated", "attached"}]
ROLLS_BACK = [point for point in POINTS if point not in MIGRATES | UNPACKS]
SOME = ["carried out"]


def die(site: Site, act: str, slug: str, point: str, wanted: str = "") -> bool:
    """Whether the act has happened by then."""
    module, name, number, when = POINTS[point]
    command = [sys.executable, "-c", DYING, str(site.home.root), act, slug, TENANT, wanted, module, name, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return when == AFTER


def prepared(site: Site, slug: str, folder: Path) -> tuple[str, str, dict[str, str]]:
    """One version is active, a second one with two more migrations is pushed; and what else is active."""
    first = push(site, Sample(slug), folder)
    second = push(site, Sample(slug, code="second", columns=2), folder)
    runbooks = Runbooks(site.installation)
    runbooks.deploy(slug, TENANT, first.version)
    others = dict(told(site, site.client(TENANT)).database)
    others.pop(slug)
    return first.version, second.version, others


@pytest.fixture
def slug(request: pytest.FixtureRequest, site: Site) -> object:
    name = request.node.callspec.id.replace(" ", "-")
    slug = f"{request.node.originalname.removeprefix('test_killed_')[:1]}-{name}"[:30]
    yield slug
    runbooks = Runbooks(site.installation)
    runbooks.settle(TENANT)
    if slug in told(site, site.client(TENANT)).database:
        runbooks.withdraw(slug, TENANT)


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p in SHORT else pytest.mark.long) for p in POINTS])
def test_killed_deploying(site: Site, slug: str, point: str, tmp_path: Path) -> None:
    first, second, others = prepared(site, slug, tmp_path)
    client = site.client(TENANT)
    happened = die(site, "deploy", slug, point, second)
    Runbooks(site.installation).settle(TENANT)
    assert_told(site, client, others | {slug: second if happened else first})
    assert len(applied(client, slug)) == (3 if happened else 1)
    Runbooks(site.installation).deploy(slug, TENANT, second)
    assert_told(site, client, others | {slug: second})
    assert len(applied(client, slug)) == 3


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p in SOME else pytest.mark.long) for p in ROLLS_BACK])
def test_killed_rolling_back(site: Site, slug: str, point: str, tmp_path: Path) -> None:
    first, second, others = prepared(site, slug, tmp_path)
    runbooks, client = Runbooks(site.installation), site.client(TENANT)
    runbooks.deploy(slug, TENANT, second)
    happened = die(site, "rollback", slug, point)
    runbooks.settle(TENANT)
    assert_told(site, client, others | {slug: first if happened else second})
    runbooks.rollback(slug, TENANT, first)
    assert_told(site, client, others | {slug: first})


@pytest.mark.parametrize("point", [pytest.param(p, marks=() if p in SOME else pytest.mark.long) for p in WITHDRAWS])
def test_killed_withdrawing(site: Site, slug: str, point: str, tmp_path: Path) -> None:
    first, _, others = prepared(site, slug, tmp_path)
    happened = die(site, "withdraw", slug, point)
    Runbooks(site.installation).settle(TENANT)
    client = site.client(TENANT)
    assert_told(site, client, others if happened else others | {slug: first})
    assert applied(client, slug) == ["001_lines.sql"]

"""The walk of docs/runbooks.md, by its own commands: from `ntro runbook new` to a run in the Dagster UI."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from chromium import Page
from cli_home import NTRO, CommandLine, command_line

from ntro_dagster.host.home import Home

DOCS = Path(__file__).parents[2] / "docs" / "runbooks.md"
SLUG, TENANT, ENTITY = "rent-roll", "acme", "spv-1"
TABLE = "rent_roll__statement_lines"
POSTED_S = 90


def commands() -> list[str]:
    """Every line of every `sh` block of the section, in order."""
    section = DOCS.read_text().split("## The walk\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@dataclass
class Author:
    """A person with an empty folder, and the page open at what to type."""

    ntro: CommandLine
    left: list[str] = field(default_factory=commands)

    @property
    def folder(self) -> Path:
        return self.ntro.home.parent

    def type_up_to(self, words: str) -> str:
        """Each command that comes next, up to the one with these words; what that one printed."""
        assert any(words in line for line in self.left), f"the page has no (further) `{words}`"
        while True:
            line = self.left.pop(0)
            printed = self.type(line)
            if words in line:
                return printed

    def type(self, line: str) -> str:
        environment = self.ntro.environment | {
            "PATH": f"{NTRO.parent}{os.pathsep}{os.environ['PATH']}",
            "NTRO_SCRATCH": str(self.folder / "scratch"),
        }
        done = subprocess.run(
            ["bash", "-euc", line], cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def period(self) -> str:
        (month,) = (self.folder / "runbooks" / SLUG / "samples" / "supplier-statement").iterdir()
        return month.name


@pytest.fixture
def author(page: Page) -> Iterator[Author]:  # `page` first: it may skip
    with command_line() as ntro:
        ntro.home.parent.chmod(0o755)  # a folder that other users may enter: the throw-away database has one of its own
        yield Author(ntro)


@pytest.mark.long
def test_from_an_empty_folder_to_a_run_in_the_dagster_ui(author: Author, page: Page) -> None:
    author.type_up_to("ntro runbook new")
    assert "nothing to complain of" in author.type_up_to("ntro workflow check")
    assert "scenario 'happy' passed" in author.type_up_to("ntro workflow test")
    author.type_up_to("ntro workflow deploy")
    author.type_up_to("ntro ingest")
    assert "Northgate Water" in author.type_up_to("ntro rows")
    (address,) = re.findall(r"http://127\.0\.0\.1:\d+", author.type_up_to("ntro status"))
    assert Home(author.ntro.home).describe().webserver_port == int(address.rpartition(":")[2])

    page.open(f"{address}/locations/__repository__@{TENANT}/jobs/rent_roll")
    page.until_it_shows("rent_roll", "Latest run")
    page.picture("walk-job")
    (run,) = author.ntro.ok("run", "list", "--tenant", TENANT)
    page.open(f"{address}/runs/{run['run_id']}")
    text = page.until_it_shows("RUN_SUCCESS", "rent_roll", TABLE)
    page.picture("walk-run")
    assert "Northgate" not in text
    page.open(f"{address}/assets/{TENANT}/ledgers/{TABLE}?view=partitions&partition={ENTITY}%7C{author.period}")
    text = page.until_it_shows(f"{ENTITY}|{author.period}", "Materialized", "Metadata", "NEEDS_ATTENTION")
    page.picture("walk-rows")
    assert re.search(r"NEEDS_ATTENTION\s+1\b", text) and re.search(r"PENDING\s+2\b", text)

    author.type_up_to("ntro review approve")
    balance = next(line for line in author.left if "trial-balance" in line)
    deadline = time.monotonic() + POSTED_S
    while "1,656.90" not in author.type(balance):
        assert time.monotonic() < deadline, "nothing was posted"
        time.sleep(0.5)
    author.type_up_to("ntro workflow bind ")
    assert SLUG in author.type_up_to("ntro workflow bindings")
    author.type_up_to("ntro schedule list")
    page.open(f"{address}/automation")
    page.until_it_shows("rent_roll_intake", "rent_roll_at_", "08:00 AM")
    page.picture("walk-automation")
    assert author.left == [], "commands of the page that nobody has typed"


def test_what_the_page_shows_of_a_head_is_a_head() -> None:
    """The parameters that docs/runbooks.md shows would pass the check."""
    import yaml  # noqa: PLC0415 - one test's

    from ntro_dagster.bundles.parameters import parameter_problems  # noqa: PLC0415

    (shown,) = re.findall(r"^```yaml\n(parameters:.*?)^```$", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    head = yaml.safe_load(shown)
    assert len(head["parameters"]["properties"]) > 1 and parameter_problems(head["parameters"]) == []
    assert parameter_problems(json.loads(json.dumps(head["parameters"]).replace("boolean", "number")))

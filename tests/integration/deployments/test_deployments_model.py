"""Any sequence of edits, pushes, deployments and steps back leaves registry, database, list and Dagster in agreement."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test
from installed import Site
from samples import TENANT, Sample
from standing import applied, assert_told, push

from ntro_dagster.errors import NtroError
from ntro_dagster.host import deployments
from ntro_dagster.host.deployments import Runbooks

NUMBERS = itertools.count()
WORDS = st.sampled_from(["first", "second", "third"])
BREAKS = {
    "syntax": lambda sample: sample.with_file("assets.py", "def broken(:\n"),
    "drift": lambda sample: sample.with_file(
        "subledgers/lines.py", sample.content()["subledgers/lines.py"].replace("wrote: str", "noted: str")
    ),
    "sql": lambda sample: sample.with_file(f"migrations/{sample.columns + 2:03d}_broken.sql", "SELECT 1;\nSELEC 2;\n"),
    "history": lambda sample: sample.with_file(
        "migrations/001_lines.sql", sample.content()["migrations/001_lines.sql"] + "-- x\n"
    ),
}


@dataclass
class Known:
    """What is known of one runbook: the folder as it is, what was pushed, and what the tenant should run.

    Attributes:
        pushed: content by version, in the order of the first push.
        trail: versions on the way to the active one.
        migrated: names and texts of the migrations that ran.
    """

    folder: Sample
    pushed: dict[str, Sample] = field(default_factory=dict)
    trail: list[str] = field(default_factory=list)
    migrated: list[tuple[str, str]] = field(default_factory=list)

    def accepts(self, sample: Sample) -> bool:
        if "assets.py" in sample.files or "subledgers/lines.py" in sample.files:
            return False
        files = sample.migrations()
        if any(mine != theirs for mine, theirs in zip(files, self.migrated, strict=False)):
            return False
        return not any("broken" in name for name, _ in files[len(self.migrated) :])

    def become(self, version: str) -> None:
        files = self.pushed[version].migrations()
        self.migrated = max(self.migrated, files, key=len)


class Deploying(RuleBasedStateMachine):
    """One tenant for all sequences; each sequence has runbooks of its own, which are withdrawn in the end."""

    site: Site
    folder: Path

    @initialize()
    def begin(self) -> None:
        number = next(NUMBERS)
        self.runbooks = Runbooks(self.site.installation)
        self.client = self.site.client(TENANT)
        self.known = {slug: Known(Sample(slug)) for slug in (f"a-{number}", f"b-{number}")}
        for slug in self.known:
            self._push(slug)

    def _push(self, slug: str) -> None:
        known = self.known[slug]
        version = push(self.site, known.folder, self.folder)
        known.pushed.setdefault(version.version, known.folder)

    def _one(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.known)))

    @rule(data=st.data(), word=WORDS)
    def edit_code_and_push(self, data: st.DataObject, word: str) -> None:
        known = self.known[slug := self._one(data)]
        known.folder = replace(known.folder, code=word, files={})
        self._push(slug)

    @rule(data=st.data(), label=st.sampled_from(["1.0.0", "1.1.0"]))
    def edit_the_label_and_push(self, data: st.DataObject, label: str) -> None:
        known = self.known[slug := self._one(data)]
        known.folder = replace(known.folder, label=label, files={})
        self._push(slug)

    @rule(data=st.data())
    def add_a_column_and_push(self, data: st.DataObject) -> None:
        known = self.known[slug := self._one(data)]
        known.folder = replace(known.folder, columns=min(known.folder.columns + 1, 3), files={})
        self._push(slug)

    @rule(data=st.data(), how=st.sampled_from(sorted(BREAKS)))
    def break_it_and_push(self, data: st.DataObject, how: str) -> None:
        known = self.known[slug := self._one(data)]
        known.folder = BREAKS[how](replace(known.folder, files={}))
        self._push(slug)

    @rule(data=st.data())
    def deploy(self, data: st.DataObject) -> None:
        known = self.known[slug := self._one(data)]
        version = data.draw(st.sampled_from(list(known.pushed)))
        if known.trail[-1:] == [version]:
            assert self.runbooks.deploy(slug, TENANT, version) is None
        elif known.accepts(known.pushed[version]):
            self.runbooks.deploy(slug, TENANT, version)
            known.trail.append(version)
            known.become(version)
        else:
            with pytest.raises(NtroError):
                self.runbooks.deploy(slug, TENANT, version)

    @rule(data=st.data())
    def step_back(self, data: st.DataObject) -> None:
        known = self.known[slug := self._one(data)]
        if len(known.trail) > 1:
            self.runbooks.rollback(slug, TENANT)
            known.trail.pop()
        else:
            with pytest.raises(NtroError) as refused:
                self.runbooks.rollback(slug, TENANT)
            assert refused.value.code == ("NOTHING_TO_ROLL_BACK" if known.trail else "RUNBOOK_NOT_DEPLOYED")

    @precondition(lambda self: any(known.trail for known in self.known.values()))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        slug = data.draw(st.sampled_from([slug for slug, known in self.known.items() if known.trail]))
        self.runbooks.withdraw(slug, TENANT)
        self.known[slug].trail.clear()

    @invariant()
    def every_place_tells_the_same(self) -> None:
        if not hasattr(self, "known"):
            return
        assert_told(self.site, self.client, {slug: known.trail[-1] for slug, known in self.known.items() if known.trail})
        for slug, known in self.known.items():
            assert applied(self.client, slug) == [name for name, _ in known.migrated]

    def teardown(self) -> None:
        for slug, known in getattr(self, "known", {}).items():
            if known.trail:
                self.runbooks.withdraw(slug, TENANT)


def explore(site: Site, folder: Path, sequences: int, steps: int) -> None:
    machine = type("Machine", (Deploying,), {"site": site, "folder": folder})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=sequences,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=sequences < 10,
            phases=[Phase.generate],  # making a failing sequence shorter would take an hour
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(autouse=True)
def pushed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """`push` refuses broken edits by looking at the files; here it is asked of the deployment."""
    monkeypatch.setattr(deployments, "must_pass", lambda _root: None)


def test_a_few_sequences(site: Site, tmp_path: Path) -> None:
    explore(site, tmp_path, 2, 8)


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
def test_a_hundred_sequences(site: Site, tmp_path: Path) -> None:
    explore(site, tmp_path, 100, 6)

"""Bundles: the platform's own and the runbooks', from a checkout."""

from __future__ import annotations

import sys
import threading
from types import ModuleType

import pytest

from ntro_dagster.bundles import BundleNotFoundError, frontmatter, platform_bundle, runbook_bundle, runbook_bundles
from ntro_dagster.bundles.check import check
from ntro_dagster.bundles.problems import Severity
from ntro_dagster.subledger.registry import load_types, subledger_types


def test_platform_types_register_themselves() -> None:
    load_types(platform_bundle())
    assert {kind.name for kind in subledger_types() if kind.owner_runbook is None} >= {"expenses", "journal_proposals"}


def test_the_runbook_is_found_by_its_slug() -> None:
    bundle = runbook_bundle("expense-processor")
    assert frontmatter(bundle).slug == "expense-processor" == bundle.root.name


def test_an_unknown_runbook_is_named_with_the_known_ones() -> None:
    with pytest.raises(BundleNotFoundError) as caught:
        runbook_bundle("nothing")
    assert "'nothing'" in caught.value.explain()
    assert "expense-processor" in caught.value.explain()


@pytest.mark.parametrize("bundle", runbook_bundles(), ids=lambda bundle: bundle.slug)
def test_every_runbook_says_what_the_loader_asks(bundle) -> None:  # type: ignore[no-untyped-def]
    head = frontmatter(bundle)
    assert [str(each) for each in check(bundle.root) if each.severity is Severity.ERROR] == []
    assert len(head.schedule.split()) == 5
    assert head.timezone


def test_one_is_forgotten_while_another_thread_imports() -> None:
    bundle, done = platform_bundle(), threading.Event()
    names = [f"imported_meanwhile_{n}" for n in range(100)]

    def import_and_forget() -> None:
        while not done.is_set():
            for name in names:
                sys.modules[name] = ModuleType(name)
            for name in names:
                del sys.modules[name]

    often = sys.getswitchinterval()
    importer = threading.Thread(target=import_and_forget)
    importer.start()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            bundle.forget()
    finally:
        sys.setswitchinterval(often)
        done.set()
        importer.join()
    load_types(bundle)

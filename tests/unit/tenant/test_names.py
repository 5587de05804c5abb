"""How names of entities meet: spellings, slugs, schemas."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntro_dagster.tenant.entities import schema_name, slug_of, spelling
from ntro_dagster.workspace.registry import check_entity_slug


@pytest.mark.parametrize(
    "names",
    [
        ("Quay SPV Limited", "QUAY  SPV LIMITED", "Quay-SPV Limited.", " quay spv limited "),
        ("Solar One S.à r.l.", "Solar One S.a r.l."),
        ("Repairs & Upkeep", "repairs and upkeep"),
    ],
)
def test_spellings_of_one_name_meet(names: tuple[str, ...]) -> None:
    assert len({spelling(name) for name in names}) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("Quay SPV 1", "Quay SPV 11"), ("Фонд 1", "Дом 1"), ("Fund A+", "Fund A"), ("基金一", "基金二")]
)
def test_different_names_do_not_meet(one: str, other: str) -> None:
    assert spelling(one) != spelling(other)
    assert slug_of(one) != slug_of(other)


@given(st.text(min_size=1, max_size=200))
def test_every_name_gets_a_legal_slug(name: str) -> None:
    check_entity_slug(slug_of(name))


def test_long_names_that_begin_alike_get_slugs_of_their_own() -> None:
    assert slug_of("a" * 80 + " one") != slug_of("a" * 80 + " two")


def test_schema_reads_like_the_entity() -> None:
    assert schema_name("acme", "spv-1") == "acme_spv_1"


@pytest.mark.parametrize(("one", "other"), [("a-b", "a_b"), ("a.b", "a-b"), ("a.b", "a_b"), ("x" * 63, "x" * 62 + "y")])
def test_slugs_that_look_alike_get_schemas_of_their_own(one: str, other: str) -> None:
    assert schema_name("acme", one) != schema_name("acme", other)


@given(st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,62}", fullmatch=True))
def test_every_slug_gets_a_legal_schema(slug: str) -> None:
    assert re.fullmatch(r"[a-z0-9_]{1,63}", schema_name("acme", slug))

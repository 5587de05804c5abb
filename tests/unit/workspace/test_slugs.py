"""Slugs of tenants and entities."""

from __future__ import annotations

import pytest

from ntro_dagster.workspace.registry import SlugError, check_entity_slug, check_tenant_slug


@pytest.mark.parametrize("slug", ["a", "acme", "acme_2", "a" * 31])
def test_tenant_slugs(slug: str) -> None:
    check_tenant_slug(slug)


@pytest.mark.parametrize("slug", ["", "2a", "_a", "Acme", "a-b", "a" * 32, "acme\n", "a b", "é"])
def test_not_tenant_slugs(slug: str) -> None:
    with pytest.raises(SlugError):
        check_tenant_slug(slug)


@pytest.mark.parametrize("slug", ["0", "spv-1", "spv_1.a", "a" * 63])
def test_entity_slugs(slug: str) -> None:
    check_entity_slug(slug)


@pytest.mark.parametrize("slug", ["", "-a", ".a", "a|b", "A", "a" * 64, "a\n", "a,b"])
def test_not_entity_slugs(slug: str) -> None:
    with pytest.raises(SlugError) as error:
        check_entity_slug(slug)
    assert str(error.value) == "SLUG_INVALID: not a valid slug"

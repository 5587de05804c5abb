"""Which port a process of a home gets."""

from __future__ import annotations

import pytest

from ntro_dagster.host import ports
from ntro_dagster.host.ports import SEARCHED, NoPortFreeError, free_port


def test_the_first_that_is_free_and_not_spoken_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: port != 8600)
    assert free_port(8600, [8601]) == 8602


def test_a_taken_port_is_never_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: port >= 8600 + SEARCHED)
    with pytest.raises(NoPortFreeError) as refused:
        free_port(8600)
    assert refused.value.values == {"first": 8600, "last": 8799}

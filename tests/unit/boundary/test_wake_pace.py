"""How often a tenant is passed on: at once, then once a second however often it asks; nothing that was asked is forgotten."""

import math

from ntro_dagster.boundary.relay.waker import Pace


def test_the_first_is_passed_on_at_once_and_a_flood_is_one_more() -> None:
    pace = Pace(least_s=1.0)
    pace.ask("acme")
    assert pace.take(10.0) == {"acme"}
    taken = []
    for tick in range(1, 300):
        pace.ask("acme")
        taken += [10 + tick / 100 for _ in pace.take(10 + tick / 100)]
    assert taken == [11.0, 12.0]
    assert pace.next() == 13.0
    assert pace.take(13.0) == {"acme"}
    assert pace.take(99.0) == set()


def test_tenants_do_not_wait_for_each_other() -> None:
    pace = Pace(least_s=1.0)
    pace.ask("acme")
    pace.take(0.0)
    pace.ask("acme")
    pace.ask("beta")
    assert pace.next() == -math.inf
    assert pace.take(0.1) == {"beta"}
    assert pace.next() == 1.0


def test_nobody_is_waited_for_where_nobody_asks() -> None:
    pace = Pace()
    assert pace.next() == math.inf
    assert pace.take(0.0) == set()

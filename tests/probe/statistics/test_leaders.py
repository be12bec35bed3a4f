"""Who leads in each cluster: planted, and by chance among models that are equally good."""

import numpy as np

from bb.probe.statistics.bootstrap import resample
from bb.probe.statistics.leaders import leaders
from tests.helpers.tables import by_chance, table_of


def led(tables, columns, **options):
    return leaders({name: (table, resample(table)) for name, table in tables.items()}, columns, **options)


def planted(*shares, images=200):
    """Models that are right on the first images, of which each has its share."""
    return table_of([np.arange(images) < share * images for share in shares])


def test_the_best_is_called_so_where_all_others_differ_from_it():
    tables = {"clear": planted(0.9, 0.6, 0.55), "close": planted(0.9, 0.9, 0.5), "nearly": planted(0.5, 0.895, 0.9)}
    assert led(tables, [[0, 1, 2]]) == {
        0: {"clear": "best", "close": "tied"}, 1: {"close": "tied", "nearly": "tied"}, 2: {"nearly": "tied"},
    }  # fmt: skip


def test_columns_have_leaders_of_their_own():
    tables = {"c": planted(0.9, 0.6, 0.5, 0.4), "d": planted(0.5, 0.6, 0.9, 0.5)}
    assert led(tables, [[0, 1], [3, 2]]) == {0: {"c": "best"}, 1: {"d": "best"}, 2: {"c": "best", "d": "best"}}


def test_what_is_alone_or_has_no_interval_leads_nothing():
    few = table_of([[1] * 90, [0] * 90], images=["a", "b", "c"] * 30)  # units
    assert resample(few).reason and led({"few": few}, [[0, 1]]) == {}
    assert led({"c": planted(0.9, 0.1)}, [[0], [1]]) == {}


def test_more_comparisons_need_clearer_differences():
    alone = planted(0.80, 0.765)
    others = {f"c{k}": planted(0.8, 0.8) for k in range(20)}
    assert led({"c": alone}, [[0, 1]])[0]["c"] == "best"
    assert led({"c": alone, **others}, [[0, 1]])[0]["c"] == "tied"


def test_among_equals_hardly_ever_one_is_called_the_best(monkeypatch):
    """In two clusters of tables of three equally good models: at most 5% of all tables name a best one."""
    monkeypatch.setattr("bb.probe.statistics.leaders.PERMUTATIONS", 1000)
    named = 0
    for seed in range(40):
        found = led({name: by_chance(2 * seed + k, 3, tasks=1) for k, name in enumerate("ab")}, [[0, 1, 2]])
        named += any(lead == "best" for leads in found.values() for lead in leads.values())
    assert named <= 6  # where 5% were called so, of 99% of all draws of 40 tables

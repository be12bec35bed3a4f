"""The sentences above a board of `bb bench`, on planted boards."""

from dataclasses import replace

from bb.probe.bench.findings import findings
from tests.helpers.benches import planted


def test_a_leader_whose_interval_overlaps_no_other_is_told_apart():
    board = planted({"a": (1.0, 1.0, 1.5, [0.9, 0.9]), "b": (2.0, 1.6, 3.0, [0.8, 0.8]), "c": (3, 2, 3, [0.1, 0.1])})
    assert findings(board) == [
        "a has the best mean rank of 3 backbones over 2 families: 1.00 (95% interval 1.00 to 1.50), 1.00 ahead of b, "
        "the next. It can be told apart from every other.",
        "By score alone, a is first on both families.",
    ]


def test_overlapping_intervals_are_not_told_apart():
    rows = {"a": (1.5, 1, 2.0, [0.9, 0.7]), "b": (1.75, 1.5, 3, [0.8, 0.8]), "c": (3, 2.5, 3, [0.1, 0.1])}
    first, second = findings(planted(rows))
    assert first.endswith("(95% interval 1.00 to 2.00), 0.25 ahead of b, the next. It can't be told apart from b.")
    assert second == "By score alone, a is first on 1 of 2 families; b on 1."
    rows["c"] = (3, 2.0, 3, [0.1, 0.1])  # bounds that meet
    all_tied = (
        "a has the best mean rank over 2 families, 1.50 (95% interval 1.00 to 2.00), but can't be told apart from "
    )
    assert findings(planted(rows))[0] == all_tied + "any of the other 2."
    del rows["c"]
    assert findings(planted(rows))[0] == all_tied + "the other."
    many = {f"b{i}": (2.0 + i, 1, 9, [0.1, 0.1]) for i in range(5)}
    assert findings(planted({"a": (1.0, 1, 2, [0.9, 0.9]), **many, "z": (7, 6, 7, [0, 0])}))[0].endswith(
        "It can't be told apart from b0, b1, b2 and 2 more."
    )


def test_equal_mean_ranks_are_named_together():
    board = planted({"a": (1.5, 1, 2, [0.9, 0.7]), "b": (1.5 + 1e-12, 1, 2, [0.8, 0.8])})
    assert findings(board)[0] == "a and b have the same best mean rank over 2 families: 1.50."


def test_families_are_counted_by_the_mean_rank_of_their_columns():
    """a is first in one of the columns of ponds, b in two; birds are a's; of newts both are first."""
    of = {"a": (1.3, 1, 2, [0.9, 0.1, 0.1, 0.9, 0.5]), "b": (1.5, 1, 2, [0.8, 0.2, 0.2, 0.8, 0.5])}
    found = findings(planted(of, columns=("ponds", "ponds", "ponds", "birds", "newts")))
    assert found[1] == "By score alone, a is first on 2 of 3 families; b on 2, where equals count for each."
    assert len(findings(planted({"a": (1, 1, 1, [0.9]), "b": (2, 2, 2, [0.1])}, columns=("ponds",)))) == 1


def test_what_is_not_ranked_and_where_nothing_is_shown():
    a, b, c = (1.0, 1, 1, [0.9, 0.9]), (2.0, 2, 2, [0.8, 0.8]), (None, None, None, [0.7, None])
    assert findings(planted({"a": a, "b": b, "c": c}))[-1] == "c is not ranked, and has no score in some column."
    two = findings(planted({"a": a, "b": b, "c": c, "d": c}))[-1]
    assert two == "c and d are not ranked, and have no score in some column."
    alone = "a alone has a score in every column. There is no other backbone to compare it with."
    assert findings(planted({"a": a, "c": c}))[0] == alone
    assert findings(planted({"c": c})) == ["No backbone has a score in every column, so none is ranked."]
    assert findings(replace(planted({}), columns=(), reasons=())) == ["There are no scores."]
    unsure = findings(planted({"a": (1.5, 1, 2, [0.9, 0.9]), "b": (1.5, 1, 2, [0.8, 0.8])}, reasons=("few groups", "")))
    assert unsure[-1] == "In 1 of 2 columns no difference can be shown, so that every rank there counts as possible."

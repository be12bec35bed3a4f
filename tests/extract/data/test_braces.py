"""Many names in one word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb.extract.data.braces import expand
from bb.store.errors import UsageError


@pytest.mark.parametrize(
    "text, names",
    [
        ("a.tar", ["a.tar"]),
        ("s-{0000..0002}.tar", ["s-0000.tar", "s-0001.tar", "s-0002.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..10..5}", ["0", "5", "10"]),
        ("{train,val}/{0..1}.tar", ["train/0.tar", "train/1.tar", "val/0.tar", "val/1.tar"]),
        ("{a,b{0..1},}x", ["ax", "b0x", "b1x", "x"]),
        ("{one}.tar", ["{one}.tar"]),
        ("a}b", ["a}b"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("a\\b{1..2}", ["a\\b1", "a\\b2"]),
    ],
)
def test_braces_mean_what_they_mean_to_the_shell(text, names):
    assert expand(text) == names


@pytest.mark.parametrize(
    "text, said",
    [
        ("s-{0..999999999}.tar", "stands for over 1,000 names: fix the numbers"),
        ("{0..999}{0..999}{0..9}", "stands for over 1,000 names"),
        ("s-{0..9.tar", "opens a brace that nothing closes"),
        ("{0..9..0}", "counts in steps of 0"),
        ("{" * 5_000 + "a,b" + "}" * 5_000, "nests braces too deeply"),
    ],
)
def test_what_makes_no_sense_is_said(text, said, monkeypatch):
    monkeypatch.setattr("bb.extract.data.braces.MOST", 1_000)
    with pytest.raises(UsageError, match=said):
        expand(text)


@given(st.text("{},.019ab", max_size=30))
def test_any_text_is_expanded_or_refused(text):
    try:
        names = expand(text)
    except UsageError:
        return
    assert names and all(isinstance(name, str) for name in names)

"""Texts that differ in what can't be seen, and image IDs that are written otherwise than a collection writes them."""

import pytest

from bb.store.errors import BBError
from bb.store.text.image_ids import explain, match_ids
from bb.store.text.lookalike import difference, groups, notes

E_ACUTE, NFD = "\N{LATIN SMALL LETTER E WITH ACUTE}", "e\N{COMBINING ACUTE ACCENT}"


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("a", "a ", "they differ only in trailing or leading whitespace"),
        ("a", "\ta", "they differ only in trailing or leading whitespace"),
        (
            "a",
            "a\N{NO-BREAK SPACE}",
            "trailing or leading whitespace (its end where the other has U+00A0",
        ),
        (E_ACUTE, NFD, "they differ only in Unicode normalization"),
        ("red fox", "red  fox", "they differ only in whitespace"),
        ("a b", "a\N{NO-BREAK SPACE}b", "they differ only in whitespace (U+0020 SPACE where the other has U+00A0"),
        ("ab", "a\N{ZERO WIDTH SPACE}b", "they differ only in invisible characters"),
        ("Uhu", "uhu", "they differ only in upper and lower case"),
        ("Maße", "MASSE", "they differ only in upper and lower case"),
        ("1", "1.0", "they differ only in how a number is written"),
        ("7", "007", "they differ only in how a number is written"),
        ("cat", "c\N{CYRILLIC SMALL LETTER A}t", "other scripts that look the same (U+0061 LATIN SMALL LETTER A where"),
        ("a-b", "a\N{EN DASH}b", "other scripts that look the same"),
        ("A", "a ", "they differ in more than one thing that is hard to see"),
    ],
)
def test_what_tells_two_texts_apart_is_said(one, other, words):
    said = difference(one, other)
    assert said is not None and words in said
    assert groups([one, other, "something else"]) == [tuple(sorted((one, other)))]
    (note,) = notes("label", [one, other])
    assert words in note or difference(other, one) in note
    assert "look alike" in note and "count as 2 different ones" in note


def test_texts_that_plainly_differ_are_left_alone():
    assert groups(["a", "b", "10", "1.5", "15", "fox_1", "fox 1"]) == []
    assert difference("a", "a") is None and difference("a", "b") is None
    many = notes("label", [text for letter in "abcde" for text in (letter, letter.upper())])
    assert len(many) == 4 and many[-1] == "2 more groups of label values look alike"


@pytest.mark.parametrize(
    ("written", "known", "way"),
    [
        (NFD + ".jpg", E_ACUTE + ".jpg", "1 in another Unicode normalization"),
        ("./a.jpg", "a.jpg", "1 with backslashes, ./ or blanks around the name"),
        ("x\\y\\a.jpg", "x/y/a.jpg", "1 with backslashes, ./ or blanks around the name"),
        (" a.jpg\N{NO-BREAK SPACE}", "a.jpg", "1 with backslashes, ./ or blanks around the name"),
        ("a", "a.jpg", "1 with or without the extension"),
        ("a.JPG", "a", "1 with or without the extension"),
        ("a.JPG", "a.jpeg", "1 with or without the extension"),
        ("img/a.jpg", "a.jpg", "1 with or without the folder"),
        ("C:\\photos\\img\\a.jpg", "img/a.jpg", "1 with or without the folder"),
        ("/data/img/a.jpg", "img/a.jpg", "1 with or without the folder"),
        ("a.jpg", "img/a.jpg", "1 with or without the folder"),
        ("a", "img/a.jpg", "1 with or without the folder"),
    ],
)
def test_an_id_is_found_as_people_write_it(written, known, way):
    match = match_ids(["same.png", written], [known, "same.png", "other.png"])
    assert match.ids == ("same.png", known) and not match.unmatched and match.names == {written: known}
    assert match.note is not None and f"1 as written, {way}; " in match.note


@pytest.mark.parametrize(
    ("written", "known", "why"),
    [
        ("A.jpg", "a.jpg", "they differ only in upper and lower case"),
        ("train/a.jpg", "test/a.jpg", "the folders differ"),
        ("a.png", "a.jpg", "the extensions differ"),
        ("7", "007.jpg", "the numbers have other leading zeros, which spreadsheets drop"),
        ("x_001.jpg", "x-001.jpg", "the separators differ"),
        ("001.jpg", "IMG_001.jpg", "put 'IMG_' in front"),
        ("newt_001", "001", "leave out 'newt_' in front"),
        ("c\N{CYRILLIC SMALL LETTER A}t.jpg", "cat.jpg", "U+0430 CYRILLIC SMALL LETTER A where the other has U+0061"),
    ],
)
def test_an_id_that_is_not_matched_is_explained(written, known, why):
    assert match_ids([written], [known]).unmatched == (written,)
    said = explain([written], [known, "zzz.jpg"])
    assert said is not None and why in said and repr(known) in said
    assert explain(["nothing like it"], [known]) is None


def test_what_could_be_two_images_is_refused():
    with pytest.raises(BBError, match="image ID 'a.jpg' could be any of 2 images of the collection, such as 'x/a.jpg'"):
        match_ids(["a.jpg"], ["x/a.jpg", "y/a.jpg"])
    with pytest.raises(BBError, match="image IDs 'a.jpg' and './a.jpg' both stand for image 'a.jpg' of the collection"):
        match_ids(["a.jpg", "./a.jpg"], ["a.jpg"])
    assert match_ids(["y/a.jpg"], ["x/a.jpg"]).unmatched == ("y/a.jpg",)  # another folder's image, not this one

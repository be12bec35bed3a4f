"""The commands that messages suggest: a shell takes them as they are meant, and bb's parser takes their options."""

import re
import shlex

import pytest

from bb.store.text.command import command, extract_command, quoted
from tests.helpers.command_line import call, own_place
from tests.helpers.verbs import VERBS

__all__ = ["call", "own_place"]  # fixtures

ODD = "my store's [1] & $HOME.bb"


def test_words_are_quoted_where_a_shell_would_change_them():
    assert command(
        "extract", ckpt=["ViT-B-16/openai", "timm:x@/my w/f.pth"], data="p=DIR", patch=True, strict=False
    ) == ("bb extract --ckpt ViT-B-16/openai --ckpt 'timm:x@/my w/f.pth' --data p=DIR --patch")
    assert command("store trust", "abc", name=None) == "bb store trust abc"
    assert command("probe newt", n_train=10, store="-x.bb") == "bb probe newt --n-train 10 --store=-x.bb"
    assert command("report classify", "-v", store="s") == "bb report classify --store s -- -v"
    assert quoted("/Library/Application Support/bb/k.pem") == "'/Library/Application Support/bb/k.pem'"
    assert quoted("-k $x") == "'./-k $x'"


@pytest.mark.parametrize("word", [ODD, "a b", "it's", 'say "hi"', "$(rm -rf /)", "a;b", "*", "l[1].csv", "ä ö", "`x`"])
def test_every_word_comes_back_from_a_shell(word):
    assert shlex.split(command("data check", f"p={word}", store=word)) == [
        "bb",
        "data",
        "check",
        f"p={word}",
        "--store",
        word,
    ]


def suggested(text):
    """The words of each command in a message that stands at a line's end."""
    return [shlex.split(line) for line in re.findall(r"bb (?:extract|probe|report|store|data) .*?--.*$", text, re.M)]


def check(words):
    """It is a command that bb takes."""
    verb = max((name for name in VERBS if words[: len(name.split())] == name.split()), key=len)
    VERBS[verb].make_context(verb, words[len(verb.split()) :])


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("extract", "--ckpt", "timm:x@/my w/f.pth"), ["--ckpt", "timm:x@/my w/f.pth", "--data", "newt=DIR"]),
        (("report", "newt", "--store", ODD), ["--n-train", "10", "--store", ODD]),
        (("report", "retrieval", "--labels", "l [1].csv", "--store", ODD), ["--labels", "l [1].csv", "--store", ODD]),
    ],
)
def test_suggestions_for_stores_and_files_of_odd_names(call, arguments, words):
    from pathlib import Path

    from bb.store import Store

    Store.create(ODD)
    Path("l [1].csv").write_text("image_id,label\na,x\nb,x\n")
    status, _, err = call(*arguments)
    assert status in (1, 2)
    (found, *_) = suggested(err)
    assert found[-len(words) :] == words
    check(found)


def test_a_file_that_a_store_knows_by_its_digest_is_to_be_filled_in():
    words = "(PATH is the weights file whose SHA-256 begins with c2e3996ff138)"
    made = extract_command("timm:resnet18@c2e3996ff138", data="p=DIR")
    assert made == f"bb extract --ckpt timm:resnet18@PATH --data p=DIR {words}"
    assert extract_command("timm:a@c2e3996ff138#ema") == f"bb extract --ckpt 'timm:a@PATH#ema' {words}"
    for name in ("timm:hf-hub:a/b@c2e3996ff138", "ViT-B-16/openai", "CKPT"):
        assert extract_command(name) == f"bb extract --ckpt {name}"

"""Public calls parse their arguments by their own signatures."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import polars as pl
import pytest

import bb.probe
from bb.store import Store, UsageError
from bb.store.arguments import parse_arguments
from bb.store.reporter import Reporter, Silent


def call(  # what a public call has
    store: Store | str | Path = "",
    labels: pl.DataFrame | None = None,
    *,
    ckpt: str | Sequence[str] = (),
    shots: int | Literal["all"] | Sequence[int | Literal["all"]] = "all",
    seed: SupportsIndex = 0,
    rate: float = 0.1,
    rates: Sequence[float] = (0.1,),
    kinds: tuple[str, ...] = (),
    force: bool = False,
    data: Mapping[str, str] | None = None,
    groups: Callable[[str], str] | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    return locals()


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("ckpt", "a", "a"),
        ("ckpt", (name for name in "ab"), ("a", "b")),
        ("ckpt", np.array(["a", "b"]), ("a", "b")),
        ("ckpt", pl.Series(["a"]), ("a",)),
        ("ckpt", None, ()),
        ("ckpt", [], ()),
        ("shots", np.int64(3), 3),
        ("shots", (3, "all"), (3, "all")),
        ("shots", np.array([3, 4]), (3, 4)),
        ("shots", range(3, 5), (3, 4)),
        ("seed", np.uint8(3), 3),
        ("rate", 1, 1.0),
        ("rate", np.float32(0.5), 0.5),
        ("rates", 0.5, (0.5,)),
        ("rates", np.array([0.5, 1]), (0.5, 1.0)),
        ("kinds", "task", ("task",)),
        ("force", np.True_, True),
        ("store", Path("a"), Path("a")),
        ("data", {"a": "b"}, {"a": "b"}),
        ("groups", str.upper, str.upper),
        ("other", "as it is", "as it is"),
    ],
)
def test_what_a_call_takes(name, given, taken):
    found = parse_arguments(call)(**{name: given})
    found = {**found, **found["options"]}[name]
    assert found == taken and type(found) is type(taken)
    if isinstance(taken, tuple):
        assert [type(one) for one in found] == [type(one) for one in taken] or name == "ckpt"  # NumPy's text is text


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("store", None, "store=None is of type NoneType: give a Store, text or a path."),
        (
            "labels",
            {"a": [1]},
            r"labels={'a': \[1\]} is of type dict: give a polars DataFrame \(`pl.from_pandas",
        ),
        ("labels", pl.LazyFrame({"a": [1]}), "labels=.* is of type LazyFrame: give a polars DataFrame .*`lazy.collect"),
        ("ckpt", 3, "ckpt=3 is of type int: give text or a list of texts."),
        ("ckpt", ["a", 3], r"ckpt=\['a', 3\] is of type list: give text or a list of texts."),
        ("shots", 3.0, "shots=3.0 is of type float: give a whole number, 'all' or a list of whole numbers or 'all'."),
        ("shots", [], r"shots=\[\] is empty: give a whole number, 'all' or a list of .*, or leave it out."),
        ("seed", "0", "seed='0' is of type str: give a whole number."),
        ("seed", True, "seed=True is of type bool: give a whole number."),
        ("seed", np.array([1, 2]), "is of type ndarray: give a whole number."),
        ("rate", "0.1", "rate='0.1' is of type str: give a number."),
        ("rates", ["a"], r"rates=\['a'\] is of type list: give a list of numbers."),
        ("force", "yes", "force='yes' is of type str: give True or False."),
        ("data", "pics", "data='pics' is of type str: give a Mapping."),
        ("groups", "site", "groups='site' is of type str: give a Callable."),
        (
            "reporter",
            print,
            "reporter=<built-in function print> is of type builtin_.*: give a Reporter.",
        ),
        ("store", "a\n" * 99, None),
        ("seed", "long\n" * 99, r"seed='long\\nlong.{,60}… is of type str"),
    ],
)
def test_what_a_call_refuses(name, given, said):
    if said is None:
        assert parse_arguments(call)(**{name: given})[name] == given
        return
    with pytest.raises(UsageError, match=said):
        parse_arguments(call)(**{name: given})


def test_a_package_gives_its_functions_so_and_pickle_finds_them():
    with pytest.raises(UsageError, match="store=3 is of type int: give a Store, text or a path."):
        bb.probe.run(3)
    for name in ("run", "classify", "retrieve", "predict", "identify"):
        found = getattr(bb.probe, name)
        assert pickle.loads(pickle.dumps(found)) is found and found.__doc__
    assert parse_arguments(call)(reporter=(silent := Silent()))["reporter"] is silent

"""What `bb bench FILE.toml` asks for: a file of families and classifiers, parsed once into a frozen record."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bb.probe.classification.published.protocol import parse_protocol
from bb.probe.classification.spec import check_preprocessing
from bb.probe.classifiers.estimator import find
from bb.probe.tasks.few_shot import check_seed
from bb.probe.tasks.fold import Shots, parse_shots
from bb.probe.tasks.registry import TASKS
from bb.probe.tasks.splits import parse_split_by
from bb.store.errors import UsageError
from bb.store.files.limits import MAX_TOML_BYTES, parse_toml
from bb.store.files.regular_file import read_regular
from bb.store.storage.url import is_url

# Of a family: what `bb probe classify` takes under the same name, and what it has to be.
OF_FAMILY: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "data": (str, "the name of a collection"),
    "root": (str, "the folder of images and labels"),
    "labels": (str, "a file of labels"),
    "id": (str, "a column"),
    "label": ((str, list), "a column, or a list of them"),
    "split": (str, "a column"),
    "group": (str, "a column"),
    "task": (str, "a column"),
    "regression": (bool, "true or false"),
    "not_missing": (list, "a list of texts"),
    "split_by": ((str, list), "column, random, group or time"),
    "pool_group": (str, "mean, max, test-mean or test-max"),
    "poisonous": (str, "a file"),
    "folds": (int, "a whole number"),
    "missing": (str, "skip or error"),
    "max_missing": (float, "a share such as 0.01"),
    "drop_leaks": (bool, "true or false"),
}
EXAMPLE = """\
store = "features.bb"
out = "board.html"
protocols = ["dinov2-knn", "bigvision-fewshot"]  # as `bb probe classify --protocol` takes them
classifiers = ["simpleshot", "ridge"]            # each with these shots and seeds
shots = [1, 5, "all"]
seeds = [0, 1, 2]
# ckpts = ["ViT-B-16/openai"]  # every backbone that has all images of a family, if left out

[families.inat21]              # a task family: `bb data list` has them; all that the store has, without [families]
root = "data/inat21"

[families.ponds]               # any table of labels, with the options of `bb probe classify`
labels = "ponds.csv"
data = "ponds"
label = "species"
group = "pond"
"""


@dataclass(frozen=True)
class Family:
    """One family: its name, the collection, where its labels are, and other arguments of `classify`.

    root, labels  folder of a registered family, or a file of labels; None for the folders of the collection
    """

    name: str
    data: str
    root: Path | None = None
    labels: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BenchPlan:
    """What is asked for.

    families   None for all of the registry that the store has
    ckpts      empty for all that are complete
    protocols  published ones, each with its own shots and seeds
    classifiers  each with these shots and seeds; the families' usual ones where neither they nor protocols are named
    """

    families: tuple[Family, ...] | None = None
    ckpts: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    classifiers: tuple[str, ...] = ()
    preprocessing: str = "auto"
    shots: tuple[Shots, ...] = ("all",)
    seeds: tuple[int, ...] = (0,)
    store: str | None = None
    out: Path | None = None
    title: str = "board"

    def __post_init__(self) -> None:
        """Errors: UsageError for an unknown classifier or preprocessing, and for shots and seeds that can't be."""
        check_preprocessing(self.preprocessing)
        for name in self.classifiers:
            find(name)
        for name in self.protocols:
            parse_protocol(name)
        for seed in self.seeds:
            check_seed(seed)
        for name, values in (("shots", self.shots), ("seeds", self.seeds)):
            if not values:
                raise UsageError(f"{name} = [] asks for nothing: leave the line out, or name one.")
        if self.protocols and not self.classifiers:
            usual = {each.name: each.default for each in fields(self)}
            kept = ("preprocessing", "shots", "seeds")
            if unused := [name for name in kept if getattr(self, name) != usual[name]]:
                raise UsageError(
                    f"nothing would use {' and '.join(unused)}: only protocols are named, which have their own. "
                    "Leave it out, or name classifiers."
                )
        if self.families == ():
            raise UsageError("[families] is empty, which asks for nothing: leave it out, or write [families.NAME].")

    @property
    def files(self) -> tuple[Path, ...]:
        """What it reads, as far as it is named."""
        named = [path for family in self.families or () for path in (family.labels, family.options.get("poisonous"))]
        return tuple(Path(path) for path in named if path is not None)

    @classmethod
    def read(cls, path: Path) -> "BenchPlan":
        """A file's; paths in it are relative to its folder. Errors: UsageError, which names the line to change."""
        try:
            content = parse_toml(read_regular(path, MAX_TOML_BYTES))
        except OSError as error:
            raise UsageError(f"{path} can't be read ({error.strerror}): `bb bench --example` prints one.") from None
        except ValueError as error:
            raise UsageError(f"{path} is not valid TOML: {error}. `bb bench --example` prints one.") from None
        return cls.parse(content, path.parent, str(path), path.stem)

    @classmethod
    def parse(cls, content: Mapping[str, Any], base: Path, source: str, title: str = "board") -> "BenchPlan":
        """The same of what a file says. Errors: as `read`."""
        known = [each.name for each in fields(cls)]
        _check_keys(content, known, source)
        found: dict[str, Any] = {"title": content.get("title", title)}
        for name, kind in (("ckpts", str), ("protocols", str), ("classifiers", str), ("seeds", int)):
            if name in content:
                found[name] = _values(content[name], kind, f"{source}: {name}")
        if "shots" in content:
            found["shots"] = tuple(map(parse_shots, _values(content["shots"], (int, str), f"{source}: shots")))
        for name in ("store", "out", "title", "preprocessing"):
            if name in content and not isinstance(content[name], str):
                raise UsageError(f"{source} sets {name} = {content[name]!r}, which is not text.")
        if "store" in content:
            found["store"] = content["store"] if is_url(content["store"]) else str(base / content["store"])
        if "out" in content:
            found["out"] = base / content["out"]
        if "preprocessing" in content:
            found["preprocessing"] = content["preprocessing"]
        if "families" in content:
            families = content["families"]
            if not isinstance(families, dict) or not all(isinstance(each, dict) for each in families.values()):
                raise UsageError(f"{source} sets families = {families!r}: write [families.NAME] for each.")
            found["families"] = tuple(_family(name, given, base, source) for name, given in families.items())
        return cls(**found)


def _family(name: str, given: Mapping[str, Any], base: Path, source: str) -> Family:
    where = f"{source}: [families.{name}]"
    _check_keys(given, OF_FAMILY, where)
    for key, value in given.items():
        kind, words = OF_FAMILY[key]
        listed = value if isinstance(value, list) else []
        if (
            not isinstance(value, kind)
            or (kind is int and isinstance(value, bool))
            or not all(isinstance(each, str) for each in listed)
        ):
            raise UsageError(f"{where} sets {key} = {value!r}, which is not {words}.")
    if "root" in given and name not in TASKS.plugins:
        raise UsageError(
            f"{where} sets root, the folder of a task family, and {name!r} is none of these: name its table with "
            "labels, or leave root out for the folders of the collection."
        )
    if "root" in given and "labels" in given:
        raise UsageError(f"{where} sets root and labels: keep labels for a table of your own, root for a task family.")
    options = {key: value for key, value in given.items() if key not in ("data", "root", "labels")}
    if ways := given.get("split_by"):
        options["split_by"] = list(parse_split_by(ways if isinstance(ways, str) else ",".join(ways)))
    if "poisonous" in given:
        options["poisonous"] = str(base / given["poisonous"])
    root, labels = (base / given[key] if key in given else None for key in ("root", "labels"))
    return Family(name, given.get("data", name), root, labels, options)


def _values(value: Any, kind: type | tuple[type, ...], where: str) -> tuple[Any, ...]:
    values = tuple(value if isinstance(value, list) else [value])
    if bad := [each for each in values if not isinstance(each, kind) or isinstance(each, bool)]:
        words = "whole numbers" if kind is int else "texts in quotes" if kind is str else 'whole numbers or "all"'
        raise UsageError(f"{where} has {bad[0]!r}: give {words}.")
    return tuple(dict.fromkeys(values))


def _check_keys(given: Mapping[str, Any], known: Any, where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(known)}."
            raise UsageError(f"{where} sets {key!r}, which bb bench does not know: {hint}")

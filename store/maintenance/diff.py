"""Why two feature spaces are two: every field that differs, in words."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from bb.store.errors import UsageError
from bb.store.files.canonical_json import canonical_json
from bb.store.format.space import FeatureSpace, short
from bb.store.store import Store

HASHES = ("weights", "code")


@dataclass(frozen=True)
class SpaceDiff:
    """Two feature spaces and their fields: name → the word "same", or how they differ."""

    a: FeatureSpace
    b: FeatureSpace
    fields: dict[str, str]

    @property
    def differing(self) -> dict[str, str]:
        """The fields that are not the same."""
        return {name: change for name, change in self.fields.items() if change != "same"}


def find_pairs(store: Store, words: list[str]) -> list[tuple[FeatureSpace, FeatureSpace]]:
    """The pairs that two keys (or their beginnings), or the name of one backbone with several spaces, ask for."""
    if len(words) == 2:
        a, b = (store.space(word) for word in words)
        return [(a, b)]
    if len(words) != 1:
        raise UsageError(f"bb store why compares two feature spaces, {len(words)} are given: see `bb store ls`.")
    named = [space for space in store.spaces() if words[0] in store.backbones(space)]
    if len(named) < 2:
        raise UsageError(
            f"{words[0]} has {len(named)} feature spaces in {store.name}, two are needed to compare: see `bb store ls`."
        )
    return list(combinations(named, 2))


def compare(a: FeatureSpace, b: FeatureSpace) -> SpaceDiff:
    """Each field in words, in the order in which the space lists them."""
    fields = {}
    theirs = b.record()
    for name, ours in a.record().items():
        if canonical_json(ours) == canonical_json(theirs[name]):
            fields[name] = "same"
        elif name in HASHES:
            fields[name] = f"differs, {short(ours)} against {short(theirs[name])}"
        else:
            fields[name] = ", ".join(_differences(ours, theirs[name]))
    return SpaceDiff(a, b, fields)


def nearest(space: FeatureSpace, others: Iterable[FeatureSpace]) -> SpaceDiff | None:
    """The space of the same kind that differs in the fewest fields, those of the same weights before all others."""
    found = [compare(space, other) for other in others if other.kind == space.kind]
    return min(found, key=lambda c: (c.fields["weights"] != "same", len(c.differing), c.b.key), default=None)


def _differences(a: Any, b: Any, path: str = "") -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            inner = f"{path}.{key}" if path else key
            if key not in a or key not in b:
                yield f"{inner} only in the {'first' if key in a else 'second'} ({_words((a | b)[key])})"
            elif canonical_json(a[key]) != canonical_json(b[key]):
                yield from _differences(a[key], b[key], inner)
    else:
        yield f"{path} {_words(a)} against {_words(b)}".strip()


def _words(value: Any) -> str:
    """A value as a person writes it: 224 for [224, 224], 224 x 336 for other sizes."""
    if isinstance(value, list | tuple):
        if len(value) == 2 and value[0] == value[1]:
            return _words(value[0])
        return " x ".join(map(_words, value)) if len(value) == 2 else f"({', '.join(map(_words, value))})"
    return value if isinstance(value, str) else canonical_json(value).decode()

"""What every paragraph "Methods" says: the backbones, with what it was computed, and the entries for the references."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bb.probe.features.extraction import Cost, count_text
from bb.store.format.derived import is_head_name
from bb.store.format.space import short
from bb.store.local.runs import Run
from bb.store.plugins import OWN
from bb.store.versions import installed

LISTED = 6  # of digests, and of a classifier's parameters
BB = """@misc{bb,
  author = {{The bb authors}}, title = {bb: which frozen vision backbone, and how sure are we?}, version = {%s}}"""


def compared(backbones: Mapping[str, Cost], on: str) -> str:
    """Which backbones and heads, with their sizes, on what: such as "ponds with 80 test images"."""
    kinds: dict[str, list[str]] = {}
    for name, cost in backbones.items():
        kind = "projection head" if is_head_name(name) else "frozen vision backbone"
        kinds.setdefault(kind, []).append(f"{name}{size_of(cost)}")
    counted = [f"{len(some)} {kind}{'s' * (len(some) > 1)} ({', '.join(some)})" for kind, some in kinds.items()]
    heads = " A projection head was trained with labels, on stored features of a frozen backbone."
    return (
        f"We compared {joined(counted)} on {on}. Each image was embedded once, without augmentation, through the "
        f"evaluation transform of the backbone's own weights.{heads if 'projection head' in kinds else ''}"
    )


def size_of(cost: Cost) -> str:
    """What is on record of a backbone's size, in brackets."""
    sizes = [f"{count_text(cost.parameters)} parameters"] if cost.parameters else []
    sizes += [f"{cost.gflops:.3g} GFLOPs an image"] if cost.gflops else []
    sizes += [f"{cost.pixels[0]}x{cost.pixels[1]} pixels"] if cost.pixels else []
    return f" ({', '.join(sizes)})" if sizes else ""


def computed(
    versions: Iterable[str],
    collections: Iterable[tuple[str, str]],
    test_sets: Iterable[str],
    spaces: Iterable[tuple[str, str]],
    runs: Iterable[tuple[str, str]],
) -> str:
    """By which versions, on which collections, test sets and feature spaces, in which runs.

    versions     as `versions_of` gives them
    collections  names with digests;  spaces: backbones with keys;  runs: IDs with digests
    """
    by = "; and with ".join(dict.fromkeys(filter(None, versions))) or "its versions are not recorded"
    on = ", ".join(f"{name} {short(digest)}" for name, digest in dict.fromkeys(collections))
    tested = ", ".join(short(digest) for digest in dict.fromkeys(test_sets))
    by_space = ", ".join(f"{name} {short(key)}" for name, key in dict.fromkeys(spaces))
    digests = [f"{short(run_id)}/{short(digest)}" for run_id, digest in dict.fromkeys(runs)]
    some = ", ".join(digests[:LISTED]) + (f" and {len(digests) - LISTED} more" if len(digests) > LISTED else "")
    return (
        f"Computed with bb ({by}); {_noun('collection', on)} {on}, {_noun('test set', tested)} {tested}; "
        f"feature spaces {by_space}; {_noun('run', some)} {some}."
    )


def computed_by(runs: Sequence[Run], names: Sequence[str]) -> str:
    """`computed` of runs, each with what it is called."""
    records = [run.record for run in runs]
    return computed(
        (versions_of(record.get("provenance")) for record in records),
        ((record["collection_name"], record["collection"]) for record in records),
        (record["test_set"] for record in records),
        ((name, record["space"]) for name, record in zip(names, records, strict=True)),
        ((run.run_id, run.digest) for run in runs),
    )


def versions_of(provenance: Any) -> str:
    """The versions that a run, or a segment, records, in words. Empty where there are none."""
    recorded = provenance.get("versions") if isinstance(provenance, dict) else None
    return ", ".join(f"{k} {version}" for k, version in sorted(recorded.items())) if isinstance(recorded, dict) else ""


def bibliography(entries: Iterable[str]) -> str:
    """BibTeX of what bb knows, and of bb."""
    return "\n\n".join([*dict.fromkeys(filter(None, entries)), BB % (installed(OWN) or "from a checkout")])


def of_source(name: str, source: str) -> str:
    """BibTeX of a published protocol, whose source is a repository with files and a commit."""
    escaped = source.replace("_", r"\_")
    return f"@misc{{{name},\n  title = {{The protocol {name}}}, howpublished = {{{escaped}}}}}"


def joined(words: Sequence[object]) -> str:
    """As "a, b and c"."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def _noun(noun: str, listed: str) -> str:
    return f"{noun}s" if "," in listed else noun

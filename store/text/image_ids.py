"""Match the image IDs that someone's table writes to those of a collection, and explain those that match none.

People's tables come from other machines: macOS writes names in NFD, Windows with backslashes, spreadsheets without
extensions, scripts with the folder in front. An ID is taken for a collection's in the first of these ways that fits:
equal; equal in NFC; equal but for blanks around it, backslashes and `./`; with or without the file's extension; as
the end of the other's path. An ID that fits two images is refused, and so are two IDs that fit one: a guess could be a
wrong label.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bb.store.errors import BBError
from bb.store.text.lookalike import difference, shown

_SUFFIX = re.compile(
    r"\.(jpe?g|jpe|jfif|png|webp|tiff?|bmp|gif|heic|heif|avif|jxl|jp2|ppm|pgm|cr2|cr3|nef|arw|dng|orf|rw2|raf)$", re.I
)
_SAME_SUFFIX = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tiff": "tif", "heif": "heic"}
# White space, and what Unicode calls format characters: they can't be seen.
AROUND = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\xad\u1680\u180e"
    + "".join(map(chr, [*range(0x2000, 0x2010), *range(0x2028, 0x2030), *range(0x205F, 0x2070)]))
    + "\u2800\u3000\u3164\ufeff"
)
NFC = "in another Unicode normalization"
PATH = "with backslashes, ./ or blanks around the name"
SUFFIX = "with or without the extension"
FOLDER = "with or without the folder"


@dataclass(frozen=True)
class IdMatch:
    """What some image IDs are called in a collection.

    ids        in the order asked: the collection's ID, or the ID as written where none fits
    names      the collection's ID of each that is written otherwise
    ways       how many were matched in each way other than being equal
    unmatched  those that fit no image, as written
    example    of the loosest way that was needed: the ID as written and the collection's
    """

    ids: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)
    ways: dict[str, int] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    example: tuple[str, str] | None = None

    @property
    def note(self) -> str | None:
        """How the IDs were matched, for a person; None where all are equal."""
        if self.example is None:
            return None
        equal = len(self.ids) - sum(self.ways.values()) - len(self.unmatched)
        counted = [f"{equal} as written", *(f"{n} {way}" for way, n in self.ways.items())]
        written, name = map(shown, self.example)
        return f"image IDs matched to the collection: {', '.join(counted)}; {written} is {name} there"


def match_ids(written: Sequence[str], known: Iterable[str], of: str = "the collection") -> IdMatch:
    """Finds each distinct ID of a table among those of a collection, or of what `of` names.

    Errors: BBError where an ID fits several images, or two IDs fit one.
    """
    there = known if isinstance(known, set | frozenset | dict) else frozenset(known)
    strange = [image_id for image_id in written if image_id not in there]
    if not strange:
        return IdMatch(tuple(written))
    index = _Index(there)
    found: dict[str, tuple[str, str]] = {}
    for image_id in strange:
        candidates, way = index.find(image_id)
        if len(candidates) > 1:
            raise BBError(
                f"image ID {shown(image_id)} could be any of {len(candidates)} images of {of}, such as "
                f"{shown(candidates[0])} and {shown(candidates[1])}: write the IDs as {of} has them."
            )
        if candidates:
            found[image_id] = candidates[0], way
    ids = tuple(found[image_id][0] if image_id in found else image_id for image_id in written)
    _refuse_twice(written, ids, of)
    counts = Counter(way for _, way in found.values())
    ways = {way: counts[way] for way in (NFC, PATH, SUFFIX, FOLDER) if counts[way]}
    example = next(((i, k) for i, (k, way) in found.items() if way == list(ways)[-1]), None)
    names = {image_id: name for image_id, (name, _) in found.items()}
    return IdMatch(ids, names, ways, tuple(i for i in strange if i not in found), example)


def _refuse_twice(written: Sequence[str], ids: Sequence[str], of: str) -> None:
    first: dict[str, str] = {}
    for one, image_id in zip(written, ids, strict=True):
        other = first.setdefault(image_id, one)
        if other != one:
            raise BBError(
                f"image IDs {shown(other)} and {shown(one)} both stand for image {shown(image_id)} of {of}: "
                "keep one of them."
            )


class _Index:
    """A collection's IDs by the forms in which a table may write them."""

    def __init__(self, known: Iterable[str]) -> None:
        self.nfc: dict[str, list[str]] = defaultdict(list)
        self.path: dict[str, list[str]] = defaultdict(list)
        self.stem: dict[str, list[str]] = defaultdict(list)
        for image_id in sorted(known):
            path = _path(image_id)
            self.nfc[unicodedata.normalize("NFC", image_id)].append(image_id)
            self.path[path].append(image_id)
            self.stem[_split(path)[1]].append(image_id)

    def find(self, image_id: str) -> tuple[list[str], str]:
        """The images that it fits in the strictest way in which it fits any, and that way."""
        path = _path(image_id)
        if found := self.nfc.get(unicodedata.normalize("NFC", image_id)):
            return found, NFC
        if found := self.path.get(path):
            return found, PATH
        folder, stem, suffix = _split(path)
        same_stem = [(other, *_split(_path(other))) for other in self.stem.get(stem, ())]
        near = [(other, base) for other, base, _, end in same_stem if end == suffix or not (end and suffix)]
        if found := [other for other, base in near if base == folder]:
            return found, SUFFIX
        return [other for other, base in near if _is_end(folder, base) or _is_end(base, folder)], FOLDER


def _path(image_id: str) -> str:
    """NFC, with plain slashes, without blanks around it and without steps that lead nowhere."""
    text = unicodedata.normalize("NFC", image_id).strip(AROUND).replace("\\", "/")
    steps = [step for step in text.split("/") if step not in ("", ".")]
    return ("/" if text.startswith("/") else "") + "/".join(steps)


def _split(path: str) -> tuple[str, str, str]:
    """Folder, name without an image's extension, and that extension in one spelling."""
    folder, _, name = path.rpartition("/")
    found = _SUFFIX.search(name)
    if not found or not found.start():
        return folder, name, ""
    suffix = found[1].lower()
    return folder, name[: found.start()], _SAME_SUFFIX.get(suffix, suffix)


def _is_end(short: str, long: str) -> bool:
    return not short or long.endswith("/" + short)


def explain(unmatched: Sequence[str], known: Iterable[str]) -> str | None:
    """In what IDs that match none differ from those of a collection, one of each shown; None where nothing is alike."""
    ids = sorted(known)
    for image_id in unmatched[:20]:
        for why, other in _resembling(image_id, ids):
            return f"Asked for {shown(image_id)}, the collection has {shown(other)}: {why}."
    return None


def _resembling(image_id: str, known: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Guesses at what an ID should have been, the likeliest first."""
    path, unpadded, bare = _path(image_id), _unpadded(image_id), _bare(image_id)
    forms: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("", lambda text: difference(image_id, text)),
        ("the extensions differ; write the collection's", lambda text: _split(text)[:2] == _split(path)[:2]),
        ("the folders differ; write the collection's", lambda text: _split(text)[1:] == _split(path)[1:]),
        ("the numbers have other leading zeros, which spreadsheets drop", lambda text: _unpadded(text) == unpadded),
        ("the separators differ; write the collection's", lambda text: _bare(text) == bare),
    )
    for why, fits in forms:
        for other in known:
            if fitting := fits(other):
                yield (why or f"{fitting}; write the collection's"), other
                break
    for other in known:
        stem, theirs = _split(path)[1], _split(_path(other))[1]
        if min(len(stem), len(theirs)) < 2 or stem == theirs:
            continue
        if theirs.endswith(stem):
            yield f"put {theirs[: -len(stem)]!r} in front", other
        elif stem.endswith(theirs):
            yield f"leave out {stem[: -len(theirs)]!r} in front", other


def _unpadded(image_id: str) -> str:
    """The file's name without leading zeros of numbers and without the extension."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", _split(_path(image_id))[1])


def _bare(image_id: str) -> str:
    """Letters and digits alone, without the extension."""
    folder, stem, _ = _split(_path(image_id))
    return re.sub(r"[\W_]+", "", f"{folder}{stem}").casefold()

"""Where a collection's images are, as a person writes it, parsed once: a folder, or shards."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

from bb.extract.data.braces import expand
from bb.extract.data.byte_range import ByteRangeFile, Remote, local, place_at
from bb.store.errors import UsageError
from bb.store.format.collection import some
from bb.store.storage.base import Ranged
from bb.store.storage.url import FORMS, check_slip, is_url

TAR, PARQUET = ".tar", ".parquet"
# Unpacking program by what a name ends with.
PACKED = {
    **dict.fromkeys((".tar.gz", ".tgz"), "gunzip"),
    **dict.fromkeys((".tar.bz2", ".tbz2"), "bunzip2"),
    **dict.fromkeys((".tar.xz", ".txz"), "unxz"),
    **dict.fromkeys((".tar.zst", ".tzst"), "unzstd"),
}
_WILD = re.compile(r"[*?[]")
_PATTERN = re.compile(r"[*?[{]")


@dataclass(frozen=True)
class Shards:
    """Tar or Parquet files that hold images.

    text  as written: paths or URLs with {0000..0099}, {a,b}, *, ? and [ab] in them, several with :: between
    base  the folder that relative paths start from
    """

    text: str
    base: Path = Path()

    def __str__(self) -> str:
        return self.text

    def resolve(self) -> "Shards":
        """The same shards, from any working folder."""
        return Shards("::".join(text for part in self.text.split("::") for text in self._from_anywhere(part)))

    def _from_anywhere(self, part: str) -> Iterator[str]:
        if is_url(part) or part.startswith(("pipe:", "file://")):
            yield part
        elif _PATTERN.search(part) and _PATTERN.search(os.path.abspath(_start(self.base, part)[0])):
            # In one text the folder's name would be a pattern, too: the files are named instead.
            yield from (os.path.abspath(name) for name in Shards(part, self.base)._names())
        else:
            yield os.path.abspath(self.base / Path(part).expanduser())

    def _texts(self) -> Iterator[str]:
        """What is between ::, without braces unless a file or a folder has them in its name."""
        for text in self.text.split("::"):
            if os.path.exists(self.base / Path(text).expanduser()):
                yield text
            else:
                written, rest = _split(self.base, text)
                yield from (written + each for each in expand(rest))

    def _names(self) -> list[str]:
        return [name for text in self._texts() for name in _named(text, self.base)]

    def blobs(self) -> list[ByteRangeFile]:
        """The files, in the order written, those of a wildcard sorted. Asks whether they are there.

        Raises UsageError for what is not a shard, is not there or named twice; BBError where a place can't be asked.
        """
        names = self._names()
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise UsageError(f"{self} names {some(twice)} more than once: name each shard once.")
        for name in names:
            _check(name)
        found = dict(_found(names))
        absent = [name for name in names if name not in found]
        if absent:
            raise UsageError(f"{len(absent)} of {len(names)} shards are not there: {some(absent)}.")
        return [found[name] for name in names]


Root = Path | Shards


def parse_root(text: str, base: Path = Path()) -> Root:
    """A folder's path, or the shards that a text names: by a URL, or by what a name ends with."""
    for part in text.split("::"):
        check_slip(part)
    folder = base / Path(text).expanduser()
    ends = (TAR, PARQUET, *PACKED)
    shards = any(is_url(part) or part.lower().endswith(ends) or part.startswith("pipe:") for part in text.split("::"))
    return Shards(text, base) if shards and not folder.is_dir() else folder


def _named(text: str, base: Path) -> Iterator[str]:
    """The paths and URLs that a text without braces stands for."""
    if text.startswith("pipe:"):
        raise UsageError(f"{text} runs a command, which bb does not: give the shard's path or URL itself.")
    if not is_url(text):
        path = unquote(text.removeprefix("file://")) if text.startswith("file://") else text
        folder, rest = _start(base, path)
        name = os.path.normpath(os.path.join(folder, rest))
        if not _WILD.search(rest) or os.path.exists(name):
            yield name
        elif not (found := sorted(glob.glob(os.path.normpath(rest), root_dir=folder, recursive=True))):
            raise UsageError(f"no file is called {text}: fix the name.")
        else:
            yield from (os.path.normpath(os.path.join(folder, each)) for each in found)
        return
    scheme, _, rest = text.partition("://")
    if scheme.lower() not in FORMS:
        raise UsageError(f"no shards can be read at {scheme}://: give paths, or URLs with {', '.join(FORMS)}.")
    web = scheme.lower() in ("http", "https")
    if not _WILD.search(rest) or (web and not re.search(r"[*[]", rest)):
        if "?" in rest or "#" in rest:
            raise UsageError(
                f"{text.partition('?')[0]}: a shard's URL has neither ? nor #, since URLs are shown and logged and "
                f"signed ones expire."
            )
        yield text
        return
    if web:
        raise UsageError(
            f"{text}: a web server can't be asked which files it has. Name them, for example with {{0000..0099}}."
        )
    steps = rest.split("/")
    fixed = next(i for i, step in enumerate(steps) if _WILD.search(step))
    folder = f"{scheme}://{'/'.join(steps[:fixed])}"
    pattern = steps[fixed:]
    listed = [item.path.split("/") for item in place_at(folder).list()]
    as_written = max((_as_written(path, pattern) for path in listed), default=0)
    meant = (path for path in listed if path[:as_written] == pattern[:as_written])
    found = sorted("/".join(path) for path in meant if _fits(path[as_written:], pattern[as_written:]))
    if not found:
        raise UsageError(f"no file is called {text}: fix the name.")
    yield from (f"{folder}/{path}" for path in found)


def _start(base: Path, path: str) -> tuple[str, str]:
    """The folder that a path as written starts from, which holds no pattern whatever its name, and the rest."""
    written, rest = _split(base, path)
    return os.path.normpath(base / Path(written).expanduser()), rest


def _split(base: Path, path: str) -> tuple[str, str]:
    """A path as written, behind the folders that are there: a[1]/*.tar is of the folder a[1], if there is one."""
    end = 0
    while (slash := path.find("/", end) + 1) and os.path.isdir(base / Path(path[:slash]).expanduser()):
        end = slash
    return path[:end], path[end:]


def _as_written(path: Sequence[str], pattern: Sequence[str]) -> int:
    """How many steps of a path, from the first, are the pattern's own letters."""
    same = takewhile(lambda steps: steps[0] == steps[1], zip(path, pattern, strict=False))
    return sum(1 for _ in same)


def _fits(steps: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path is meant by a shell's wildcards; ** is any number of folders."""
    if not pattern:
        return not steps
    if pattern[0] == "**":
        return any(_fits(steps[i:], pattern[1:]) for i in range(len(steps) + 1))
    return bool(steps) and fnmatchcase(steps[0], pattern[0]) and _fits(steps[1:], pattern[1:])


def _check(name: str) -> None:
    for ending, program in PACKED.items():
        if name.lower().endswith(ending):
            raise UsageError(f"{name} is {packed_words(program)}")
    if not name.lower().endswith((TAR, PARQUET)):
        raise UsageError(f"{name} is not a shard: its name ends with neither {TAR} nor {PARQUET}.")


def packed_words(program: str) -> str:
    """Why a compressed archive is of no use, and what to do."""
    return (
        f"compressed as a whole, so that no image in it can be read without all before it. Unpack it with {program}; "
        f"images hardly take more room so."
    )


def _found(names: Sequence[str]) -> Iterator[tuple[str, ByteRangeFile]]:
    """Those that are there. A place is asked for all of its files at once."""
    folders: dict[str, list[str]] = {}
    for name in names:
        if is_url(name):
            folder, _, file = name.rpartition("/")
            folders.setdefault(folder, []).append(file)
            continue
        try:
            yield name, local(Path(name))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(
                f"can't read the shard {name!r}: {error.strerror}. Check the path and its permissions."
            ) from None
    for folder, files in folders.items():
        place = place_at(folder)
        if isinstance(place, Ranged):
            yield from ((f"{folder}/{file}", Remote(folder, file, look)) for file, look in place.look(files).items())

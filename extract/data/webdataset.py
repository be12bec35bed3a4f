"""WebDataset's shards: tar archives of which every image file is an image, whatever lies beside it.

https://github.com/webdataset/webdataset#the-webdataset-format
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from extract.collection import SUFFIXES
from extract.shard import MOST_BYTES, Found, usable_name
from extract.source import Source
from store.blob import Blob
from store.tar import DamagedTar, Stream, TarMember, tar_members


@dataclass(frozen=True, slots=True)
class Member:
    """Bytes `offset` to `offset + size` of an archive."""

    blob: Blob
    offset: int
    size: int

    def read(self) -> bytes:
        return self.blob.read(self.offset, self.size)

    def words(self) -> str:
        return f"{self.blob.url} at byte {self.offset:,}"


@dataclass(frozen=True, slots=True)
class TarShard:
    """See `extract.shard.Shard`. Hidden files are passed over, as they are in folders."""

    blob: Blob

    def find(self) -> Iterator[Found]:
        stream = Stream(self.blob.stream())
        for member in tar_members(stream, self.blob.size):
            path = PurePosixPath(member.name)
            if path.suffix.lower() not in SUFFIXES or any(step.startswith(".") and step != ".." for step in path.parts):
                continue
            fault = _fault(member)
            if fault:
                yield Found.unusable(member.name, member.offset, member.size, member.size, fault)
                continue
            data = stream.read(member.size)
            if len(data) < member.size:
                raise DamagedTar(f"is shorter than the {self.blob.size:,} bytes that it had")
            yield Found.of_bytes(usable_name(member.name), member.offset, member.size, data)

    def source(self, found: Found) -> Source:
        return Member(self.blob, found.at, found.of)

    def own_name(self, found: Found) -> str:
        return found.name


def _fault(member: TarMember) -> str:
    if member.kind == "link":
        return "is a link, which holds no image: write the shard with the files themselves (tar --dereference)"
    if member.kind != "file":
        return "is no plain file: write the shard anew with plain files alone"
    if not usable_name(member.name):
        return "has a path that leads out of the shard: write the shard anew with relative paths, without .."
    if member.size > MOST_BYTES:
        return f"has {member.size:,} bytes, over the limit of {MOST_BYTES:,}"
    return ""
